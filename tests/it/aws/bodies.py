"""Sends every member of the bodies of the requests that the admin API serves (served.py), with boto3.

Arguments: the admin API's URL and the checks' URL. A member acts, or is in the responses from then on, or is refused by
name, as members.toml says.
"""

import json
import sys
import urllib.error
import urllib.request

from botocore.exceptions import ClientError
from served import CLASSES, connect, inputs, model, nested

admin, checks = sys.argv[1:]
aws, call = connect(admin)


def check(**body):
    request = urllib.request.Request(checks + "/check", json.dumps(body).encode())
    try:
        return json.load(urllib.request.urlopen(request))
    except urllib.error.HTTPError as error:
        return json.load(error)


def refused(member, operation, /, **arguments):
    try:
        call(operation, **arguments)
    except ClientError as error:
        status, said = error.response["ResponseMetadata"]["HTTPStatusCode"], error.response["Error"]
        assert said["Code"] in ("BadRequestException", "ValidationException") and status == 400, (operation, member, error)
        assert member in said["Message"], (operation, member, error)
        return
    raise AssertionError(f"{operation} took {member}")


def patched(path, value, op="replace", **more):
    return [{"op": op, "path": path, "value": value, **more}]


api = aws.create_rest_api(name="one")
api_id, root = api["id"], api["rootResourceId"]
chat = aws.create_resource(restApiId=api_id, parentId=root, pathPart="chat")["id"]
on_chat = {"restApiId": api_id, "resourceId": chat}
on_post = {**on_chat, "httpMethod": "POST"}
aws.put_method(**on_post, authorizationType="NONE", apiKeyRequired=True)
on_success = {**on_post, "statusCode": "200"}
aws.put_integration(**on_post, type="MOCK")
aws.put_method_response(**on_success, responseModels={"a/b": "Empty"})
aws.put_integration_response(**on_success)
deployed = aws.create_deployment(restApiId=api_id, stageName="prod")["id"]
plan_id = aws.create_usage_plan(name="basic", quota={"limit": 9, "period": "DAY"})["id"]
key = aws.create_api_key(name="acme", enabled=True)
aws.create_usage_plan_key(usagePlanId=plan_id, keyId=key["id"], keyType="API_KEY")
tags = {"team": "red"}
arn = f"arn:aws:apigateway:eu-central-1::/usageplans/{plan_id}"

# The arguments of each call, without those that are tried.
REQUIRED = {
    "CreateRestApi": lambda: {"name": "two"},
    "PutMethod": lambda: {**on_chat, "httpMethod": free_method(), "authorizationType": "NONE"},
    "PutIntegration": lambda: {
        **on_post, "type": "HTTP", "integrationHttpMethod": "POST", "uri": "http://127.0.0.1/"},
    "PutMethodResponse": lambda: {**on_post, "statusCode": "201"},
    "PutIntegrationResponse": lambda: on_success,
    "CreateDeployment": lambda: {"restApiId": api_id, "stageName": "prod"},
    "CreateStage": lambda: {"restApiId": api_id, "stageName": f"stage{len(stages())}", "deploymentId": deployed},
    "CreateApiKey": lambda: {},
    "CreateUsagePlan": lambda: {"name": "two"},
    "TagResource": lambda: {"resourceArn": arn},
    "UpdateAccount": dict,
    "UpdateRestApi": lambda: {"restApiId": api_id},
    "UpdateResource": lambda: on_chat,
    "UpdateMethod": lambda: on_post,
    "UpdateIntegration": lambda: on_post,
    "UpdateMethodResponse": lambda: on_success,
    "UpdateIntegrationResponse": lambda: on_success,
    "UpdateDeployment": lambda: {"restApiId": api_id, "deploymentId": deployed},
    "UpdateStage": lambda: {"restApiId": api_id, "stageName": "prod"},
    "UpdateApiKey": lambda: {"apiKey": key["id"]},
    "UpdateUsagePlan": lambda: {"usagePlanId": plan_id},
    "UpdateUsage": lambda: {"usagePlanId": plan_id, "keyId": key["id"]},
}


def stages():
    return aws.get_stages(restApiId=api_id)["item"]


def free_method():
    taken = aws.get_resource(restApiId=api_id, resourceId=chat)["resourceMethods"]
    return [method for method in ("GET", "PUT", "PATCH", "HEAD", "OPTIONS", "DELETE") if method not in taken][0]


