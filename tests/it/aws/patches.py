"""Sends every row of patch_operations.jsonl with boto3 and compares what the resource shows then.

A row has a resource, an operation and the members that a get call shows after it, or a part of the
reason for which it is refused. Null is a member that is not shown. The rows are AWS' table of patch
operations for the resources that are served here, and values of other types.
Arguments: the admin API's URL and the checks' URL.
"""

import json
import pathlib
import sys
import time

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

admin, _ = sys.argv[1:]
aws = boto3.client(
    "apigateway", endpoint_url=admin, region_name="eu-central-1",
    config=Config(retries={"max_attempts": 0}, proxies={}))

api = aws.create_rest_api(name="patches", description="d", binaryMediaTypes=["a/b"])
API, ROOT = api["id"], api["rootResourceId"]
PETS, OTHER = (aws.create_resource(restApiId=API, parentId=ROOT, pathPart=part)["id"] for part in ("pets", "other"))
BELOW = aws.create_resource(restApiId=API, parentId=PETS, pathPart="{id}")["id"]
method = {"restApiId": API, "resourceId": PETS, "httpMethod": "GET"}
aws.put_method(**method, authorizationType="NONE")
aws.put_method_response(**method, statusCode="200")
aws.put_integration(**method, type="HTTP", integrationHttpMethod="GET", uri="http://example.com")
aws.put_integration_response(**method, statusCode="200")
DEP, DEP2 = (aws.create_deployment(restApiId=API)["id"] for _ in range(2))
stage = {"restApiId": API, "stageName": "prod"}
aws.create_stage(**stage, deploymentId=DEP, variables={"a": "b"})
key = aws.create_api_key(name="k", enabled=True)["id"]
plan = aws.create_usage_plan(
    name="p", apiStages=[{"apiId": API, "stage": "prod"}],
    throttle={"rateLimit": 5, "burstLimit": 5}, quota={"limit": 100, "period": "WEEK"})["id"]
aws.create_usage_plan_key(usagePlanId=plan, keyId=key, keyType="API_KEY")
names = {"API": API, "ROOT": ROOT, "OTHER": OTHER, "BELOW": BELOW, "DEP": DEP, "DEP2": DEP2}

today = time.strftime("%Y-%m-%d", time.gmtime())
IDS = {
    "account": {}, "api_key": {"apiKey": key}, "deployment": {"restApiId": API, "deploymentId": DEP},
    "resource": {"restApiId": API, "resourceId": PETS}, "method": method,
    "method_response": {**method, "statusCode": "200"}, "integration": method,
    "integration_response": {**method, "statusCode": "200"}, "rest_api": {"restApiId": API}, "stage": stage,
    "usage": {"usagePlanId": plan, "keyId": key}, "usage_plan": {"usagePlanId": plan},
}


def filled(value):
    """The value with the ids of this run in place of their names."""
    if isinstance(value, dict):
        return {filled(name): filled(below) for name, below in value.items()}
    if isinstance(value, list):
        return [filled(item) for item in value]
    if isinstance(value, str):
        for name, id in names.items():
            value = value.replace("{" + name + "}", id)
    return value


def shown(resource):
    if resource == "usage":
        usage = aws.get_usage(**IDS[resource], startDate=today, endDate=today)
        return {"items": usage["items"][key][-1][1]}
    response = getattr(aws, "get_" + resource)(**IDS[resource])
    del response["ResponseMetadata"]
    return response


def differences(wanted, found, at=""):
    """The places where `found` is not what is wanted; it may have more members."""
    if wanted is None and not found:
        return []
    if isinstance(wanted, dict) and isinstance(found, dict):
        pairs = [(name, value, found.get(name)) for name, value in wanted.items()]
        return [fault for name, value, other in pairs for fault in differences(value, other, f"{at}/{name}")]
    same = wanted == found and type(wanted) is type(found)
    return [] if same else [f"{at} is {found!r} instead of {wanted!r}"]


faults, counts = [], {"shown": 0, "refused": 0}
rows = (pathlib.Path(__file__).parent / "patch_operations.jsonl").read_text().splitlines()
for row in rows:
    row = filled(json.loads(row))
    operation = {name: row[name] for name in ("op", "path", "value", "from") if name in row}
    before = shown(row["resource"])
    reason = None
    try:
        getattr(aws, "update_" + row["resource"])(**IDS[row["resource"]], patchOperations=[operation])
    except ClientError as error:
        reason = error.response["Error"]["Message"]
        if error.response["ResponseMetadata"]["HTTPStatusCode"] not in (400, 404):
            faults.append(f"{row}: {error}")
    after = shown(row["resource"])
    counts["shown" if "shown" in row else "refused"] += 1
    if "shown" in row:
        faults += [f"{row}: refused: {reason}"] if reason else differences(row["shown"], after, str(row))
    elif reason is None or row["refused"] not in reason:
        faults.append(f"{row}: {reason or 'it was taken'}")
    elif after != before:
        faults.append(f"{row}: it was refused and changed {before} to {after}")
    if row["resource"] == "resource" and "shown" in row:
        below = aws.get_resource(restApiId=API, resourceId=BELOW)["path"]
        if below != after["path"] + "/{id}":
            faults.append(f"{row}: the resource below it is {below}")
assert not faults, "\n".join(faults)
assert counts["shown"] >= 120 and counts["refused"] >= 30, counts
