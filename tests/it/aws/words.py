"""Errors in AWS' words, which programs search: what moto's tests hold of AWS, and Tollgate as well.

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
aws.put_integration(**GET, type="MOCK")
HTTP = {**GET, "type": "HTTP", "integrationHttpMethod": "GET"}
LAMBDA = {**GET, "type": "AWS_PROXY", "integrationHttpMethod": "POST"}
plan = aws.create_usage_plan(name="basic")["id"]
NOT_FOUND, BAD = ("NotFoundException", 404), ("BadRequestException", 400)

for operation, arguments, expected, words in [
    ("get_rest_api", {"restApiId": "none"}, NOT_FOUND, "Invalid API identifier specified"),
    ("get_stage", {**API, "stageName": "none"}, NOT_FOUND, "Invalid stage identifier specified"),
    ("delete_stage", {**API, "stageName": "none"}, NOT_FOUND, "Invalid stage identifier specified"),
    ("get_export", {**API, "stageName": "none", "exportType": "a"}, NOT_FOUND, "Invalid stage identifier specified"),
    ("get_method", {**ROOT, "httpMethod": "POST"}, NOT_FOUND, "Invalid Method identifier specified"),
    ("get_method_response", {**GET, "statusCode": "300"}, NOT_FOUND, "Invalid Response status code specified"),
    ("get_integration_response", {**GET, "statusCode": "300"}, NOT_FOUND, "Invalid Response status code specified"),
    ("delete_integration_response", {**GET, "statusCode": "300"}, NOT_FOUND, "Invalid Response status code specified"),
    ("get_api_key", {"apiKey": "none"}, NOT_FOUND, "Invalid API Key identifier specified"),
    ("create_usage_plan_key", {"usagePlanId": plan, "keyId": "none", "keyType": "API_KEY"}, NOT_FOUND,
     "Invalid API Key identifier specified"),
    ("put_integration", {**GET, "type": "HTTP", "uri": "http://a"}, BAD,
     "Enumeration value for HttpMethod must be non-empty"),
    ("put_integration", {**HTTP, "uri": "non-valid-http"}, BAD, "Invalid HTTP endpoint specified for URI"),
    ("put_integration", {**LAMBDA, "uri": "non-valid-arn"}, BAD, "Invalid ARN specified in the request"),
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
