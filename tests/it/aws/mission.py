"""Drives the admin API with boto3, as a provider of an inference API would with AWS'.

Arguments: the admin API's URL and the checks' URL. A difference from AWS ends it with an error.
"""

import json
import re
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


def check(body):
    request = urllib.request.Request(checks + "/check", json.dumps(body).encode())
    try:
        return 200, json.load(urllib.request.urlopen(request))
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def refused(code, status, call, **arguments):
    try:
        call(**arguments)
    except ClientError as error:
        found = error.response["Error"]["Code"], error.response["ResponseMetadata"]["HTTPStatusCode"]
        assert found == (code, status), error
        return error.response["Error"]["Message"]
    raise AssertionError(f"{call.__name__} was not refused")


def replace(path, value, op="replace"):
    return [{"op": op, "path": path, "value": value}]


# The steps of the mission, in their order.
api = aws.create_rest_api(name="inference", description="models")
assert api["name"] == "inference" and api["createdDate"].year >= 2024 and api["rootResourceId"]
api_id = api["id"]
resource = aws.create_resource(restApiId=api_id, parentId=api["rootResourceId"], pathPart="chat")
assert resource["path"] == "/chat"
aws.put_method(restApiId=api_id, resourceId=resource["id"], httpMethod="POST",
               authorizationType="NONE", apiKeyRequired=True)
aws.put_integration(restApiId=api_id, resourceId=resource["id"], httpMethod="POST",
                    type="HTTP_PROXY", integrationHttpMethod="POST", uri="http://127.0.0.1/")
deployment = aws.create_deployment(restApiId=api_id, description="first")
stage = aws.create_stage(restApiId=api_id, stageName="prod", deploymentId=deployment["id"])
assert stage["deploymentId"] == deployment["id"] and stage["methodSettings"] == {}
key = aws.create_api_key(name="acme", enabled=True, customerId="c-1")
assert len(key["value"]) >= 20 and key["enabled"]
plan = aws.create_usage_plan(
    name="basic", apiStages=[{"apiId": api_id, "stage": "prod"}],
    throttle={"rateLimit": 0.001, "burstLimit": 3}, quota={"limit": 2, "period": "MONTH"})
assert plan["quota"] == {"limit": 2, "offset": 0, "period": "MONTH"}, plan
call = {"api_key": key["value"], "api": api_id, "stage": "prod", "method": "POST", "path": "/chat"}
assert check(call)[0] == 403
linked = aws.create_usage_plan_key(usagePlanId=plan["id"], keyId=key["id"], keyType="API_KEY")
assert linked["name"] == "acme"

# The next check is judged by it.
status, answer = check(call)
assert status == 200 and answer["key"] == {"id": key["id"], "plan": plan["id"], "customer_id": "c-1"}, answer
assert check(call)[0] == 200
status, answer = check(call)
assert status == 429 and answer["violated"] == plan["id"] + "/quota", answer

# The same holds for every change.
aws.update_usage_plan(usagePlanId=plan["id"], patchOperations=replace("/quota/limit", "1000"))
assert check(call)[0] == 200
status, answer = check(call)
assert status == 429 and answer["violated"] == plan["id"] + "/throttle", answer
aws.update_usage_plan(usagePlanId=plan["id"], patchOperations=[
    {"op": "replace", "path": "/throttle/rateLimit", "value": "100"},
    {"op": "replace", "path": "/throttle/burstLimit", "value": "1000"}])
assert check(call)[0] == 200
method = f"/apiStages/{api_id}:prod/throttle/~1chat/POST"
changed = aws.update_usage_plan(usagePlanId=plan["id"], patchOperations=[
    {"op": "add", "path": method + "/rateLimit", "value": "0.001"},
    {"op": "add", "path": method + "/burstLimit", "value": "1"}])
assert changed["apiStages"][0]["throttle"] == {"/chat/POST": {"rateLimit": 0.001, "burstLimit": 1}}
assert check(call)[0] == 200 and check(call)[0] == 429
assert check({**call, "path": "/other"})[0] == 200
aws.update_usage_plan(usagePlanId=plan["id"], patchOperations=[{"op": "remove", "path": method}])
assert check(call)[0] == 200
changed = aws.update_stage(restApiId=api_id, stageName="prod", patchOperations=[
    {"op": "replace", "path": "/~1chat/POST/throttling/rateLimit", "value": "0.001"},
    {"op": "replace", "path": "/~1chat/POST/throttling/burstLimit", "value": "1"}])
