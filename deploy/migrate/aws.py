"""Copies usage plans, their API keys and their stages from AWS API Gateway to Tollgate.

    python3 aws.py --to http://127.0.0.1:8082

AWS' profile and region come from the environment, as for the aws command line, and need permission to
read API keys with their values. Tollgate's access key comes from TOLLGATE_ADMIN_ACCESS_KEY_ID and
TOLLGATE_ADMIN_SECRET_ACCESS_KEY. Nothing is changed at AWS. Ids are kept, so a second run only adds new
resources. Anything that cannot be copied is printed, and the exit code is then 1.
"""

import argparse
import os
import sys

import boto3
from botocore.config import Config

arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
arguments.add_argument("--to", required=True, metavar="URL", help="Tollgate's admin API")
arguments.add_argument("--from", dest="source", metavar="URL", help="an endpoint that is not AWS' own")
arguments = arguments.parse_args()

aws = boto3.client("apigateway", endpoint_url=arguments.source)
tollgate = boto3.client(
    "apigateway", endpoint_url=arguments.to, region_name="local", config=Config(proxies={}),
    aws_access_key_id=os.environ["TOLLGATE_ADMIN_ACCESS_KEY_ID"],
    aws_secret_access_key=os.environ["TOLLGATE_ADMIN_SECRET_ACCESS_KEY"])
left_out, without_value = [], set()


def every(call, **arguments):
    """The items of all pages."""
    pages = aws.get_paginator(call).paginate(**arguments)
    return [item for page in pages for item in page["items"]]


def members(item, *names):
    return {name: item[name] for name in names if name in item}


def tags(item):
    kept = {name: value for name, value in item.get("tags", {}).items() if not name.startswith("aws:")}
    return {**kept, "_custom_id_": item["id"]}


def create_once(call, **arguments):
    """Creates a resource, unless it exists."""
    try:
        call(**arguments)
    except tollgate.exceptions.ConflictException:
        pass


def copy_stage(api, name):
    stage = aws.get_stage(restApiId=api, stageName=name)
    known = [item["stageName"] for item in tollgate.get_stages(restApiId=api)["item"]]
    if name in known:
        return
    deployment = tollgate.create_deployment(restApiId=api)["id"]
    tollgate.create_stage(restApiId=api, stageName=name, deploymentId=deployment,
                          **members(stage, "description", "variables"))
    settings = stage.get("methodSettings", {}).items()
    changes = [{"op": "replace", "path": f"/{at}/throttling/{path}", "value": str(setting[member])}
               for at, setting in settings
               for path, member in (("rateLimit", "throttlingRateLimit"), ("burstLimit", "throttlingBurstLimit"))
               if setting.get(member, -1) >= 0]
    if changes:
        tollgate.update_stage(restApiId=api, stageName=name, patchOperations=changes)


plans = every("get_usage_plans")
stages = {(stage["apiId"], stage["stage"]) for plan in plans for stage in plan.get("apiStages", [])}
for api in sorted({api for api, _ in stages}):
    found = aws.get_rest_api(restApiId=api)
    create_once(tollgate.create_rest_api, tags=tags(found), **members(found, "name", "description"))
for api, name in sorted(stages):
    copy_stage(api, name)

for plan in plans:
    quota = dict(plan.get("quota", {}))
    if quota.pop("offset", 0):
        left_out.append(f"plan {plan['id']}: the offset of its quota has another meaning at AWS")
    create_once(tollgate.create_usage_plan, tags=tags(plan), **({"quota": quota} if quota else {}),
                **members(plan, "name", "description", "apiStages", "throttle"))

for key in every("get_api_keys", includeValues=True):
    if "value" not in key:
        without_value.add(key["id"])
        left_out.append(f"key {key['id']}: AWS did not return its value")
        continue
    create_once(tollgate.create_api_key, tags=tags(key),
                **members(key, "name", "description", "enabled", "customerId", "value"))
for plan in plans:
    for key in every("get_usage_plan_keys", usagePlanId=plan["id"]):
        if key["id"] not in without_value:
            create_once(tollgate.create_usage_plan_key, usagePlanId=plan["id"], keyId=key["id"], keyType="API_KEY")

for line in left_out:
    print(f"not copied: {line}", file=sys.stderr)
sys.exit(1 if left_out else 0)
