"""Makes the calls of Terraform's AWS provider with boto3: a program that uses every resource is created, read by a
second plan, updated and destroyed.

The paths and values of the patches are those that the provider sends: resource paths as people write them, numbers
with six decimals, removals before additions. Arguments: the admin API's URL and the checks' URL.
"""

import sys

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

admin, _ = sys.argv[1:]
aws = boto3.client(
    "apigateway", endpoint_url=admin, region_name="eu-central-1",
    config=Config(retries={"max_attempts": 0}, proxies={}))


def patch(update, ids, *operations):
    operations = [{"op": op, "path": path} | ({} if value is None else {"value": value}) for op, path,
    value in operations]
    getattr(aws, update)(**ids, patchOperations=operations)


def holds(response, wanted, at=""):
    """Every member that the program declares is shown as it declares it."""
    for name, value in wanted.items():
        found = response.get(name)
        if isinstance(value, dict) and isinstance(found, dict):
            holds(found, value, f"{at}/{name}")
        else:
            assert found == value, f"{at}/{name} is {found!r} instead of {value!r}"


def gone(get, **ids):
    try:
        getattr(aws, get)(**ids)
    except ClientError as error:
        assert error.response["Error"]["Code"] == "NotFoundException", error
        return
    raise AssertionError(f"{get} finds what was destroyed: {ids}")


# create
patch("update_account", {}, ("replace", "/cloudwatchRoleArn", "arn:aws:iam::123456789012:role/logs"))
api = aws.create_rest_api(
    name="models", description="Models", apiKeySource="HEADER", binaryMediaTypes=["image/png"],
    endpointConfiguration={"types": ["REGIONAL"], "ipAddressType": "ipv4"}, minimumCompressionSize=1024,
    policy='{"Version":"2012-10-17","Statement":[]}', tags={"team": "ml"}, disableExecuteApiEndpoint=False)
API, root = api["id"], [r["id"] for r in aws.get_resources(restApiId=api["id"])["items"] if r["path"] == "/"][0]
CHAT = aws.create_resource(restApiId=API, parentId=root, pathPart="chat")["id"]
COMPLETIONS = aws.create_resource(restApiId=API, parentId=CHAT, pathPart="completions")["id"]
post = {"restApiId": API, "resourceId": COMPLETIONS, "httpMethod": "POST"}
aws.put_method(
    **post, authorizationType="NONE", apiKeyRequired=True, operationName="Complete",
    requestModels={"application/json": "Empty"},
    requestParameters={"method.request.header.X-Model": True})
aws.put_method_response(
    **post, statusCode="200", responseModels={"application/json": "Empty"},
    responseParameters={"method.response.header.X-Model": True})
aws.put_integration(
    **post, type="HTTP", integrationHttpMethod="POST", uri="http://127.0.0.1:9/chat", timeoutInMillis=29000,
    passthroughBehavior="WHEN_NO_MATCH", requestTemplates={"application/json": "{}"},
    requestParameters={"integration.request.header.X-Model": "method.request.header.X-Model"})
aws.put_integration_response(
    **post, statusCode="200", selectionPattern="2\\d\\d", responseTemplates={"application/json": ""},
    responseParameters={"method.response.header.X-Model": "integration.response.header.X-Model"})
DEP = aws.create_deployment(restApiId=API, description="first")["id"]
stage = {"restApiId": API, "stageName": "prod"}
made = aws.create_stage(
    **stage, deploymentId=DEP, variables={"model": "small"}, cacheClusterEnabled=True, cacheClusterSize="0.5",
    tracingEnabled=True, tags={"team": "ml"},
    canarySettings={"deploymentId": DEP, "percentTraffic": 0.0, "useStageCache": False})
assert made["cacheClusterStatus"] == "AVAILABLE", made
patch("update_stage", stage,
    ("replace", "/accessLogSettings/destinationArn", "arn:aws:logs:eu-central-1:123456789012:log-group:x"),
    ("replace", "/accessLogSettings/format", "$context.requestId"))
