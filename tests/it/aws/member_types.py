"""Gives each member of every resource values of all types, at creation and in a patch, and decodes strictly.

A value that is taken has AWS' type of the member; one that is refused is 400 and, at creation, names the member. The
responses of all get and list calls are compared with botocore's model, which names the type and the words of every
member: AWS' clients in other languages decode nothing else.
Arguments: the admin API's URL and the checks' URL.
"""

import json
import os
import sys
import urllib.error
import urllib.request

import boto3
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials
from botocore.exceptions import ClientError

admin, _ = sys.argv[1:]
aws = boto3.client(
    "apigateway", endpoint_url=admin, region_name="eu-central-1",
    config=Config(retries={"max_attempts": 0}, proxies={}))
model = aws.meta.service_model
METHODS = {operation: method for method, operation in aws.meta.method_to_api_mapping.items()}
signer = SigV4Auth(
    Credentials(os.environ["AWS_ACCESS_KEY_ID"], os.environ["AWS_SECRET_ACCESS_KEY"]), "apigateway", "eu-central-1")
plain = urllib.request.build_opener(urllib.request.ProxyHandler({}))
body = {}
aws.meta.events.register("after-call.apigateway", lambda http_response, **_: body.update(last=http_response.content))


def send(method, path, members):
    """The status and the body of a request that boto3 would not make."""
    request = AWSRequest(method, admin + path, data=json.dumps(members), headers={"content-type": "application/json"})
    signer.add_auth(request)
    request = urllib.request.Request(
        request.url, request.data.encode(), dict(request.headers.items()), method=method)
    try:
        with plain.open(request) as response:
            return response.status, json.loads(response.read() or "{}")
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def misfit(shape, value, at):
    """The first place where a value is not as botocore's model has it; members that it does not know are Tollgate's."""
    kinds = {"string": str, "boolean": bool, "list": list, "map": dict, "structure": dict}
    kind = shape.type_name
    if kind in ("integer", "long"):
        fits = isinstance(value, int) and not isinstance(value, bool)
    elif kind in ("double", "float", "timestamp"):
        fits = isinstance(value, (int, float)) and not isinstance(value, bool)
    else:
        fits = isinstance(value, kinds[kind]) and value in (getattr(shape, "enum", None) or [value])
    if not fits:
        return f"{at} is {value!r}, no {kind} {getattr(shape, 'enum', '')}"
    if kind == "list":
        below = [(shape.member, item, f"{at}[]") for item in value]
    elif kind == "map":
        below = [(shape.value, item, f"{at}.{name}") for name, item in value.items()]
    elif kind == "structure":
        wire = {member.serialization.get("name", name): member for name, member in shape.members.items()}
        below = [(wire[name], item, f"{at}.{name}") for name, item in value.items() if name in wire]
    else:
        below = []
    return next(filter(None, (misfit(*each) for each in below)), None)


def decoded(operation, **arguments):
    """The response of a call, as it was sent; every member in it has its type."""
    getattr(aws, METHODS[operation])(**arguments)
    raw = json.loads(body["last"])
    fault = misfit(model.operation_model(operation).output_shape, raw, operation)
    assert fault is None, fault
    return raw


# One of each resource.
api = aws.create_rest_api(name="types")
API, ROOT = api["id"], api["rootResourceId"]
PETS = aws.create_resource(restApiId=API, parentId=ROOT, pathPart="pets")["id"]
method = {"restApiId": API, "resourceId": PETS, "httpMethod": "GET"}
aws.put_method(**method, authorizationType="NONE")
aws.put_method_response(**method, statusCode="200")
aws.put_integration(**method, type="HTTP", integrationHttpMethod="GET", uri="http://example.com")
aws.put_integration_response(**method, statusCode="200")
DEP = aws.create_deployment(restApiId=API)["id"]
aws.create_stage(restApiId=API, stageName="prod", deploymentId=DEP)
PLAN = aws.create_usage_plan(name="p", apiStages=[{"apiId": API, "stage": "prod"}])["id"]
KEY = aws.create_api_key(name="k", enabled=True)["id"]
aws.create_usage_plan_key(usagePlanId=PLAN, keyId=KEY, keyType="API_KEY")

RESOURCES = {
    "Account": {}, "RestApi": {"restApiId": API}, "Resource": {"restApiId": API, "resourceId": PETS}, "Method": method,
    "MethodResponse": {**method, "statusCode": "200"}, "Integration": method,
    "IntegrationResponse": {**method, "statusCode": "200"}, "Deployment": {"restApiId": API, "deploymentId": DEP},
    "Stage": {"restApiId": API, "stageName": "prod"}, "UsagePlan": {"usagePlanId": PLAN}, "ApiKey": {"apiKey": KEY},
}
LISTS = {
    "RestApis": {}, "Resources": {"restApiId": API, "embed": ["methods"]}, "Deployments": {"restApiId": API},
    "Stages": {"restApiId": API}, "UsagePlans": {}, "ApiKeys": {}, "UsagePlanKeys": {"usagePlanId": PLAN},
}


