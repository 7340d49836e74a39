"""Imports APIs from OpenAPI documents with boto3, changes them by further documents, and exports them.

Arguments: the admin API's URL and the checks' URL.
"""

import json
import sys
import urllib.error
import urllib.request

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

admin, checks = sys.argv[1:]
aws = boto3.client(
    "apigateway", endpoint_url=admin, region_name="eu-central-1",
    config=Config(retries={"max_attempts": 0}, proxies={}))
plain = urllib.request.build_opener(urllib.request.ProxyHandler({}))

KEY = {"type": "apiKey", "name": "x-api-key", "in": "header"}
BACKEND = {"type": "http_proxy", "httpMethod": "POST", "uri": "https://models.example/chat", "passthroughBehavior": "never"}
CHAT = {
    "openapi": "3.0.1",
    "info": {"title": "models", "description": "Chat", "version": "2"},
    "paths": {"/v1/chat/completions": {
        "post": {
            "operationId": "complete", "security": [{"key": []}],
            "parameters": [{"name": "X-Model", "in": "header", "required": True, "schema": {"type": "string"}}],
            "requestBody": {"content": {"application/json": {"schema": {"$ref": "#/components/schemas/Chat"}}}},
            "responses": {"200": {"description": "OK"}},
            "x-amazon-apigateway-integration": {**BACKEND, "responses": {"default": {"statusCode": "200"}}}},
        "options": {"responses": {"204": {"description": "OK"}}, "security": []}}},
    "components": {"securitySchemes": {"key": KEY}, "schemas": {"Chat": {"type": "object"}}},
    "x-amazon-apigateway-api-key-source": "HEADER",
    "x-amazon-apigateway-policy": {"Version": "2012-10-17", "Statement": []},
}
HEALTH = """
swagger: "2.0"
info: { title: health, version: 1.0 }
security: [ { key: [] } ]
securityDefinitions: { key: { type: apiKey, name: X-API-Key, in: header } }
paths:
  /health:
    x-amazon-apigateway-any-method:
      security: []
      responses: { 200: { description: OK } }
  /v1/models:
    get: { responses: { 200: { description: OK } } }
"""


def check(**body):
    request = urllib.request.Request(checks + "/check", json.dumps(body).encode())
    try:
        return json.load(plain.open(request))
    except urllib.error.HTTPError as error:
        return json.load(error)


def refused(said, status, operation, **arguments):
    before = aws.get_rest_apis()["items"]
    try:
        getattr(aws, operation)(**arguments)
    except ClientError as error:
        assert error.response["ResponseMetadata"]["HTTPStatusCode"] == status, error
        assert said in error.response["Error"]["Message"], error
        assert aws.get_rest_apis()["items"] == before
        return
    raise AssertionError(f"{operation} took {arguments}")


def methods(api):
    """The methods of an API by their names, without ids."""
    found = {}
    for resource in aws.get_resources(restApiId=api, limit=500, embed=["methods"])["items"]:
        for name, method in resource.get("resourceMethods", {}).items():
            method.get("methodIntegration", {}).pop("cacheNamespace", None)
            found[f"{name} {resource['path']}"] = method
    return found


def paths(api):
    return sorted(resource["path"] for resource in aws.get_resources(restApiId=api, limit=500)["items"])


def exported(api, kind="oas30", accepts="application/json", **parameters):
    response = aws.get_export(restApiId=api, stageName="prod", exportType=kind, parameters=parameters, accepts=accepts)
    assert response["contentType"] == "application/octet-stream", response
    assert response["contentDisposition"] == f'attachment; filename="{kind}.{accepts[-4:]}"', response
    return response["body"].read()


# An import makes an API whose methods need a key, or need none, as the document says.
api = aws.import_rest_api(
    body=json.dumps(CHAT).encode(), failOnWarnings=True,
    parameters={"endpointConfigurationTypes": "REGIONAL", "ignore": "documentation"})