cache = {"cacheClusterEnabled": True, "cacheClusterSize": "1.6"}
canary = {"percentTraffic": 12.5, "stageVariableOverrides": {"a": "c"}, "useStageCache": True}

# Values of the members that are kept and shown.
SHOWN = {
    "CreateRestApi": {
        "name": "2026", "description": "true", "version": "7", "binaryMediaTypes": ["image/png"],
        "minimumCompressionSize": 1024, "policy": '{"Version": "2012-10-17"}', "tags": tags,
        "endpointConfiguration": {"types": ["PRIVATE"], "ipAddressType": "dualstack", "vpcEndpointIds": ["vpce-1"]},
        "disableExecuteApiEndpoint": True, "securityPolicy": "TLS_1_2", "endpointAccessMode": "BASIC"},
    "PutMethod": {
        "operationName": "Chat", "requestValidatorId": "v", "requestParameters": {"method.request.header.a": True},
        "requestModels": {"application/json": "Empty"}},
    "PutIntegration": {
        "type": "HTTP", "integrationHttpMethod": "POST", "uri": "http://127.0.0.1/", "connectionType": "VPC_LINK",
        "connectionId": "link", "credentials": "arn:aws:iam::1:role/a", "requestTemplates": {"application/json": "{}"},
        "requestParameters": {"integration.request.header.a": "'b'"}, "passthroughBehavior": "NEVER",
        "cacheNamespace": "n", "cacheKeyParameters": ["method.request.path.a"], "contentHandling": "CONVERT_TO_TEXT",
        "timeoutInMillis": 1000, "tlsConfig": {"insecureSkipVerification": True}, "responseTransferMode": "STREAM",
        "integrationTarget": "t"},
    "PutMethodResponse": {
        "responseParameters": {"method.response.header.a": True}, "responseModels": {"application/json": "Empty"}},
    "PutIntegrationResponse": {
        "selectionPattern": "2..", "responseParameters": {"method.response.header.a": "'b'"},
        "responseTemplates": {"application/json": "{}"}, "contentHandling": "CONVERT_TO_TEXT"},
    "CreateDeployment": {
        "description": "true", "stageDescription": "2026", **cache, "variables": {"a": "b"}, "tracingEnabled": True,
        "canarySettings": canary},
    "CreateStage": {
        "deploymentId": deployed, "description": "2026", **cache, "variables": {"a": "b"}, "tags": tags,
        "documentationVersion": "1", "canarySettings": {**canary, "deploymentId": deployed}, "tracingEnabled": True},
    "CreateApiKey": {"name": "2026", "description": "true", "customerId": "c-1", "tags": tags},
    "CreateUsagePlan": {"name": "2026", "description": "true", "tags": tags},
    "TagResource": {"tags": tags},
}
# The names that members have in responses.
NAMES = {("PutIntegration", "integrationHttpMethod"): "httpMethod", ("CreateDeployment", "stageDescription"): "description"}


def read_stage(name):
    return aws.get_stage(restApiId=api_id, stageName=name)


# Reads again what a call has made: responses that have the members between them.
READ = {
    "CreateRestApi": lambda made: [made, aws.get_rest_api(restApiId=made["id"])],
    "PutMethod": lambda made: [made, aws.get_method(**on_chat, httpMethod=made["httpMethod"])],
    "PutIntegration": lambda made: [made, aws.get_integration(**on_post)],
    "PutMethodResponse": lambda made: [made, aws.get_method_response(**on_post, statusCode="201")],
    "PutIntegrationResponse": lambda made: [made, aws.get_integration_response(**on_success)],
    "CreateStage": lambda made: [made, read_stage(made["stageName"])],
    "CreateApiKey": lambda made: [made, aws.get_api_key(apiKey=made["id"])],
    "CreateUsagePlan": lambda made: [made, aws.get_usage_plan(usagePlanId=made["id"])],
    "TagResource": lambda _: [aws.get_tags(resourceArn=arn), aws.get_usage_plan(usagePlanId=plan_id)],
}


def has(shape, sample, path):
    """True if the sample has the nested member."""
    for name in path.split("."):
        sample = sample[0] if isinstance(sample, list) else sample
        if not isinstance(sample, dict) or name not in sample:
            return False
        sample = sample[name]
    return True