for path in ("*/*", "chat/completions/POST", "/GET"):
    patch("update_stage", stage,
        ("replace", f"/{path}/metrics/enabled", "true"),
        ("replace", f"/{path}/logging/loglevel", "INFO"),
        ("replace", f"/{path}/throttling/burstLimit", "50"),
        ("replace", f"/{path}/throttling/rateLimit", "100.000000"))
KEY = aws.create_api_key(name="acme", description="Managed by Terraform", enabled=True, tags={"team": "ml"})["id"]
PLAN = aws.create_usage_plan(
    name="gold", description="Gold", tags={"team": "ml"}, quota={"limit": 1000, "offset": 0, "period": "MONTH"},
    throttle={"burstLimit": 20, "rateLimit": 10.0},
    apiStages=[{"apiId": API, "stage": "prod", "throttle": {"/chat/completions/POST": {"burstLimit": 2,
    "rateLimit": 1.0}}}])["id"]
patch("update_usage_plan", {"usagePlanId": PLAN}, ("add", "/productCode", "abc"))
aws.create_usage_plan_key(usagePlanId=PLAN, keyId=KEY, keyType="API_KEY")

# read: the second plan finds no difference
settings = {"metricsEnabled": True, "loggingLevel": "INFO", "throttlingBurstLimit": 50, "throttlingRateLimit": 100.0}
program = {
    ("get_account",): {"cloudwatchRoleArn": "arn:aws:iam::123456789012:role/logs"},
    ("get_rest_api", ("restApiId", API)): {
        "name": "models", "description": "Models", "apiKeySource": "HEADER", "binaryMediaTypes": ["image/png"],
        "minimumCompressionSize": 1024, "policy": r'{\"Version\":\"2012-10-17\",\"Statement\":[]}', "tags": {"team": "ml"},
        "disableExecuteApiEndpoint": False, "endpointConfiguration": {"types": ["REGIONAL"],
        "ipAddressType": "ipv4"}},
    ("get_resource", ("restApiId", API), ("resourceId", COMPLETIONS)): {
        "parentId": CHAT, "pathPart": "completions", "path": "/chat/completions"},
    ("get_method", *post.items()): {
        "authorizationType": "NONE", "apiKeyRequired": True, "operationName": "Complete",
        "requestModels": {"application/json": "Empty"}, "requestParameters": {"method.request.header.X-Model": True}},
    ("get_method_response", *post.items(), ("statusCode", "200")): {
        "responseModels": {"application/json": "Empty"},
        "responseParameters": {"method.response.header.X-Model": True}},
    ("get_integration", *post.items()): {
        "type": "HTTP", "httpMethod": "POST", "uri": "http://127.0.0.1:9/chat", "timeoutInMillis": 29000,
        "connectionType": "INTERNET", "passthroughBehavior": "WHEN_NO_MATCH",
        "requestTemplates": {"application/json": "{}"},
        "cacheNamespace": COMPLETIONS, "cacheKeyParameters": [],
        "requestParameters": {"integration.request.header.X-Model": "method.request.header.X-Model"}},
    ("get_integration_response", *post.items(), ("statusCode", "200")): {
        "selectionPattern": "2\\d\\d", "responseTemplates": {"application/json": ""},
        "responseParameters": {"method.response.header.X-Model": "integration.response.header.X-Model"}},
    ("get_deployment", ("restApiId", API), ("deploymentId", DEP)): {"description": "first"},
    ("get_stage", *stage.items()): {
        "deploymentId": DEP, "variables": {"model": "small"}, "cacheClusterEnabled": True, "cacheClusterSize": "0.5",
        "cacheClusterStatus": "AVAILABLE", "tracingEnabled": True, "tags": {"team": "ml"},
        "accessLogSettings": {"destinationArn": "arn:aws:logs:eu-central-1:123456789012:log-group:x",
        "format": "$context.requestId"},
        "canarySettings": {"percentTraffic": 0.0, "useStageCache": False},
        "methodSettings": {"*/*": settings, "chat/completions/POST": settings, "/GET": settings}},
    ("get_api_key", ("apiKey", KEY)): {
        "name": "acme", "description": "Managed by Terraform", "enabled": True, "tags": {"team": "ml"}},
    ("get_usage_plan", ("usagePlanId", PLAN)): {
        "name": "gold", "description": "Gold", "productCode": "abc", "tags": {"team": "ml"},
        "quota": {"limit": 1000, "offset": 0, "period": "MONTH"}, "throttle": {"burstLimit": 20, "rateLimit": 10.0},
        "apiStages": [{"apiId": API, "stage": "prod", "throttle": {"/chat/completions/POST": {"burstLimit": 2,
        "rateLimit": 1.0}}}]},
    ("get_usage_plan_key", ("usagePlanId", PLAN), ("keyId", KEY)): {"id": KEY, "type": "API_KEY", "name": "acme"},
}