def paths(shape, at=""):
    """The paths of everything in a resource, and of an entry of each list and object."""
    if at.count("/") > 3:
        return
    if at:
        yield at
    if shape.type_name == "structure":
        for name, member in shape.members.items():
            yield from paths(member, f"{at}/{member.serialization.get('name', name)}")
    elif shape.type_name == "map":
        for name in ("a", "~1pets", f"{API}:prod"):
            yield from paths(shape.value, f"{at}/{name}")
    elif shape.type_name == "list":
        for name in ("0", "image~1png", f"{API}:prod"):
            yield from paths(shape.member, f"{at}/{name}")


SETTINGS = [f"/~1pets/GET/{name}" for name in (
    "throttling/rateLimit", "throttling/burstLimit", "metrics/enabled", "logging/loglevel", "logging/dataTrace",
    "caching/enabled", "caching/ttlInSeconds", "caching/dataEncrypted",
    "caching/requireAuthorizationForCacheControl", "caching/unauthorizedCacheControlHeaderStrategy")]
SETTINGS += [f"/apiStages/{API}:prod/throttle/~1pets/GET/{name}" for name in ("rateLimit", "burstLimit")]
taken = refused = 0
for resource, ids in RESOURCES.items():
    shape = model.operation_model("Get" + resource).output_shape
    known = sorted(set(paths(shape)) | set(SETTINGS if resource in ("Stage", "UsagePlan") else ()))
    for path in known:
        for op in ("replace", "add"):
            for value in ("hello", "2026", "1.5", "true", None, '{"a":1}', "[1]", ""):
                operation = {"op": op, "path": path} | ({} if value is None else {"value": value})
                try:
                    getattr(aws, METHODS["Update" + resource])(**ids, patchOperations=[operation])
                except ClientError as error:
                    status = error.response["ResponseMetadata"]["HTTPStatusCode"]
                    assert status in (400, 404, 409), (resource, operation, error)
                    refused += 1
                    continue
                taken += 1
                fault = misfit(shape, json.loads(body["last"]), f"{resource} after {operation}")
                assert fault is None, fault
                decoded("Get" + resource, **ids)
for resource, ids in LISTS.items():
    decoded("Get" + resource, **ids)
assert taken > 100 and refused > 1000, (taken, refused)

# Creations: the rest of the request is valid, and each member in turn has a value of each type.
CREATIONS = {
    "CreateRestApi": ("POST", "/restapis", {"name": "a"}),
    "PutMethod": ("PUT", f"/restapis/{API}/resources/{ROOT}/methods/GET", {"authorizationType": "NONE"}),
    "PutIntegration": ("PUT", f"/restapis/{API}/resources/{PETS}/methods/GET/integration", {"type": "MOCK"}),
    "PutMethodResponse": ("PUT", f"/restapis/{API}/resources/{PETS}/methods/GET/responses/404", {}),
    "PutIntegrationResponse": ("PUT", f"/restapis/{API}/resources/{PETS}/methods/GET/integration/responses/404", {}),
    "CreateResource": ("POST", f"/restapis/{API}/resources/{ROOT}", {"pathPart": "a"}),
    "CreateDeployment": ("POST", f"/restapis/{API}/deployments", {"stageName": "a"}),
    "CreateStage": ("POST", f"/restapis/{API}/stages", {"stageName": "a", "deploymentId": DEP}),
    "CreateUsagePlan": ("POST", "/usageplans", {"name": "a"}),
    "CreateApiKey": ("POST", "/apikeys", {"name": "a"}),
}


def delete_stages(_):
    for stage in aws.get_stages(restApiId=API)["item"]:
        if stage["stageName"] != "prod":
            aws.delete_stage(restApiId=API, stageName=stage["stageName"])


# The deletions that let a request be made again.
AGAIN = {
    "CreateResource": lambda made: aws.delete_resource(restApiId=API, resourceId=made["id"]),
    "PutMethod": lambda _: aws.delete_method(restApiId=API, resourceId=ROOT, httpMethod="GET"),
    "PutMethodResponse": lambda _: aws.delete_method_response(**method, statusCode="404"),
    "CreateDeployment": delete_stages,
    "CreateStage": delete_stages,
}
VALUES = ("hello", 7, 7.5, True, {"a": 1}, {"a": "b"}, ["x"], [1], [{}], None)
made = misfits = 0
for operation, (verb, path, valid) in CREATIONS.items():
    shape = model.operation_model(operation).input_shape
    for name, member in shape.members.items():
        wire = member.serialization.get("name", name)
        if "location" in member.serialization:
            continue
        for value in VALUES:
            status, response = send(verb, path, {**valid, wire: value})
            fault = None if value is None else misfit(member, value, wire)
            case = (operation, wire, value, status, response)
            if status < 300:
                assert fault is None, case
                assert misfit(model.operation_model(operation).output_shape, response, operation) is None, case
                AGAIN.get(operation, lambda _: None)(response)
                made += 1
            else:
                assert status in (400, 404, 501), case
                assert fault is None or wire in response["message"], case
                misfits += fault is not None
for resource, ids in LISTS.items():
    decoded("Get" + resource, **ids)
assert made > 50 and misfits > 250, (made, misfits)
