"""Errors in AWS' words, which programs search. They are those that LocalStack has recorded of AWS, and moto's tests where that has none.

Arguments: the admin API's URL and the checks' URL.
"""

import sys

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

admin, _ = sys.argv[1:]
aws = boto3.client(
    "apigateway", endpoint_url=admin, region_name="eu-central-1",
    config=Config(retries={"max_attempts": 0}, proxies={}))
api = aws.create_rest_api(name="one")
API, ROOT = {"restApiId": api["id"]}, {"restApiId": api["id"], "resourceId": api["rootResourceId"]}
GET = {**ROOT, "httpMethod": "GET"}
aws.put_method(**GET, authorizationType="NONE")
aws.put_method_response(**GET, statusCode="200")
aws.put_integration(**GET, type="MOCK")
HTTP = {**GET, "type": "HTTP", "integrationHttpMethod": "GET"}
LAMBDA = {**GET, "type": "AWS_PROXY", "integrationHttpMethod": "POST"}
plan = aws.create_usage_plan(name="basic")["id"]
child = aws.create_resource(restApiId=api["id"], parentId=api["rootResourceId"], pathPart="{proxy+}")["id"]
CHILD = {"restApiId": api["id"], "parentId": child}
BELOW_ROOT = {"restApiId": api["id"], "parentId": api["rootResourceId"]}
BUCKET = "arn:aws:apigateway:us-west-2:s3:path/b/k"
ROLE = {"credentials": "arn:aws:iam::123456789012:role/a"}
NO_AUTHORIZER = (
    "Invalid authorizer ID specified. Setting the authorization type to CUSTOM or COGNITO_USER_POOLS requires a valid "
    "authorizer.")
NOT_FOUND, BAD, INVALID = ("NotFoundException", 404), ("BadRequestException", 400), ("ValidationException", 400)


def replaced(path, value, op="replace"):
    return {"patchOperations": [{"op": op, "path": path, "value": value}]}


# Types of authorization in any case.
made = aws.put_method(**ROOT, httpMethod="PUT", authorizationType="none")
assert made["authorizationType"] == "NONE", made