def shown(operation, names):
    sample = SHOWN[operation]
    missing = [name for name in names if not has(None, sample, name)]
    assert not missing, f"{operation}: SHOWN has no {missing}"
    for response in READ[operation](call(operation, **{**REQUIRED[operation](), **sample})):
        for name, value in sample.items():
            found = response.get(NAMES.get((operation, name), name))
            if name == "policy":  # AWS returns it with its quotes escaped.
                found = json.loads(f'"{found}"')
            assert found == value, (operation, name, found, response)


def deployment_shown(names):
    """The members of a deployment, and those that it gives to its stage, new or not."""
    sample = SHOWN["CreateDeployment"]
    assert all(has(None, sample, name) for name in names), names
    of_canary = sample["canarySettings"]
    sample = {name: value for name, value in sample.items() if name != "canarySettings"}
    aws.create_deployment(restApiId=api_id, stageName="bare")
    for stage in ("new", "bare"):
        made = call("CreateDeployment", restApiId=api_id, stageName=stage, **sample)
        assert made["description"] == sample["description"], made
        assert aws.get_deployment(restApiId=api_id, deploymentId=made["id"])["description"] == sample["description"]
        found = read_stage(stage)
        assert found["description"] == sample["stageDescription"] and found["deploymentId"] == made["id"], found
        for name in ("cacheClusterEnabled", "cacheClusterSize", "variables", "tracingEnabled"):
            assert found[name] == sample[name], (name, found)
        assert found["cacheClusterStatus"] == "AVAILABLE", found
    # A canary's deployment leaves the stage's own.
    second = call("CreateDeployment", restApiId=api_id, stageName="bare", canarySettings=of_canary)
    found = read_stage("bare")
    assert found["deploymentId"] == made["id"], found
    assert found["canarySettings"] == {**of_canary, "deploymentId": second["id"]}, found
    refused("canarySettings", "CreateDeployment", restApiId=api_id, stageName="none", canarySettings=of_canary)
    # Without a stage nothing would have them.
    for name in (name for name in SHOWN["CreateDeployment"] if name != "description"):
        refused(name, "CreateDeployment", restApiId=api_id, **{name: SHOWN["CreateDeployment"][name]})
    call("CreateDeployment", restApiId=api_id, stageName="", stageDescription="", variables={})


# Values of the members that are refused.
REFUSED = {
    "cloneFrom": "api", "generateDistinctId": False, "stageKeys": [{"restApiId": api_id, "stageName": "prod"}],
    "authorizerId": "a", "authorizationScopes": ["a/b"],
}
ways = {"from": "/name"}


def not_taken(operation, name):
    if name == "patchOperations.from":
        refused("from", operation, **REQUIRED[operation](), patchOperations=patched("/description", "x", **ways))
    elif name.partition(".")[0] in REFUSED:
        name = name.partition(".")[0]
        refused(name, operation, **REQUIRED[operation](), **{name: REFUSED[name]})
    else:
        raise AssertionError(f"REFUSED has no {operation} {name}")


def limits(**members):
    """The limits of a check of a key that is alone on a new plan, by their names without the plan's."""
    plan = call("CreateUsagePlan", name="p", **members)["id"]
    alone = aws.create_api_key(enabled=True)
    aws.create_usage_plan_key(usagePlanId=plan, keyId=alone["id"], keyType="API_KEY")
    answer = check(api_key=alone["value"], api=api_id, stage="prod", method="POST", path="/chat", cost=0)
    assert "limits" in answer, answer
    return {limit["name"].removeprefix(plan + "/"): limit for limit in answer["limits"]}


def throttled():
    found = limits(throttle={"rateLimit": 0.5, "burstLimit": 7})["throttle"]
    assert found["limit"] == 7, found
    assert limits(throttle={"rateLimit": 9, "burstLimit": 7})["throttle"] != found


def quota():
    def reset(offset):
        found = limits(quota={"limit": 11, "period": "WEEK", "offset": offset})["quota"]
        assert found["limit"] == 11, found
        return found["reset_ms"] // 3_600_000
    assert reset(0) != reset(3)
    refused("offset", "CreateUsagePlan", name="p", quota={"limit": 1, "period": "DAY", "offset": 1})


