"""Single resources as Terraform's AWS provider has them, one scenario a row: created, read, planned again without a
difference, updated in steps, each followed by a plan, and destroyed. The rows run ten at a time.

The patches are those that the provider sends. Arguments: the admin API's URL and the checks' URL.
"""

import json
import sys
from concurrent.futures import ThreadPoolExecutor
from itertools import count

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

admin, _ = sys.argv[1:]
aws = boto3.client(
    "apigateway", endpoint_url=admin, region_name="eu-central-1",
    config=Config(retries={"max_attempts": 0}, proxies={}, max_pool_connections=10))
LAMBDA = "arn:aws:apigateway:us-east-1:lambda:path/2015-03-31/functions/arn:aws:lambda:us-east-1:1:function:f/invocations"
POLICY, OTHER_POLICY = ('{"Statement":[{"Effect":"%s"}]}' % effect for effect in ("Allow", "Deny"))
NUMBERS = count(1)


def escaped(text):
    return json.dumps(text)[1:-1]


def api(**members):
    made = aws.create_rest_api(name="scenario", **members)
    return {"restApiId": made["id"]}, made["rootResourceId"]


def root_method(**members):
    ids, root = api()
    ids = ids | {"resourceId": root, "httpMethod": "ANY"}
    aws.put_method(**ids, **({"authorizationType": "NONE"} | members))
    return ids


def integration(**members):
    ids = root_method()
    aws.put_integration(**ids, **members)
    return ids


def resource(*parts):
    ids, above = api()
    for part in parts:
        above = aws.create_resource(**ids, parentId=above, pathPart=part)["id"]
    return ids | {"resourceId": above}


def deployed(**members):
    ids, root = api()
    return ids, aws.create_deployment(**ids, **members)["id"]


def stage(**members):
    ids, deployment = deployed()
    aws.create_stage(**ids, stageName="prod", deploymentId=deployment, **members)
    return ids | {"stageName": "prod"}


def stage_of_deployment(**members):
    """Up to version 4 of the provider, a deployment made its stage."""
    ids, _ = deployed(stageName="prod", **members)
    return ids | {"stageName": "prod"}


def plan(**members):
    # Names of their own: an id is made from the name, and a deleted plan's is free for the next one.
    name = f"scenario {next(NUMBERS)}"
    return {"usagePlanId": aws.create_usage_plan(name=name, **members)["id"]}


def plan_of_stages():
    stages = [stage(), stage()]
    plan.served = [{"apiId": it["restApiId"], "stage": "prod"} for it in stages]
    return plan(apiStages=plan.served)


def key(**members):
    return {"apiKey": aws.create_api_key(**({"name": "scenario", "enabled": True, "value": ""} | members))["id"]}


def defined(*documents):
    """An API with the argument `body`."""
    ids, _ = api()
    aws.put_rest_api(**ids, mode="overwrite", body=json.dumps(documents[0]).encode())
    aws.update_rest_api(**ids, patchOperations=[{"op": "replace", "path": "/name", "value": "scenario"}])
    return ids


def replace(*pairs, **values):
    pairs = [*pairs, *((f"/{name}", value) for name, value in values.items())]
    return [{"op": "replace", "path": path} | ({} if value is None else {"value": value}) for path, value in pairs]


def remove(path, value=None):
    return [{"op": "remove", "path": path} | ({} if value is None else {"value": value})]


def add(path, value=None):
    return [{"op": "add", "path": path} | ({} if value is None else {"value": value})]


def throttling(rate, burst):
    return [("throttling/rateLimit", rate), ("throttling/burstLimit", burst)]


def settings(path, *pairs):
    return replace(*((f"/{path}/{name}", value) for name, value in pairs))


NONE = {"throttlingRateLimit": -1.0, "throttlingBurstLimit": -1}
SPEC = {"openapi": "3.0.1", "info": {"title": "spec", "version": "1"}, "paths": {"/a": {"get": {
    "x-amazon-apigateway-integration": {"type": "HTTP_PROXY", "httpMethod": "GET", "uri": "https://example.com",
    "payloadFormatVersion": "1.0"}}}}}