def read():
    for (get, *ids), wanted in program.items():
        holds(getattr(aws, get)(**dict(ids)), wanted, get)


read()

# update: each change as the provider sends it, and then no difference again
rest_api = program["get_rest_api", ("restApiId", API)]
patch("update_rest_api", {"restApiId": API},
    ("remove", "/binaryMediaTypes/image~1png", None),
    ("add", "/binaryMediaTypes/image~1jpeg", None),
    ("replace", "/description", "2026"),
    ("replace", "/disableExecuteApiEndpoint", "true"),
    ("replace", "/minimumCompressionSize", None),
    ("replace", "/endpointConfiguration/types/0", "PRIVATE"),
    ("replace", "/endpointConfiguration/ipAddressType", "dualstack"),
    ("add", "/endpointConfiguration/vpcEndpointIds", "vpce-1"),
    ("replace", "/name", "models-2"))
rest_api.update(
    name="models-2", description="2026", binaryMediaTypes=["image/jpeg"], disableExecuteApiEndpoint=True,
    minimumCompressionSize=None,
    endpointConfiguration={"types": ["PRIVATE"], "ipAddressType": "dualstack", "vpcEndpointIds": ["vpce-1"]})
patch("update_method", post,
    ("remove", "/requestParameters/method.request.header.X-Model", None),
    ("add", "/requestParameters/method.request.header.X-Size", "false"),
    ("replace", "/operationName", None),
    ("replace", "/apiKeyRequired", "false"))
program["get_method", *post.items()].update(
    apiKeyRequired=False, operationName=None, requestParameters={"method.request.header.X-Size": False})
patch("update_integration", post,
    ("replace", "/requestTemplates/application~1json", '{"a": 1}'),
    ("replace", "/uri", "http://127.0.0.1:9/2"),
    ("replace", "/timeoutInMillis", "1000"),
    ("add", "/cacheKeyParameters/method.request.header.X-Size", ""),
    ("replace", "/contentHandling", "CONVERT_TO_TEXT"),
    ("replace", "/tlsConfig/insecureSkipVerification", "true"))
program["get_integration", *post.items()].update(
    requestTemplates={"application/json": '{"a": 1}'}, uri="http://127.0.0.1:9/2", timeoutInMillis=1000,
    cacheKeyParameters=["method.request.header.X-Size"], contentHandling="CONVERT_TO_TEXT",
    tlsConfig={"insecureSkipVerification": True})
second = aws.create_deployment(restApiId=API, description="second")["id"]
patch("update_stage", stage,
    ("replace", "/cacheClusterEnabled", "false"),
    ("replace", "/canarySettings/stageVariableOverrides/model", "large"),
    ("replace", "/canarySettings/percentTraffic", "33.300000"),
    ("replace", "/deploymentId", second),
    ("replace", "/canarySettings/deploymentId", second),
    ("replace", "/tracingEnabled", "false"),
    ("remove", "/variables/model", None),
    ("replace", "/variables/size", "7"),
    ("remove", "/accessLogSettings", None))