API = api["id"]
assert "warnings" not in api, api
assert (api["name"], api["description"], api["version"]) == ("models", "Chat", "2"), api
assert (api["apiKeySource"], api["endpointConfiguration"]["types"]) == ("HEADER", ["REGIONAL"]), api
# AWS returns a policy with its quotes escaped, and its clients undo that.
assert json.loads(json.loads(f'"{api["policy"]}"')) == {"Version": "2012-10-17", "Statement": []}, api
assert paths(API) == ["/", "/v1", "/v1/chat", "/v1/chat/completions"]
post = methods(API)["POST /v1/chat/completions"]
assert (post["apiKeyRequired"], post["operationName"]) == (True, "complete"), post
assert post["requestParameters"] == {"method.request.header.X-Model": True}, post
assert post["requestModels"] == {"application/json": "Chat"}, post
assert post["methodResponses"] == {"200": {"statusCode": "200"}}, post
backend = post["methodIntegration"]
assert (backend["type"], backend["passthroughBehavior"]) == ("HTTP_PROXY", "NEVER"), backend
assert backend["integrationResponses"] == {"200": {"statusCode": "200"}}, backend
aws.create_deployment(restApiId=API, stageName="prod")
plan = aws.create_usage_plan(name="basic", apiStages=[{"apiId": API, "stage": "prod"}], quota={"limit": 9, "period": "DAY"})
key = aws.create_api_key(name="acme", enabled=True)
aws.create_usage_plan_key(usagePlanId=plan["id"], keyId=key["id"], keyType="API_KEY")
at = {"api": API, "stage": "prod", "path": "/v1/chat/completions"}
assert check(**at, method="POST", api_key=key["value"])["allowed"]
assert check(**at, method="OPTIONS")["allowed"]
assert not check(**at, method="POST").get("allowed")

# An export of it defines the same API, in each format.
own = methods(API)
for kind in ("oas30", "swagger"):
    for accepts in ("application/json", "application/yaml"):
        document = exported(API, kind, accepts, extensions="apigateway")
        copy = aws.import_rest_api(body=document, failOnWarnings=True)["id"]
        assert methods(copy) == own, (kind, accepts, document)
        same = ("name", "description", "version", "apiKeySource", "policy")
        shown = aws.get_rest_api(restApiId=copy)
        assert [shown[member] for member in same] == [api[member] for member in same], shown
        aws.delete_rest_api(restApiId=copy)
written = json.loads(exported(API))
assert "x-amazon-apigateway-policy" not in written and written["servers"] == [{"url": "/prod"}], written
operation = written["paths"]["/v1/chat/completions"]["post"]
assert operation["security"] == [{"api_key": []}] and "x-amazon-apigateway-integration" not in operation, operation
assert "x-amazon-apigateway-integration" in exported(API, extensions="integrations").decode()

# A merge adds and replaces methods and leaves the others.
root = api["rootResourceId"]
merged = aws.put_rest_api(restApiId=API, body=HEALTH.encode())
assert (merged["id"], merged["name"], merged["version"]) == (API, "health", "1.0"), merged
assert (merged["description"], merged["rootResourceId"]) == ("Chat", root), merged
found = methods(API)
assert {**own, **found} == found and set(found) - set(own) == {"ANY /health", "GET /v1/models"}, found
assert found["GET /v1/models"]["apiKeyRequired"] and not found["ANY /health"]["apiKeyRequired"], found

# The stage serves its deployment until the next, and so does its export.
assert set(json.loads(exported(API))["paths"]) == {"/v1/chat/completions"}
assert not check(api=API, stage="prod", method="GET", path="/health").get("allowed")
aws.create_deployment(restApiId=API, stageName="prod")
assert check(api=API, stage="prod", method="GET", path="/health")["allowed"]
assert "/health" in json.loads(exported(API))["paths"]

# Overwriting replaces the definition. The id, the stage and the kind of the endpoint stay.
replaced = aws.put_rest_api(restApiId=API, mode="overwrite", failOnWarnings=True, body=HEALTH.encode())
assert replaced["id"] == API and replaced["rootResourceId"] != root and "description" not in replaced, replaced
assert replaced["endpointConfiguration"]["types"] == ["REGIONAL"], replaced
assert set(methods(API)) == {"ANY /health", "GET /v1/models"} and "policy" not in replaced
assert aws.get_stage(restApiId=API, stageName="prod")["stageName"] == "prod"