for operation, arguments, expected, words in [
    ("get_rest_api", {"restApiId": "none"}, NOT_FOUND, "Invalid API identifier specified"),
    ("get_stage", {**API, "stageName": "none"}, NOT_FOUND, "Invalid stage identifier specified"),
    ("get_stage", {"restApiId": "none", "stageName": "none"}, NOT_FOUND, "Invalid stage identifier specified"),
    ("get_export", {"restApiId": "none", "stageName": "none", "exportType": "a"}, NOT_FOUND,
     "Invalid stage identifier specified"),
    ("get_method", {"restApiId": "none", "resourceId": "none", "httpMethod": "GET"}, NOT_FOUND,
     "Invalid Resource identifier specified"),
    ("delete_stage", {**API, "stageName": "none"}, NOT_FOUND, "Invalid stage identifier specified"),
    ("get_export", {**API, "stageName": "none", "exportType": "a"}, NOT_FOUND, "Invalid stage identifier specified"),
    ("get_method", {**ROOT, "httpMethod": "POST"}, NOT_FOUND, "Invalid Method identifier specified"),
    ("get_method_response", {**GET, "statusCode": "300"}, NOT_FOUND, "Invalid Response status code specified"),
    ("get_method_response", {**GET, "statusCode": "wrong"}, INVALID,
     "1 validation error detected: Value 'wrong' at 'statusCode' failed to satisfy constraint: "
     "Member must satisfy regular expression pattern: [1-5]\\d\\d"),
    ("get_integration_response", {**GET, "statusCode": "300"}, NOT_FOUND, "Invalid Response status code specified"),
    ("delete_integration_response", {**GET, "statusCode": "300"}, NOT_FOUND, "Invalid Response status code specified"),
    ("get_api_key", {"apiKey": "none"}, NOT_FOUND, "Invalid API Key identifier specified"),
    ("create_usage_plan_key", {"usagePlanId": plan, "keyId": "none", "keyType": "API_KEY"}, NOT_FOUND,
     "Invalid API Key identifier specified"),
    ("put_integration", {**GET, "type": "HTTP", "uri": "http://a"}, BAD,
     "Enumeration value for HttpMethod must be non-empty"),
    ("put_integration", {**HTTP, "uri": "non-valid-http"}, BAD, "Invalid HTTP endpoint specified for URI"),
    ("put_integration", {**LAMBDA, "uri": "non-valid-arn"}, BAD, "Invalid ARN specified in the request"),
    ("put_integration", {**LAMBDA, "uri": "arn:aws:iam::0000000000:role/service-role/asdf"}, BAD,
     "AWS ARN for integration must contain path or action"),
    ("put_integration", {**LAMBDA, **ROLE, "uri": BUCKET}, BAD,
     "Integrations of type 'AWS_PROXY' currently only supports Lambda function and Firehose stream invocations."),
    ("put_integration", {**LAMBDA, "type": "AWS", "uri": BUCKET}, BAD, "Role ARN must be specified for AWS integrations"),
    ("put_integration", {**GET, "type": "HTTPS_PROXY"}, INVALID,
     "1 validation error detected: Value 'HTTPS_PROXY' at 'putIntegrationInput.type' failed to satisfy constraint: "
     "Member must satisfy enum value set: [HTTP, AWS, MOCK, HTTP_PROXY, AWS_PROXY]"),
    ("create_rest_api", {"name": "a", "apiKeySource": "other"}, INVALID,
     "1 validation error detected: Value 'other' at 'createRestApiInput.apiKeySource' failed to satisfy constraint: "
     "Member must satisfy enum value set: [HEADER, AUTHORIZER]"),
    ("create_rest_api", {"name": "a", "endpointConfiguration": {"types": ["INVALID"]}}, INVALID,
     "Value '[INVALID]' at 'createRestApiInput.endpointConfiguration.types' failed to satisfy constraint: "
     "Member must satisfy constraint: [Member must satisfy enum value set: [EDGE, REGIONAL, PRIVATE]]"),
    ("create_rest_api", {"name": "a", "endpointConfiguration": {"types": ["PRIVATE"], "ipAddressType": "ipv4"}}, BAD,
     "Only dualstack ipAddressType is supported for Private APIs."),
    ("create_rest_api", {"name": "a", "description": ""}, BAD, "Description cannot be an empty string"),
    ("create_rest_api", {"name": "a", "endpointConfiguration": {"types": []}}, BAD,
     "REGIONAL Configuration and EDGE Configuration cannot be both DISABLED."),
    ("create_rest_api", {"name": "a", "endpointConfiguration": {"types": ["EDGE", "REGIONAL"]}}, BAD,
     "Cannot create an api with multiple Endpoint Types."),
    ("create_rest_api", {"name": "a", "policy": "{"}, BAD,
     "Invalid policy document. Please check the policy syntax and ensure that Principals are valid."),
    ("update_stage", {**API, "stageName": "none", **replaced("/a", "b", "unknown_op")}, NOT_FOUND,
     "Invalid stage identifier specified"),
    ("update_rest_api", {**API, **replaced("/description", "b", "unknown_op")}, INVALID,
     "Member must satisfy enum value set: [add, remove, move, test, replace, copy]"),
    ("update_rest_api", {**API, "patchOperations": 2 * replaced("/description", "b", "wrong")["patchOperations"]}, INVALID,
     "2 validation errors detected: Value 'wrong' at 'patchOperations.1.member.op' failed to satisfy constraint: "
     "Member must satisfy enum value set: [add, remove, move, test, replace, copy]; "
     "Value 'wrong' at 'patchOperations.2.member.op' failed to satisfy constraint: "
     "Member must satisfy enum value set: [add, remove, move, test, replace, copy]"),
    ("update_resource", {**ROOT, **replaced("/pathPart", "a")}, BAD, "Root resource cannot update its pathPart."),
    ("update_resource", {**API, "resourceId": child, **replaced("/parentId", child)}, BAD, "Resources cannot be cyclical."),
    ("update_resource", {**API, "resourceId": child, **replaced("/invalid", "a")}, BAD,
     "Invalid patch path  '/invalid' specified for op 'replace'. Must be one of: [/parentId, /pathPart]"),
    ("update_resource", {**API, "resourceId": child, **replaced("/pathPart", "a", "add")}, BAD,
     "Invalid patch path  '/pathPart' specified for op 'add'. Please choose supported operations"),
    ("put_method", {**ROOT, "httpMethod": "POST", "authorizationType": "CUSTOM"}, BAD, NO_AUTHORIZER),
    ("update_method", {**GET, **replaced("/authorizationType", "COGNITO_USER_POOLS")}, BAD, NO_AUTHORIZER),
    ("put_method", {**ROOT, "httpMethod": "POST", "authorizationType": "NONE", "requestParameters": {
        "method.request.header.id": True, "method.request.querystring.id": False}}, BAD,
     "Parameter names must be unique across querystring, header and path"),
    ("update_method_response", {**GET, "statusCode": "200", **replaced("/responseParameters/wrong", "true")}, NOT_FOUND,
     "Invalid parameter name specified"),
    ("update_method_response", {**GET, "statusCode": "200", **replaced("/responseModels/wrong", "Empty", "remove")},
     NOT_FOUND, "Content-Type specified was not found"),
    ("create_deployment", {**API, "canarySettings": {"percentTraffic": 50}}, BAD,
     "Non null and non empty stageName must be provided for canary deployment. Provided value is null"),
    ("create_deployment", {**API, "stageName": "new", "canarySettings": {"percentTraffic": 50}}, BAD,
     "Stage new must already be created before making a canary release deployment"),
    ("create_resource", {**CHILD, "pathPart": "a"}, BAD,
     "Cannot create a child of a resource with a greedy path variable: {proxy+}"),
    *(("create_resource", {**BELOW_ROOT, "pathPart": part}, BAD,
       f"Resource's path part only allow a-zA-Z0-9._-: or a valid greedy path variable and curly braces at the beginning "
       f"and the end: {part}")
      for part in ("/users", "users/", "users/{user_id}", "us{er", "us+er", "pets;v=1", "a,b", "a~b", "{id}.html")),
    ("put_method", {**ROOT, "httpMethod": "OTHER", "authorizationType": "NONE"}, BAD,
     "Invalid HttpMethod specified. Valid options are ANY,DELETE,GET,HEAD,OPTIONS,PATCH,POST,PUT"),
    ("get_usage_plan", {"usagePlanId": "none"}, NOT_FOUND, "Invalid Usage Plan ID specified"),
    ("delete_usage_plan", {"usagePlanId": "none"}, NOT_FOUND, "Invalid Usage Plan ID specified"),
    ("get_usage_plan_keys", {"usagePlanId": "none"}, NOT_FOUND, "Invalid Usage Plan ID specified"),
    ("create_usage_plan", {"name": "a", "apiStages": [{"apiId": "foo", "stage": "bar"}],
                           "tags": {"_custom_id_": "made"}}, NOT_FOUND,
     "Invalid API Stage {api: foo, stage: bar} specified for usageplan made"),
    ("update_usage_plan", {"usagePlanId": plan, **replaced("/apiStages", f"{api['id']}:none", "add")}, NOT_FOUND,
     f"Invalid API Stage {{api: {api['id']}, stage: none}} specified for usageplan {plan}"),
    ("update_usage_plan", {"usagePlanId": plan, **replaced("/apiStages", "foo:bar", "remove")}, NOT_FOUND,
     f"Invalid API Stage {{api: foo, stage: bar}} specified for usageplan {plan}"),
    ("update_account", replaced("/features", "UsagePlans", "remove"), BAD, "Usage Plans cannot be disabled once enabled"),
    ("put_rest_api", {**API, "mode": "other", "body": b"{}"}, BAD,
     'Enumeration value of OpenAPI import mode must be "overwrite" or "merge"'),
]:
    try:
        getattr(aws, operation)(**arguments)
    except ClientError as error:
        said, status = error.response["Error"], error.response["ResponseMetadata"]["HTTPStatusCode"]
        assert (said["Code"], status) == expected, (operation, error)
        assert said["Message"].endswith(words), (operation, said["Message"], words)
    else:
        raise AssertionError(f"{operation} took {arguments}")

aws.delete_resource(**API, resourceId=child)
for part in ("users", "{user_id}", "us:er_0-9.-"):
    made = aws.create_resource(**BELOW_ROOT, pathPart=part)
    aws.delete_resource(**API, resourceId=made["id"])
assert aws.get_account()["throttleSettings"] == {"burstLimit": -1, "rateLimit": -1.0}