aws.delete_deployment(restApiId=API, deploymentId=DEP)
del program["get_deployment", ("restApiId", API), ("deploymentId", DEP)]
program["get_stage", *stage.items()].update(
    deploymentId=second, cacheClusterEnabled=False, cacheClusterStatus="NOT_AVAILABLE", cacheClusterSize="0.5",
    tracingEnabled=False,
    variables={"size": "7"}, accessLogSettings=None,
    canarySettings={"deploymentId": second, "percentTraffic": 33.3, "stageVariableOverrides": {"model": "large"}})
patch("update_stage", stage, ("replace", "/chat/completions/POST/throttling/rateLimit", "-1.000000"))
program["get_stage", *stage.items()]["methodSettings"] = {
    "*/*": settings, "chat/completions/POST": settings | {"throttlingRateLimit": -1.0}, "/GET": settings}
served = f"{API}:prod"
patch("update_usage_plan", {"usagePlanId": PLAN},
    ("remove", "/productCode", None),
    ("remove", "/apiStages", served),
    ("add", "/apiStages", served),
    ("replace", f"/apiStages/{served}/throttle//chat/completions/POST/rateLimit", "3"),
    ("replace", f"/apiStages/{served}/throttle//chat/completions/POST/burstLimit", "4"),
    ("replace", f"/apiStages/{served}/throttle///GET/rateLimit", "5"),
    ("replace", f"/apiStages/{served}/throttle///GET/burstLimit", "6"),
    ("replace", "/throttle/rateLimit", "2.5"),
    ("replace", "/throttle/burstLimit", "9"),
    ("replace", "/quota/limit", "7"),
    ("replace", "/quota/offset", "2"),
    ("replace", "/quota/period", "WEEK"))
program["get_usage_plan", ("usagePlanId", PLAN)].update(
    productCode=None, throttle={"rateLimit": 2.5, "burstLimit": 9}, quota={"limit": 7, "offset": 2, "period": "WEEK"},
    apiStages=[{"apiId": API, "stage": "prod", "throttle": {
        "/chat/completions/POST": {"rateLimit": 3.0, "burstLimit": 4}, "//GET": {"rateLimit": 5.0,
        "burstLimit": 6}}}])
patch("update_resource", {"restApiId": API, "resourceId": CHAT}, ("replace", "/pathPart", "talk"))
program["get_resource", ("restApiId", API), ("resourceId", COMPLETIONS)].update(path="/talk/completions")
read()

# destroy, in the provider's order
aws.delete_usage_plan_key(usagePlanId=PLAN, keyId=KEY)
patch("update_usage_plan", {"usagePlanId": PLAN}, ("remove", "/apiStages", served))
aws.delete_usage_plan(usagePlanId=PLAN)
aws.delete_api_key(apiKey=KEY)
for path in ("*/*", "chat/completions/POST", "/GET"):
    patch("update_stage", stage, ("remove", f"/{path}", None))
assert aws.get_stage(**stage)["methodSettings"] == {}
aws.delete_stage(**stage)
aws.delete_deployment(restApiId=API, deploymentId=second)
aws.delete_integration_response(**post, statusCode="200")
gone("get_integration_response", **post, statusCode="200")
aws.delete_integration(**post)
gone("get_integration", **post)
aws.delete_method_response(**post, statusCode="200")
gone("get_method_response", **post, statusCode="200")
aws.delete_method(**post)
gone("get_method", **post)
aws.delete_resource(restApiId=API, resourceId=COMPLETIONS)
aws.delete_resource(restApiId=API, resourceId=CHAT)
aws.delete_rest_api(restApiId=API)
gone("get_rest_api", restApiId=API)
gone("get_usage_plan", usagePlanId=PLAN)