setting = changed["methodSettings"]["~1chat/POST"]
assert (setting["throttlingRateLimit"], setting["throttlingBurstLimit"]) == (0.001, 1)
assert check(call)[0] == 200
status, answer = check(call)
assert status == 429 and answer["violated"] == f"stage:{api_id}/prod/POST /chat/throttle", answer
aws.update_stage(restApiId=api_id, stageName="prod",
                 patchOperations=replace("/~1chat/POST/throttling/rateLimit", "-1"))
assert check(call)[0] == 200

# ANY is one limit of all methods of a path. Terraform's spelling of the path is the same setting.
anything = {**call, "path": "/chat/any/thing"}
aws.update_stage(restApiId=api_id, stageName="prod", patchOperations=[
    {"op": "replace", "path": "/chat/{rest+}/ANY/throttling/rateLimit", "value": "0.001000"},
    {"op": "replace", "path": "/~1chat~1{rest+}/ANY/throttling/burstLimit", "value": "1"}])
assert check({**anything, "method": "PUT"})[0] == 200
for method in ("PUT", "GET", "HEAD", "DELETE"):
    status, answer = check({**anything, "method": method})
    assert status == 429 and answer["violated"] == f"stage:{api_id}/prod/ANY /chat/*/throttle", answer
aws.update_stage(restApiId=api_id, stageName="prod",
                 patchOperations=[{"op": "remove", "path": "/chat/{rest+}/ANY"}])

# A stage can be rolled back to a deployment, which cannot be deleted while a stage has it.
second = aws.create_deployment(restApiId=api_id, stageName="prod")
assert second["id"] != deployment["id"]
assert aws.get_stage(restApiId=api_id, stageName="prod")["deploymentId"] == second["id"]
refused("BadRequestException", 400, aws.delete_deployment, restApiId=api_id, deploymentId=second["id"])
aws.update_stage(restApiId=api_id, stageName="prod",
                 patchOperations=replace("/deploymentId", deployment["id"]))
aws.delete_deployment(restApiId=api_id, deploymentId=second["id"])

# Keys: the value is returned where it is asked for; they are disabled, enabled, found and deleted.
assert aws.get_api_key(apiKey=key["id"], includeValue=True)["value"] == key["value"]
assert "value" not in aws.get_api_key(apiKey=key["id"])
aws.update_api_key(apiKey=key["id"], patchOperations=replace("/enabled", "false"))
assert check(call)[0] == 403
aws.update_api_key(apiKey=key["id"], patchOperations=replace("/enabled", "true"))
assert check(call)[0] == 200
more = [aws.create_api_key(name=f"key-{number}")["id"] for number in range(7)]
pages = list(aws.get_paginator("get_api_keys").paginate(PaginationConfig={"PageSize": 3}))
found = [item["id"] for page in pages for item in page["items"]]
assert sorted(found) == sorted([key["id"], *more]) and len(pages) == 3, pages
assert [item["name"] for item in aws.get_api_keys(nameQuery="key-5")["items"]] == ["key-5"]
assert [item["id"] for item in aws.get_api_keys(customerId="c-1")["items"]] == [key["id"]]
assert [item["id"] for item in aws.get_usage_plan_keys(usagePlanId=plan["id"])["items"]] == [key["id"]]

# Tags of every kind of resource.
for path in (f"apikeys/{key['id']}", f"restapis/{api_id}", f"restapis/{api_id}/stages/prod",
             f"usageplans/{plan['id']}"):
    arn = "arn:aws:apigateway:eu-central-1::/" + path
    aws.tag_resource(resourceArn=arn, tags={"team": "a b", "cost centre": "7"})
    aws.untag_resource(resourceArn=arn, tagKeys=["cost centre"])
    assert aws.get_tags(resourceArn=arn)["tags"] == {"team": "a b"}, path
refused("NotFoundException", 404, aws.get_tags, resourceArn=arn + "x")
refused("BadRequestException", 400, aws.get_tags, resourceArn="nonsense")

rival = aws.create_usage_plan(name="rival", apiStages=[{"apiId": api_id, "stage": "prod"}])

# An import of keys: all lines or, with an invalid one, none.
text = """name,ENABLED,Key,Colour,UsagePlanIds
first,TRUE,%s,red,
second,false,%s,green,"%s,nowhere"
third,maybe,%s,blue,
""" % ("1" * 20, "2" * 20, plan["id"], "3" * 20)
message = refused("BadRequestException", 400, aws.import_api_keys,
                  body=text.encode(), format="csv", failOnWarnings=True)