def served():
    found = limits(apiStages=[{
        "apiId": api_id, "stage": "prod", "throttle": {"/chat/POST": {"rateLimit": 0.5, "burstLimit": 3}}}])
    assert [limit["limit"] for limit in found.values() if "POST /chat" in limit["name"]] == [3], found
    other = aws.create_usage_plan(name="p", apiStages=[{"apiId": api_id, "stage": "new"}])["id"]
    alone = aws.create_api_key(enabled=True)
    aws.create_usage_plan_key(usagePlanId=other, keyId=alone["id"], keyType="API_KEY")
    assert check(api_key=alone["value"], api=api_id, stage="new").get("allowed")
    assert not check(api_key=alone["value"], api=api_id, stage="prod").get("allowed")


def resource_made():
    made = call("CreateResource", restApiId=api_id, parentId=chat, pathPart="{id}")
    assert made["path"] == "/chat/{id}", made
    refused("a/b", "CreateResource", restApiId=api_id, parentId=chat, pathPart="a/b")


def stage_made():
    call("CreateStage", restApiId=api_id, stageName="mine", deploymentId=deployed)
    assert check(api_key=key["value"], api=api_id, stage="mine", cost=0).get("allowed")
    deployment = call("CreateDeployment", restApiId=api_id, stageName="mine")["id"]
    assert read_stage("mine")["deploymentId"] == deployment


def key_made():
    made = call("CreateApiKey", enabled=False, value="a-value-of-twenty-characters")
    assert made["value"] == "a-value-of-twenty-characters", made
    aws.create_usage_plan_key(usagePlanId=plan_id, keyId=made["id"], keyType="API_KEY")
    assert not check(api_key=made["value"]).get("allowed")
    aws.update_api_key(apiKey=made["id"], patchOperations=patched("/enabled", "true"))
    assert check(api_key=made["value"], cost=0).get("allowed")


def key_added():
    made = call("CreateApiKey", enabled=True)
    assert not check(api_key=made["value"]).get("allowed")
    refused("keyType", "CreateUsagePlanKey", usagePlanId=plan_id, keyId=made["id"], keyType="OTHER")
    added = call("CreateUsagePlanKey", usagePlanId=plan_id, keyId=made["id"], keyType="API_KEY")
    assert added["type"] == "API_KEY" and check(api_key=made["value"], cost=0).get("allowed")
    found = aws.get_usage_plan_key(usagePlanId=plan_id, keyId=made["id"])
    assert found["value"] == added["value"] == made["value"], found


def imported():
    taken = call("ImportApiKeys", body=b"Name,Key\nimported," + b"7" * 20, format="csv")
    assert aws.get_api_key(apiKey=taken["ids"][0])["name"] == "imported"


def defined():
    document = b"openapi: 3.0.1\ninfo: {title: defined}\npaths: {/a: {}}"
    made = call("ImportRestApi", body=document)
    assert made["name"] == "defined", made
    call("PutRestApi", restApiId=made["id"], body=document.replace(b"/a", b"/b"))
    found = sorted(one["path"] for one in aws.get_resources(restApiId=made["id"])["items"])
    assert found == ["/", "/a", "/b"], found


def source_set():
    made = call("CreateRestApi", name="a", apiKeySource="HEADER")
    assert made["apiKeySource"] == "HEADER", made
    refused("apiKeySource", "CreateRestApi", name="a", apiKeySource="COOKIE")


def key_required():
    made = call("PutMethod", **on_chat, httpMethod=free_method(), authorizationType="NONE", apiKeyRequired=True)
    assert made["apiKeyRequired"] is True, made
    made = call("PutMethod", **on_chat, httpMethod=free_method(), authorizationType="AWS_IAM")
    assert (made["authorizationType"], made["apiKeyRequired"]) == ("AWS_IAM", False), made
    refused("authorizationType", "PutMethod", **on_chat, httpMethod=free_method(), authorizationType="PASSWORD")