# The kind, what creates it, the members that it shows, and steps: operations, and the members after them.
SCENARIOS = [
    ("rest_api", lambda: api(description="2026")[0], {"description": "2026"},
     [(replace(description=text), {"description": text}) for text in ("true", "{}", "null", "1.5", '"a"')]),
    ("rest_api", lambda: api(apiKeySource="AUTHORIZER")[0], {"apiKeySource": "AUTHORIZER"},
     [(replace(apiKeySource="HEADER"), {"apiKeySource": "HEADER"})]),
    ("rest_api", lambda: api(binaryMediaTypes=["image/png", "*/*"])[0], {"binaryMediaTypes": ["image/png", "*/*"]},
     [(remove("/binaryMediaTypes/image~1png") + remove("/binaryMediaTypes/*~1*") + add("/binaryMediaTypes/a~1b"),
       {"binaryMediaTypes": ["a/b"]})]),
    ("rest_api", lambda: api(minimumCompressionSize=0)[0], {"minimumCompressionSize": 0},
     [(replace(minimumCompressionSize="10"), {"minimumCompressionSize": 10}),
      (replace(minimumCompressionSize=None), {"minimumCompressionSize": None})]),
    ("rest_api", lambda: api(endpointConfiguration={"types": ["REGIONAL"]})[0],
     {"endpointConfiguration": {"types": ["REGIONAL"], "ipAddressType": "ipv4"}},
     [(replace(("/endpointConfiguration/types/0", "PRIVATE")),
       {"endpointConfiguration": {"types": ["PRIVATE"], "ipAddressType": "dualstack"}}),
      (add("/endpointConfiguration/vpcEndpointIds", "vpce-1") + add("/endpointConfiguration/vpcEndpointIds", "vpce-2"),
       {"endpointConfiguration": {"types": ["PRIVATE"], "ipAddressType": "dualstack", "vpcEndpointIds": ["vpce-1", "vpce-2"]}}),
      (remove("/endpointConfiguration/vpcEndpointIds", "vpce-1"),
       {"endpointConfiguration": {"types": ["PRIVATE"], "ipAddressType": "dualstack", "vpcEndpointIds": ["vpce-2"]}})]),
    ("rest_api", lambda: api(policy=POLICY)[0], {"policy": escaped(POLICY)},
     [(replace(policy=OTHER_POLICY), {"policy": escaped(OTHER_POLICY)}), (replace(policy=""), {"policy": None})]),
    ("rest_api", lambda: api()[0], {"policy": None}, [(replace(policy=POLICY), {"policy": escaped(POLICY)})]),
    ("rest_api", lambda: api()[0], {"disableExecuteApiEndpoint": False},
     [(replace(disableExecuteApiEndpoint="true", name="other"), {"disableExecuteApiEndpoint": True, "name": "other"})]),
    ("rest_api", lambda: defined(SPEC), {"name": "scenario", "version": "1"}, []),
    ("resource", lambda: resource("pets"), {"path": "/pets"}, [(replace(pathPart="cats"), {"path": "/cats"})]),
    ("resource", lambda: resource("v1", "{proxy+}"), {"path": "/v1/{proxy+}", "pathPart": "{proxy+}"}, []),
    ("resource", lambda: resource("v1", "models", "a:generate"), {"path": "/v1/models/a:generate"}, []),
    ("method", root_method, {"authorizationType": "NONE", "apiKeyRequired": False},
     [(replace(apiKeyRequired="true"), {"apiKeyRequired": True}),
      (add("/requestParameters/method.request.path.proxy", "true"), {"requestParameters": {"method.request.path.proxy": True}}),
      (remove("/requestParameters/method.request.path.proxy"), {"requestParameters": None}),
      (add("/requestModels/application~1json", "Empty"), {"requestModels": {"application/json": "Empty"}}),
      (replace(operationName="true"), {"operationName": "true"})]),
    ("method", lambda: root_method(authorizationType="AWS_IAM", apiKeyRequired=True), {"authorizationType": "AWS_IAM"},
     [(replace(authorizationType="NONE"), {"authorizationType": "NONE"})]),
    ("integration", lambda: integration(type="MOCK", requestTemplates={"application/json": '{"statusCode":200}'}),
     {"type": "MOCK", "requestTemplates": {"application/json": '{"statusCode":200}'}, "timeoutInMillis": 29000},
     [(replace(("/requestTemplates/application~1json", "{}")), {"requestTemplates": {"application/json": "{}"}}),
      (remove("/requestTemplates/application~1json"), {"requestTemplates": None})]),
    ("integration", lambda: integration(type="HTTP_PROXY", integrationHttpMethod="ANY", uri="http://127.0.0.1/{proxy}"),
     {"uri": "http://127.0.0.1/{proxy}", "connectionType": "INTERNET"},
     [(replace(uri="http://127.0.0.1/b"), {"uri": "http://127.0.0.1/b"}),
      (replace(timeoutInMillis="50"), {"timeoutInMillis": 50}),
      (replace(passthroughBehavior="NEVER"), {"passthroughBehavior": "NEVER"}),
      (add("/cacheKeyParameters/method.request.path.proxy", ""), {"cacheKeyParameters": ["method.request.path.proxy"]})]),
    ("integration", lambda: integration(type="AWS_PROXY", integrationHttpMethod="POST", uri=LAMBDA), {"uri": LAMBDA}, []),
    ("deployment", lambda: (lambda ids, it: ids | {"deploymentId": it})(*deployed(description="", variables={})),
     {"description": ""}, [(replace(description="2026"), {"description": "2026"})]),
    ("stage", lambda: stage(), {"cacheClusterEnabled": False, "methodSettings": {}, "tracingEnabled": False},
     [(replace(description="true"), {"description": "true"}),
      (replace(("/variables/a", "1")), {"variables": {"a": "1"}}), (remove("/variables/a"), {"variables": None}),
      (replace(tracingEnabled="true"), {"tracingEnabled": True})]),
    ("stage", lambda: stage(cacheClusterEnabled=True, cacheClusterSize="0.5"),
     {"cacheClusterStatus": "AVAILABLE", "cacheClusterSize": "0.5"},
     [(replace(cacheClusterSize="6.1"), {"cacheClusterSize": "6.1", "cacheClusterStatus": "AVAILABLE"}),
      (replace(cacheClusterEnabled="false"), {"cacheClusterEnabled": False, "cacheClusterStatus": "NOT_AVAILABLE"})]),
    ("stage", lambda: stage(), {"accessLogSettings": None},
     [(replace(("/accessLogSettings/destinationArn", "arn:a"), ("/accessLogSettings/format", "f")),
       {"accessLogSettings": {"destinationArn": "arn:a", "format": "f"}}),
      (remove("/accessLogSettings"), {"accessLogSettings": None})]),
    ("stage", lambda: stage(canarySettings={"percentTraffic": 33.3, "stageVariableOverrides": {"a": "b"}}),
     {"canarySettings": {"percentTraffic": 33.3, "stageVariableOverrides": {"a": "b"}, "useStageCache": False}},
     [(remove("/canarySettings/stageVariableOverrides/a") + replace(("/canarySettings/percentTraffic", "50.000000")),
       {"canarySettings": {"percentTraffic": 50.0}}),
      (remove("/canarySettings"), {"canarySettings": None})]),
    ("stage", lambda: stage_of_deployment(stageDescription="true", variables={"a": "b"}),
     {"description": "true", "variables": {"a": "b"}}, []),
    # The resource for a method's settings.
    *(("stage", lambda: stage(), {"methodSettings": {}},
       [(settings(path, ("metrics/enabled", "true"), *throttling("-1.000000", "-1")),
         {"methodSettings": {path: NONE | {"metricsEnabled": True, "cachingEnabled": False}}}),
        (settings(path, ("logging/loglevel", "INFO"), *throttling("100.500000", "50")),
         {"methodSettings": {path: {"loggingLevel": "INFO", "throttlingRateLimit": 100.5, "throttlingBurstLimit": 50}}}),
        (remove(f"/{path}"), {"methodSettings": {}})])
      for path in ("*/*", "pets/GET", "v1/chat/completions/POST", "~1/GET", "/GET", "v1/{proxy+}/ANY")),
    ("usage_plan", lambda: plan(description="2026"), {"description": "2026", "apiStages": []},
     [(replace(name="true", description="{}"), {"name": "true", "description": "{}"})]),
    ("usage_plan", lambda: plan(throttle={"rateLimit": 0.5, "burstLimit": 1}), {"throttle": {"rateLimit": 0.5, "burstLimit": 1}},
     [(replace(("/throttle/rateLimit", "3"), ("/throttle/burstLimit", "4")), {"throttle": {"rateLimit": 3.0, "burstLimit": 4}}),
      (remove("/throttle"), {"throttle": None})]),
    *(("usage_plan", lambda quota=quota: plan(quota=quota), {"quota": quota},
       [(replace(("/quota/limit", "200"), ("/quota/offset", "20"), ("/quota/period", "MONTH")),
         {"quota": {"limit": 200, "offset": 20, "period": "MONTH"}}),
        (remove("/quota"), {"quota": None})])
      for quota in ({"limit": 1, "offset": 0, "period": "DAY"}, {"limit": 100, "offset": 6, "period": "WEEK"})),
    ("usage_plan", lambda: plan(), {"productCode": None},
     [(add("/productCode", "7"), {"productCode": "7"}), (replace(productCode="true"), {"productCode": "true"}),
      (remove("/productCode"), {"productCode": None})]),
    ("api_key", lambda: key(description="Managed by Terraform"), {"enabled": True, "description": "Managed by Terraform"},
     [(replace(enabled="false"), {"enabled": False}), (replace(description="2026"), {"description": "2026"}),
      (replace(customerId="true"), {"customerId": "true"})]),
    ("api_key", lambda: key(value="a-value-that-terraform-chooses"), {"value": "a-value-that-terraform-chooses"},
     [(replace(enabled="false"), {"value": "a-value-that-terraform-chooses"})]),
]