# The integration of the first example of Terraform's provider.
proxied = {"openapi": "3.0.1", "info": {"title": "example", "version": "1.0"}, "paths": {"/path1": {"get": {
    "x-amazon-apigateway-integration": {
        "httpMethod": "GET", "payloadFormatVersion": "1.0", "type": "HTTP_PROXY", "uri": "https://example.com/ranges.json"}}}}}
terraformed = aws.create_rest_api(name="example")["id"]
aws.put_rest_api(restApiId=terraformed, mode="overwrite", failOnWarnings=True, body=json.dumps(proxied).encode())
assert methods(terraformed)["GET /path1"]["methodIntegration"]["type"] == "HTTP_PROXY"
aws.delete_rest_api(restApiId=terraformed)

# A part that Tollgate leaves out is a warning, which fails the import if it is to.
warned = {**CHAT, "x-amazon-apigateway-gateway-responses": {"DEFAULT_4XX": {}}}
warned = json.dumps(warned).encode()
made = aws.import_rest_api(body=warned)
assert "gateway responses" in made["warnings"][0], made
refused("x-amazon-apigateway-gateway-responses", 400, "import_rest_api", body=warned, failOnWarnings=True)
refused("x-amazon-apigateway-gateway-responses", 400, "put_rest_api", restApiId=API, body=warned, failOnWarnings=True)

# Faults change nothing, and are named with their place.
refused("paths: it is missing", 400, "import_rest_api", body=b'{"openapi":"3.0.0","info":{"title":"a"}}')
refused("line 2", 400, "import_rest_api", body=b"openapi: 3.0.0\ninfo: [")
refused("openapi: only 3.0 is served", 400, "put_rest_api", restApiId=API, body=b'openapi: 3.1.0')
refused("`openapi`", 400, "import_rest_api", body=b'{"openapi":"3.0.0","openapi":"3.0.0"}')
refused("it is not in UTF-8", 400, "import_rest_api", body=b"\xff")
refused("it is no object", 400, "import_rest_api", body=b"")
refused("more than 6291456 bytes", 400, "import_rest_api", body=b" " * (6291456 + 1))
authorizer = {"type": "apiKey", "name": "Authorization", "in": "header", "x-amazon-apigateway-authorizer": {}}
authorized = {**CHAT, "components": {"securitySchemes": {"key": KEY, "pool": authorizer}}}
refused("components.securitySchemes.pool", 400, "import_rest_api", body=json.dumps(authorized).encode())
backend = json.dumps(CHAT).replace("https://models.example", "models.example").encode()
refused("x-amazon-apigateway-integration: Invalid HTTP endpoint", 400, "import_rest_api", body=backend)
size = {**CHAT, "x-amazon-apigateway-minimum-compression-size": "lots"}
refused("minimumCompressionSize", 400, "put_rest_api", restApiId=API, body=json.dumps(size).encode())
many = {**CHAT, "paths": {f"/p{number}": {} for number in range(10_000)}}
refused("more than 10000 resources", 400, "import_rest_api", body=json.dumps(many).encode())
deep = {**CHAT, "paths": {"/a" * 600: {}}}
refused("1024 bytes", 400, "import_rest_api", body=json.dumps(deep).encode())
laughs = "a: &a [x,x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{name}: &{name} [{','.join(['*' + above] * 10)}]\n" for above, name in zip("abcdef", "bcdefg"))
refused("Invalid OpenAPI input.", 400, "import_rest_api", body=laughs.encode())
refused('must be "overwrite" or "merge"', 400, "put_rest_api", restApiId=API, mode="other", body=HEALTH.encode())
refused("Invalid API identifier", 404, "put_rest_api", restApiId="none", body=HEALTH.encode())
refused("Invalid basepath", 400, "put_rest_api", restApiId=API, body=HEALTH.encode(), parameters={"basepath": "split"})
refused("endpointConfiguration.types' failed to satisfy constraint", 400, "import_rest_api", body=HEALTH.encode(),
        parameters={"endpointConfigurationTypes": "NEAR"})
refused("No API exporter for type 'raml'", 400, "get_export", restApiId=API, stageName="prod", exportType="raml")
refused("Invalid stage identifier", 404, "get_export", restApiId=API, stageName="none", exportType="oas30")
refused("Invalid extensions", 400, "get_export", restApiId=API, stageName="prod", exportType="oas30",
        parameters={"extensions": "all"})