# A patch of each resource: the path, the value, and what is read again.
PATCHES = {
    "UpdateRestApi": ("/description", lambda: aws.get_rest_api(restApiId=api_id)["description"]),
    "UpdateResource": ("/pathPart", lambda: aws.get_resource(**on_chat)["pathPart"]),
    "UpdateMethod": ("/operationName", lambda: aws.get_method(**on_post)["operationName"]),
    "UpdateIntegration": ("/uri", lambda: aws.get_integration(**on_post)["uri"]),
    "UpdateMethodResponse": (
        "/responseModels/a~1b", lambda: aws.get_method_response(**on_success)["responseModels"]["a/b"]),
    "UpdateIntegrationResponse": (
        "/selectionPattern", lambda: aws.get_integration_response(**on_success)["selectionPattern"]),
    "UpdateAccount": ("/cloudwatchRoleArn", lambda: aws.get_account()["cloudwatchRoleArn"]),
    "UpdateDeployment": (
        "/description", lambda: aws.get_deployment(restApiId=api_id, deploymentId=deployed)["description"]),
    "UpdateApiKey": ("/description", lambda: aws.get_api_key(apiKey=key["id"])["description"]),
    "UpdateUsagePlan": ("/description", lambda: aws.get_usage_plan(usagePlanId=plan_id)["description"]),
    "UpdateStage": ("/description", lambda: read_stage("prod")["description"]),
}


def applied(operation):
    path, read = PATCHES[operation]
    before = {**REQUIRED[operation]()}
    call(operation, **before, patchOperations=patched(path, "true"))
    assert read() == "true", operation
    refused("/colour", operation, **before, patchOperations=patched("/colour", "red"))
    refused("test", operation, **before, patchOperations=patched(path, "true", op="test"))
    if operation == "UpdateResource":
        call(operation, **before, patchOperations=patched(path, "chat"))


def corrected(operation):
    found = call(operation, **REQUIRED[operation](), patchOperations=patched("/remaining", "5"))
    assert list(found["items"].values()) == [[[0, 5]]], found
    refused("/colour", operation, **REQUIRED[operation](), patchOperations=patched("/colour", "5"))


def promoted():
    aws.update_stage(restApiId=api_id, stageName="bare", patchOperations=[
        {"op": "copy", "from": "/canarySettings/deploymentId", "path": "/deploymentId"}])
    found = read_stage("bare")
    assert found["deploymentId"] == found["canarySettings"]["deploymentId"], found


ACTS = {
    "CreateRestApi": source_set, "CreateResource": resource_made, "PutMethod": key_required,
    "CreateDeployment": stage_made, "CreateStage": lambda: None, "CreateApiKey": key_made, "ImportApiKeys": imported,
    "ImportRestApi": defined, "PutRestApi": defined,
    "CreateUsagePlan": lambda: (throttled(), quota(), served()), "CreateUsagePlanKey": key_added,
}

tried = 0
for operation, classes in CLASSES.items():
    members = inputs(operation)
    body = {path for name, of in members.items() for path in nested(name, of)
            if of.serialization.get("location") != "querystring"}
    acts, kept = (body & set(classes.get(kind, [])) for kind in ("acts", "shown"))
    if kept and operation == "CreateDeployment":
        deployment_shown(kept)
    elif kept:
        shown(operation, kept)
    for name in sorted(body & set(classes.get("refused", []))):
        not_taken(operation, name)
    if operation == "UpdateUsage":
        corrected(operation)
    elif operation.startswith("Update"):
        applied(operation)
    elif acts:
        ACTS[operation]()
    tried += len(body)
promoted()
assert tried > 120, tried

# A member that nobody knows is refused by every call with a body.
def add_member(params, **_):
    if params["body"][:1] == b"{" or params["body"] == b"":
        body = json.loads(params["body"] or b"{}")
        params["body"] = json.dumps({**body, "colour": "red"}).encode()


def sample(shape):
    if getattr(shape, "enum", None):
        return shape.enum[0]
    kinds = {"list": [], "map": {}, "boolean": True, "integer": 1, "double": 1.0, "blob": b"x"}
    return kinds.get(shape.type_name, "x")


aws.meta.events.register("before-call.apigateway", add_member)
for operation in CLASSES:
    body = {name: of for name, of in inputs(operation).items() if of.serialization.get("location") != "querystring"}
    shape = model.operation_model(operation).input_shape
    if body and operation not in ("ImportApiKeys", "ImportRestApi", "PutRestApi"):
        required = {name: sample(shape.members[name]) for name in shape.required_members}
        refused("colour", operation, **{**required, **REQUIRED.get(operation, dict)()})
