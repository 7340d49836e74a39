"""Lists the resources of a catalog file (tests/it/control/file_resources.rs) with boto3, which cannot change them.

Arguments: the admin API's URL and the checks' URL.
"""

import sys

import boto3
from botocore.config import Config

admin, _ = sys.argv[1:]
aws = boto3.client(
    "apigateway", endpoint_url=admin, region_name="eu-central-1",
    config=Config(retries={"max_attempts": 0}, proxies={}))


def shown(response):
    return {name: value for name, value in response.items() if name != "ResponseMetadata"}


def listed():
    at = {"restApiId": "m-api"}
    arns = [f"arn:aws:apigateway:eu-central-1::/{path}" for path in (
        "restapis/m-api", "restapis/m-api/stages/prod", "usageplans/m-plan", "apikeys/b-key")]
    return {
        "resources": aws.get_resources(**at, embed=["methods"])["items"],
        "resource": shown(aws.get_resource(**at, resourceId=aws.get_rest_api(**at)["rootResourceId"])),
        "deployments": aws.get_deployments(**at)["items"],
        "deployment": shown(aws.get_deployment(
            **at, deploymentId=aws.get_stage(**at, stageName="prod")["deploymentId"], embed=["apisummary"])),
        "tags": [aws.get_tags(resourceArn=arn)["tags"] for arn in arns],
        "plans": aws.get_usage_plans()["items"],
        "keys": aws.get_api_keys(includeValues=True)["items"],
        "keys of the plan": aws.get_usage_plan_keys(usagePlanId="m-plan")["items"],
        "apis": aws.get_rest_apis()["items"],
        "stages": aws.get_stages(restApiId="m-api")["item"],
    }


def refused(call, **arguments):
    try:
        call(**arguments)
    except aws.exceptions.ConflictException as error:
        response = error.response
        assert response["ResponseMetadata"]["HTTPStatusCode"] == 409, error
        assert "is declared in the catalog file" in response["Error"]["Message"], error
        return
    raise AssertionError(f"{call.__name__} was not refused")


before = listed()
# The dates are the file's: the time at which it was changed.
changed = before["apis"][0]["createdDate"]
for kind in ("apis", "stages", "keys", "deployments"):
    for one in before[kind]:
        assert {one.pop(name) for name in ("createdDate", "lastUpdatedDate") if name in one} == {changed}, one
assert before["apis"] == [{
    "id": "m-api", "name": "m-api", "rootResourceId": "root", "apiKeySource": "HEADER",
    "endpointConfiguration": {"types": ["EDGE"], "ipAddressType": "ipv4"}, "disableExecuteApiEndpoint": False,
}], before["apis"]
assert before["resources"] == [before["resource"]] == [{"id": "root", "path": "/"}], before["resources"]
[deployment] = before["deployments"]
assert deployment == {"id": "file"}, deployment
assert before["deployment"] == {**deployment, "createdDate": changed, "apiSummary": {}}, before["deployment"]
assert before["tags"] == [{}] * 4, before["tags"]
before = listed()
[plan] = before["plans"]
assert plan == {
    "id": "m-plan", "name": "m-plan", "throttle": {"rateLimit": 0.5, "burstLimit": 4},
    "quota": {"limit": 9, "period": "WEEK", "offset": 2},
    "apiStages": [{"apiId": "m-api", "stage": "prod",
                   "throttle": {"/pets/POST": {"rateLimit": 1.0, "burstLimit": 1}}}],
}, plan
keys = [{name: value for name, value in one.items() if not name.endswith("Date")} for one in before["keys"]]
assert keys == [
    {"id": "b-key", "enabled": True, "customerId": "c", "stageKeys": []},
    {"id": "d-key", "enabled": False, "stageKeys": []},
], keys
assert [(key["id"], key["type"]) for key in before["keys of the plan"]] == [("b-key", "API_KEY")], before
[stage] = before["stages"]
assert (stage["stageName"], stage["deploymentId"]) == ("prod", "file"), stage
assert stage["cacheClusterStatus"] == "NOT_AVAILABLE", stage
settings = {path: (of["throttlingRateLimit"], of["throttlingBurstLimit"])
            for path, of in stage["methodSettings"].items()}
assert settings == {"~1pets/GET": (2.0, 2), "*/*": (5.0, 5)}, settings

# Each resource is the same as in its list; what is not there is not found.
assert aws.get_stages(restApiId="m-api", deploymentId="file")["item"] == [stage]
assert aws.get_stages(restApiId="m-api", deploymentId="other")["item"] == []
assert aws.get_usage_plan_key(usagePlanId="m-plan", keyId="b-key")["id"] == "b-key"
assert list(aws.get_usage(usagePlanId="m-plan", startDate="2026-01-01", endDate="2026-01-01")["items"]) == ["b-key"]
for call in (lambda: aws.get_resource(restApiId="m-api", resourceId="other"),
             lambda: aws.get_method(restApiId="m-api", resourceId="root", httpMethod="GET"),
             lambda: aws.get_deployment(restApiId="m-api", deploymentId="other"),
             lambda: aws.get_stage(restApiId="m-api", stageName="other"),
             lambda: aws.get_tags(resourceArn="arn:aws:apigateway:eu-central-1::/restapis/m-api/stages/other")):
    try:
        call()
        raise AssertionError("it is there")
    except aws.exceptions.NotFoundException:
        pass
assert aws.get_usage_plan(usagePlanId="m-plan")["quota"] == plan["quota"]
assert aws.get_api_key(apiKey="b-key", includeValue=True)["customerId"] == "c"
assert aws.get_rest_api(restApiId="m-api")["name"] == "m-api"
assert aws.get_stage(restApiId="m-api", stageName="prod")["methodSettings"] == stage["methodSettings"]

described = [{"op": "replace", "path": "/description", "value": "mine now"}]
refused(aws.update_usage_plan, usagePlanId="m-plan", patchOperations=described)
refused(aws.update_api_key, apiKey="b-key", patchOperations=described)
refused(aws.update_rest_api, restApiId="m-api", patchOperations=described)
refused(aws.update_stage, restApiId="m-api", stageName="prod", patchOperations=described)
refused(aws.delete_usage_plan, usagePlanId="m-plan")
refused(aws.delete_api_key, apiKey="b-key")
refused(aws.delete_rest_api, restApiId="m-api")
refused(aws.delete_stage, restApiId="m-api", stageName="prod")
refused(aws.create_deployment, restApiId="m-api")
refused(aws.create_usage_plan_key, usagePlanId="m-plan", keyId="b-key", keyType="API_KEY")
refused(aws.tag_resource, resourceArn="arn:aws:apigateway:eu-central-1::/restapis/m-api", tags={"a": "b"})
assert listed() == before