def differences(wanted, found, at):
    for name, value in wanted.items():
        other = found.get(name)
        if isinstance(value, dict) and value and isinstance(other, dict):
            yield from differences(value, other, f"{at}/{name}")
        elif (value or other) and value != other:
            yield f"{at}/{name}: {other!r} instead of {value!r}"


def run(scenario):
    kind, create, shown, steps = scenario
    ids = create()
    arguments = ids | ({"includeValue": True} if kind == "api_key" else {})

    def plans(wanted):
        responses = [getattr(aws, "get_" + kind)(**arguments) for _ in range(2)]
        found = [{name: it for name, it in response.items() if name != "ResponseMetadata"} for response in responses]
        assert found[0] == found[1], found
        return list(differences(wanted, found[0], f"{kind} {shown}"))

    faults = plans(shown)
    for operations, changed in steps:
        getattr(aws, "update_" + kind)(**ids, patchOperations=operations)
        shown = shown | changed
        faults += plans(shown)
    getattr(aws, "delete_" + kind)(**ids)
    try:
        getattr(aws, "get_" + kind)(**arguments)
        faults.append(f"{kind} {ids} is there after it was destroyed")
    except ClientError as error:
        assert error.response["Error"]["Code"] == "NotFoundException", error
    return faults


with ThreadPoolExecutor(10) as pool:
    faults = [fault for found in pool.map(run, SCENARIOS) for fault in found]
