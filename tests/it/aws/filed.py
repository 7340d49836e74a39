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


def listed():
    return {
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
assert before["apis"] == [{"id": "m-api", "name": "m-api"}], before["apis"]
[plan] = before["plans"]
assert plan == {
    "id": "m-plan", "name": "m-plan", "throttle": {"rateLimit": 0.5, "burstLimit": 4},
    "quota": {"limit": 9, "period": "WEEK", "offset": 2},
    "apiStages": [{"apiId": "m-api", "stage": "prod",
                   "throttle": {"/pets/POST": {"rateLimit": 1.0, "burstLimit": 1}}}],
}, plan
assert before["keys"] == [
    {"id": "b-key", "enabled": True, "customerId": "c", "stageKeys": []},
    {"id": "d-key", "enabled": False, "stageKeys": []},
], before["keys"]
assert [(key["id"], key["type"]) for key in before["keys of the plan"]] == [("b-key", "API_KEY")], before
[stage] = before["stages"]
assert stage["stageName"] == "prod", stage
settings = {path: (of["throttlingRateLimit"], of["throttlingBurstLimit"])
            for path, of in stage["methodSettings"].items()}
assert settings == {"~1pets/GET": (2.0, 2), "*/*": (5.0, 5)}, settings

# Each resource is the same as in its list.
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