assert "line 3: there is no usage plan nowhere; line 4: Enabled" in message, message
assert check({"api_key": "1" * 20})[0] == 403
# The same if two lines conflict, or a line and an existing key.
for lines, why in ((f"a,{'1' * 20},\nb,{'4' * 20},{plan['id']}\nc,{'1' * 20},\n", "line 4: it has the same key as line 2"),
                   (f"a,{'1' * 20},\nb,{key['value']},{rival['id']}\n", "line 3: .*serves the same stage"),
                   (f"a,{'1' * 20},\nb,{'4' * 20},\"{plan['id']},{rival['id']}\"\n",
                    "line 3: the usage plans .* serve the same stage")):
    message = refused("BadRequestException", 400, aws.import_api_keys, failOnWarnings=True, format="csv",
                      body=("Name,Key,UsagePlanIds\n" + lines).encode())
    assert re.search(why, message), message
    assert check({"api_key": "1" * 20})[0] == 403
imported = aws.import_api_keys(body=text.encode(), format="csv")
assert len(imported["ids"]) == 1 and len(imported["warnings"]) == 2, imported
again = aws.import_api_keys(
    body=f"Key,Name,UsagePlanIds\n{'1' * 20},renamed,'{plan['id']}'\n".encode(), format="csv")
assert again["ids"] == imported["ids"] and again["warnings"] == [], again
assert aws.get_api_key(apiKey=again["ids"][0])["name"] == "renamed"
assert check({**call, "api_key": "1" * 20})[0] == 200
aws.delete_api_key(apiKey=again["ids"][0])

message = refused("BadRequestException", 400, aws.delete_usage_plan, usagePlanId=rival["id"])
assert message == (f"Cannot delete Usage Plan {rival['id']} because there are API Stages associated with it, "
                   f"including {api_id}:prod"), message
without_stage = replace("/apiStages", f"{api_id}:prod", "remove")
aws.update_usage_plan(usagePlanId=rival["id"], patchOperations=without_stage)
aws.delete_usage_plan(usagePlanId=rival["id"])

# Errors have AWS' types and sentences.
refused("NotFoundException", 404, aws.get_usage_plan, usagePlanId="nowhere")
refused("NotFoundException", 404, aws.get_api_key, apiKey="nowhere")
refused("ConflictException", 409, aws.create_usage_plan_key,
        usagePlanId=plan["id"], keyId=key["id"], keyType="API_KEY")
refused("ConflictException", 409, aws.create_api_key, name="twin", value=key["value"])
refused("BadRequestException", 400, aws.create_api_key, name="short", value="short")
refused("BadRequestException", 400, aws.create_usage_plan, name="daily",
        quota={"limit": 1, "period": "DAY", "offset": 1})
refused("NotFoundException", 404, aws.create_usage_plan, name="nowhere",
        apiStages=[{"apiId": api_id, "stage": "nowhere"}])
refused("BadRequestException", 400, aws.update_usage_plan,
        usagePlanId=plan["id"], patchOperations=replace("/colour", "red"))
another = aws.create_usage_plan(name="other", apiStages=[{"apiId": api_id, "stage": "prod"}])
refused("ConflictException", 409, aws.create_usage_plan_key,
        usagePlanId=another["id"], keyId=key["id"], keyType="API_KEY")
stranger = boto3.client("apigateway", endpoint_url=admin, region_name="eu-central-1",
                        aws_access_key_id="AKIATEST", aws_secret_access_key="wrong",
                        config=Config(retries={"max_attempts": 0}, proxies={}))
refused("InvalidSignatureException", 403, stranger.get_api_keys)

# A stage and an API that are deleted leave their plans, which serve no other stage instead.
aws.update_usage_plan(usagePlanId=another["id"], patchOperations=without_stage)
aws.delete_usage_plan(usagePlanId=another["id"])
second = aws.create_rest_api(name="second")["id"]
aws.create_deployment(restApiId=second, stageName="prod")
both = [{"apiId": id, "stage": "prod"} for id in (api_id, second)]
aws.update_usage_plan(usagePlanId=plan["id"], patchOperations=replace("/apiStages", f"{second}:prod", "add"))
assert aws.get_usage_plan(usagePlanId=plan["id"])["apiStages"] == both
aws.delete_stage(restApiId=api_id, stageName="prod")
assert aws.get_usage_plan(usagePlanId=plan["id"])["apiStages"] == both[1:]
assert check({**call, "api": second})[0] == 200
aws.delete_rest_api(restApiId=second)
assert aws.get_usage_plan(usagePlanId=plan["id"])["apiStages"] == []
aws.create_deployment(restApiId=api_id, stageName="prod")
assert check(call)[0] == 403
aws.delete_usage_plan_key(usagePlanId=plan["id"], keyId=key["id"])
aws.delete_usage_plan(usagePlanId=plan["id"])
aws.delete_api_key(apiKey=key["id"])
assert check(call)[0] == 403
aws.delete_rest_api(restApiId=api_id)
assert aws.get_rest_apis()["items"] == []