assert not faults, "\n".join(faults)

# Stages come and go on a plan, which serves none after the last.
ids, (one, two) = plan_of_stages(), plan.served
names = [f"{it['apiId']}:{it['stage']}" for it in (one, two)]
found = lambda: [(it["apiId"], it.get("throttle")) for it in aws.get_usage_plan(**ids)["apiStages"]]
for operations, expected in [
    (remove("/apiStages", names[0]) + remove("/apiStages", names[1]) + add("/apiStages", names[1])
     + replace((f"/apiStages/{names[1]}/throttle///GET/rateLimit", "5"), (f"/apiStages/{names[1]}/throttle///GET/burstLimit", "6")),
     [(two["apiId"], {"//GET": {"rateLimit": 5.0, "burstLimit": 6}})]),
    (remove("/apiStages", names[1]), []),
    (add("/apiStages", names[0]), [(one["apiId"], None)]),
]:
    aws.update_usage_plan(**ids, patchOperations=operations)
    assert found() == expected, (operations, found())
aws.update_usage_plan(**ids, patchOperations=remove("/apiStages", names[0]))
aws.delete_usage_plan(**ids)

# The account has no creation and no deletion.
for arn in ("arn:aws:iam::123456789012:role/logs", ""):
    aws.update_account(patchOperations=replace(cloudwatchRoleArn=arn))
    assert aws.get_account().get("cloudwatchRoleArn", "") == arn
