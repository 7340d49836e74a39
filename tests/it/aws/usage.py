"""Reads and corrects usage with boto3, as a provider would with AWS'.

Arguments: the admin API's URL and the checks' URL.
"""

import datetime
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
today = datetime.datetime.now(datetime.timezone.utc).date()
day = datetime.timedelta(days=1)


def check(key, **more):
    request = urllib.request.Request(checks + "/check", json.dumps({"api_key": key, **more}).encode())
    try:
        return urllib.request.urlopen(request).status
    except urllib.error.HTTPError as error:
        return error.code


def refused(code, call, **arguments):
    try:
        call(**arguments)
    except ClientError as error:
        assert error.response["Error"]["Code"] == code, error
        return error.response["Error"]["Message"]
    raise AssertionError(f"{call.__name__} was not refused")


def usage(plan, start=today, end=today, **more):
    return aws.get_usage(usagePlanId=plan["id"], startDate=str(start), endDate=str(end), **more)


def update(key, value, path="/remaining", op="replace"):
    return aws.update_usage(usagePlanId=plan["id"], keyId=key["id"],
                            patchOperations=[{"op": op, "path": path, "value": value}])


plan = aws.create_usage_plan(name="daily", quota={"limit": 3, "period": "DAY"})
keys = [aws.create_api_key(name=f"k{number}", enabled=True) for number in range(3)]
for key in keys:
    aws.create_usage_plan_key(usagePlanId=plan["id"], keyId=key["id"], keyType="API_KEY")
first, second, _ = keys

# Units used and left. A refused check uses nothing, nor does one with cost 0.
assert [check(first["value"]) for _ in range(4)] == [200, 200, 200, 429]
assert check(second["value"]) == 200 and check(second["value"], cost=0) == 200
told = usage(plan, today - 2 * day)
assert told["usagePlanId"] == plan["id"] and "position" not in told, told
assert told["startDate"] == str(today - 2 * day) and told["endDate"] == str(today), told
assert told["items"][first["id"]] == [[0, 3], [0, 3], [3, 0]], told
assert told["items"][second["id"]][-1] == [1, 2], told
assert usage(plan, keyId=second["id"])["items"] == {second["id"]: [[1, 2]]}

# Pages are in the order of the keys' ids.
seen, position = [], {}
while True:
    page = usage(plan, limit=2, **position)
    seen += page["items"]
    if "position" not in page:
        break
    position = {"position": page["position"]}
assert seen == sorted(key["id"] for key in keys), seen
paginator = aws.get_paginator("get_usage")
pages = paginator.paginate(usagePlanId=plan["id"], startDate=str(today), endDate=str(today),
                           PaginationConfig={"PageSize": 1})
assert sum(len(page["items"]) for page in pages) == 3

# An extension of the current period does not change the units used.
told = update(first, "5")
assert told["items"] == {first["id"]: [[3, 5]]} and told["startDate"] == str(today), told
statuses = [check(first["value"]) for _ in range(6)]
# The node may repeat a cached refusal for another 100 ms.
while statuses.count(200) < 5:
    statuses.append(check(first["value"]))
assert check(first["value"]) == 429
assert usage(plan, keyId=first["id"])["items"][first["id"]] == [[8, 0]]
assert update(first, "0")["items"][first["id"]] == [[8, 0]]

# A plan with a longer quota also counts by days; a plan without a quota has no rest.
monthly = aws.create_usage_plan(name="monthly", quota={"limit": 100, "period": "MONTH"})
endless = aws.create_usage_plan(name="endless", throttle={"rateLimit": 1000, "burstLimit": 1000})
for other, left in (monthly, 98), (endless, 2 ** 53 - 1):
    key = aws.create_api_key(name="k", enabled=True)
    aws.create_usage_plan_key(usagePlanId=other["id"], keyId=key["id"], keyType="API_KEY")
    assert check(key["value"]) == 200 and check(key["value"]) == 200
    assert usage(other)["items"] == {key["id"]: [[2, left]]}, usage(other)

refused("NotFoundException", aws.get_usage, usagePlanId="nowhere", startDate=str(today), endDate=str(today))
refused("NotFoundException", usage, plan=plan, keyId="nobody")
refused("BadRequestException", usage, plan=plan, start="yesterday")
refused("BadRequestException", usage, plan=plan, start=today + day)
refused("BadRequestException", usage, plan=plan, start=today - 90 * day)
assert len(usage(plan, today - 89 * day)["items"][first["id"]]) == 90
for value in "-1", "many", str(2 ** 53):
    refused("BadRequestException", update, key=first, value=value)
refused("BadRequestException", update, key=first, value="1", path="/used")
refused("BadRequestException", update, key=first, value="1", op="remove")
refused("NotFoundException", update, key=key, value="1")
refused("NotFoundException", update, key={"id": "nobody"}, value="1")
