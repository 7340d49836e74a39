"""Terraform's walk over 77 resources, ten at a time, with the calls of its AWS provider: apply, plan, update, plan,
import, destroy, again and again. No call fails, and every plan after an apply finds no difference.

A resource is created after those that it needs, and destroyed before them. The provider reads a resource after each
change of it, and waits until a stage's cache is available. Arguments: the admin API's URL, the checks' URL and the rounds.
"""

import json
import sys
import time
import urllib.request
import uuid
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

admin, checks, rounds = *sys.argv[1:3], int((sys.argv[3:] or ["3"])[0])
PARALLELISM = 10
aws = boto3.client(
    "apigateway", endpoint_url=admin, region_name="eu-central-1",
    config=Config(retries={"max_attempts": 0}, proxies={}, max_pool_connections=PARALLELISM))


class Resource:
    """One resource of a program: the calls that create, read, update and destroy it, and the members that it shows."""

    def __init__(self, kind, needs, create, shown, update=None, changed=None, destroy=True):
        self.kind, self.needs, self.create, self.update, self.destroys = kind, needs, create, update, destroy
        self.shown, self.changed = shown, changed or {}
        self.ids, self.deposed = {}, []

    def read(self):
        arguments = self.ids | ({"includeValue": True} if self.kind == "api_key" else {})
        return getattr(aws, "get_" + self.kind)(**arguments)

    def differences(self, wanted, found, at=""):
        for name, value in wanted.items():
            other = found.get(name)
            if isinstance(value, dict) and isinstance(other, dict):
                yield from self.differences(value, other, f"{at}/{name}")
            elif (value or other) and value != other:
                yield f"{self.kind} {self.ids}{at}/{name}: {other!r} instead of {value!r}"

    def plan(self, wanted):
        wanted = {name: value() if callable(value) else value for name, value in wanted.items()}
        faults = list(self.differences(wanted, self.read()))
        assert not faults, faults

    def is_gone(self):
        try:
            self.read()
        except ClientError as error:
            return error.response["Error"]["Code"] == "NotFoundException"
        return not self.destroys


def walk(resources, act, reverse=False):
    """Acts on all resources, ten at a time, each after those that it needs, or before them."""
    before = {name: set(resource.needs) for name, resource in resources.items()}
    if reverse:
        before = {name: {other for other, it in resources.items() if name in it.needs} for name in resources}
    started, done, running = set(), set(), {}
    with ThreadPoolExecutor(PARALLELISM) as pool:
        while len(done) < len(resources):
            for name in resources:
                if name not in started and before[name] <= done:
                    started.add(name)
                    running[pool.submit(act, resources[name])] = name
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                future.result()
                done.add(running.pop(future))


def patch(resource, *operations):
    operations = [{"op": op, "path": path} | ({} if value is None else {"value": value}) for op, path, value in operations]
    getattr(aws, "update_" + resource.kind)(**resource.ids, patchOperations=operations)


def replaced(**values):
    """The update of members of a resource itself."""
    return lambda it: patch(it, *(("replace", f"/{name}", value) for name, value in values.items()))


def program():
    """77 resources: two APIs with all that is below them, four plans, and six keys on them."""
    made = {}
    unique = uuid.uuid4().hex[:8]

    def add(name, kind, needs, *arguments, **others):
        made[name] = Resource(kind, needs, *arguments, **others)

    def id_of(name, member):
        return made[name].ids[member]

    def with_id(call, member, result="id", **ids):
        """Creates a resource by a call whose response has its id."""
        def create(it, arguments):
            response = call(**{name: value() if callable(value) else value for name, value in (ids | arguments).items()})
            it.ids = {name: value() for name, value in ids.items()} | {member: response[result]}
        return create

    def account(it, _):
        patch(it, ("replace", "/cloudwatchRoleArn", "arn:aws:iam::123456789012:role/logs"))

    def add_method(api, place, resource):
        on = {"restApiId": lambda: id_of(api, "restApiId"), "resourceId": resource, "httpMethod": lambda: "POST"}
        status = on | {"statusCode": lambda: "200"}

        def put(call, ids, **arguments):
            def create(it, _):
                it.ids = {name: value() for name, value in ids.items()}
                call(**it.ids, **arguments)
            return create

        needs = [api] + ([f"{api}-{place}"] if place else [])
        method, integration = f"{api}-{place}-method", f"{api}-{place}-integration"
        add(method, "method", needs, put(aws.put_method, on, authorizationType="NONE", apiKeyRequired=True),
            {"authorizationType": "NONE", "apiKeyRequired": True}, replaced(operationName="Chat"), {"operationName": "Chat"})
        add(f"{method}-200", "method_response", [method], put(aws.put_method_response, status), {"statusCode": "200"},
            lambda it: patch(it, ("add", "/responseModels/application~1json", "Empty")),
            {"responseModels": {"application/json": "Empty"}})
        add(integration, "integration", [method],
            put(aws.put_integration, on, type="HTTP", integrationHttpMethod="POST", uri="http://127.0.0.1:9/a"),
            {"type": "HTTP", "httpMethod": "POST", "uri": "http://127.0.0.1:9/a", "timeoutInMillis": 29000},
            replaced(uri="http://127.0.0.1:9/b"), {"uri": "http://127.0.0.1:9/b"})
        add(f"{integration}-200", "integration_response", [integration, f"{method}-200"],
            put(aws.put_integration_response, status, selectionPattern="2.."), {"statusCode": "200", "selectionPattern": "2.."},
            replaced(selectionPattern="200"), {"selectionPattern": "200"})
        return [method, f"{method}-200", integration, f"{integration}-200"]

    def add_stage(api, name):
        on = {"restApiId": lambda: id_of(api, "restApiId"), "stageName": lambda: name}
        deployed = lambda: id_of(f"{api}-deployment", "deploymentId")

        def create(it, _):
            it.ids = {member: value() for member, value in on.items()}
            status = aws.create_stage(
                **it.ids, deploymentId=deployed(), variables={"model": "small"}, cacheClusterEnabled=True,
                cacheClusterSize="0.5")["cacheClusterStatus"]
            while status != "AVAILABLE":
                time.sleep(0.1)
                status = it.read()["cacheClusterStatus"]
            patch(it, ("replace", "/accessLogSettings/destinationArn", "arn:aws:logs:a:1:log-group:x"),
                ("replace", "/accessLogSettings/format", "$context.requestId"))

        def redeploy(it):
            patch(it, ("replace", "/deploymentId", deployed()), ("remove", "/variables/model", None),
                ("replace", "/variables/size", "7"))

        add(f"{api}-{name}", "stage", [f"{api}-deployment"], create,
            {"deploymentId": deployed, "variables": {"model": "small"}, "cacheClusterStatus": "AVAILABLE"},
            redeploy, {"variables": {"size": "7"}})

        def settings(burst):
            def set_them(it, *_):
                it.ids = {member: value() for member, value in on.items()}
                patch(it, ("replace", "/*/*/metrics/enabled", "true"), ("replace", "/*/*/throttling/burstLimit", burst),
                    ("replace", "/*/*/throttling/rateLimit", "100.000000"))
            return set_them

        shown = {"metricsEnabled": True, "throttlingRateLimit": 100.0, "cachingEnabled": False, "cacheTtlInSeconds": 300}
        add(f"{api}-{name}-settings", "stage", [f"{api}-{name}"], settings("50"),
            {"methodSettings": {"*/*": shown | {"throttlingBurstLimit": 50}}}, settings("60"),
            {"methodSettings": {"*/*": shown | {"throttlingBurstLimit": 60}}}, destroy="settings")

    add("account", "account", [], account, {"cloudwatchRoleArn": "arn:aws:iam::123456789012:role/logs"}, destroy=False)
    for api in ("a", "b"):
        policy = '{"Version":"2012-10-17","Statement":[]}'
        add(api, "rest_api", [], with_id(aws.create_rest_api, "restApiId"),
            {"name": f"{unique}-{api}", "description": "Models", "policy": json.dumps(policy)[1:-1], "apiKeySource": "HEADER",
             "endpointConfiguration": {"types": ["EDGE"], "ipAddressType": "ipv4"}, "disableExecuteApiEndpoint": False},
            replaced(description="2026", minimumCompressionSize="10"), {"description": "2026", "minimumCompressionSize": 10})
        made[api].arguments = {"name": f"{unique}-{api}", "description": "Models", "policy": policy}
        at_api = {"restApiId": lambda api=api: id_of(api, "restApiId")}
        root = lambda at_api=at_api: next(
            it["id"] for it in aws.get_resources(restApiId=at_api["restApiId"]())["items"] if it["path"] == "/")
        methods = add_method(api, "", root)
        above = None
        for part in ("v1", "chat", "completions", "{model}"):
            parent = (lambda above=above: id_of(above, "resourceId")) if above else root
            name = f"{api}-{part}"

            def create(it, _, part=part, parent=parent, at_api=at_api):
                restapi = at_api["restApiId"]()
                created = aws.create_resource(restApiId=restapi, parentId=parent(), pathPart=part)
                it.ids = {"restApiId": restapi, "resourceId": created["id"]}

            add(name, "resource", [above or api], create, {"pathPart": part})
            methods += add_method(api, part, lambda name=name: id_of(name, "resourceId"))
            above = name

        def deploy(it, *_, at_api=at_api):
            if it.ids:
                it.deposed.append(it.ids)
            it.ids = {"restApiId": at_api["restApiId"]()}
            it.ids = {**it.ids, "deploymentId": aws.create_deployment(**it.ids, description="", variables={})["id"]}

        # `create_before_destroy`, with `triggers` of all methods.
        add(f"{api}-deployment", "deployment", methods, deploy, {"description": ""}, deploy)
        for name in ("prod", "test"):
            add_stage(api, name)
    for number, api in enumerate("aabb"):
        served = lambda api=api: f"{id_of(api, 'restApiId')}:prod"
        throttled = {"/v1/chat/POST": {"rateLimit": 100.0, "burstLimit": 100}}

        def create(it, _, number=number, served=served):
            api_id, stage = served().split(":")
            it.ids = {"usagePlanId": aws.create_usage_plan(
                name=f"{unique}-{number}", quota={"limit": 1000, "offset": 0, "period": "MONTH"},
                throttle={"burstLimit": 20, "rateLimit": 10.0},
                apiStages=[{"apiId": api_id, "stage": stage, "throttle": throttled}])["id"]}
            patch(it, ("add", "/productCode", "abc"))

        def update(it, served=served):
            patch(it, ("remove", "/productCode", None), ("remove", "/apiStages", served()), ("add", "/apiStages", served()),
                ("replace", f"/apiStages/{served()}/throttle//v1/chat/POST/rateLimit", "5"),
                ("replace", f"/apiStages/{served()}/throttle//v1/chat/POST/burstLimit", "6"),
                ("replace", "/quota/limit", "7"), ("replace", "/quota/offset", "2"), ("replace", "/quota/period", "WEEK"))

        stages = lambda throttle, served=served: lambda: [
            dict(zip(("apiId", "stage"), served().split(":"))) | {"throttle": throttle}]
        add(f"plan-{number}", "usage_plan", [f"{api}-prod"], create,
            {"throttle": {"burstLimit": 20, "rateLimit": 10.0}, "quota": {"limit": 1000, "offset": 0, "period": "MONTH"},
             "productCode": "abc", "apiStages": stages(throttled)}, update,
            {"quota": {"limit": 7, "offset": 2, "period": "WEEK"}, "productCode": None,
             "apiStages": stages({"/v1/chat/POST": {"rateLimit": 5.0, "burstLimit": 6}})})
        made[f"plan-{number}"].served = served
    for number in range(6):
        value = f"{unique}-the-value-of-key-{number}"
        key, plan = f"key-{number}", f"plan-{number % 4}"
        add(key, "api_key", [], with_id(aws.create_api_key, "apiKey"),
            {"name": key, "value": value, "enabled": True, "description": "Managed by Terraform", "tags": {"team": "ml"}},
            replaced(description="true"), {"description": "true"})
        made[key].arguments = dict(made[key].shown)

        def link(it, _, key=key, plan=plan):
            it.ids = {"usagePlanId": id_of(plan, "usagePlanId"), "keyId": id_of(key, "apiKey")}
            aws.create_usage_plan_key(**it.ids, keyType="API_KEY")

        add(f"{key}-on-{plan}", "usage_plan_key", [key, plan], link, {"type": "API_KEY", "name": key, "value": value})
    assert len(made) == 77, len(made)
    return made


def create(it):
    it.create(it, getattr(it, "arguments", {}))
    it.plan(it.shown)


def update(it):
    if it.update:
        it.update(it)
    it.plan(it.shown | it.changed)


def destroy(it):
    if it.destroys == "settings":
        patch(it, ("remove", "/*/*", None))
    elif it.destroys:
        if it.kind == "usage_plan":
            patch(it, ("remove", "/apiStages", it.served()))
        getattr(aws, "delete_" + it.kind)(**it.ids)


def is_allowed(made):
    """A key of the program is admitted on the stage that its plan serves."""
    request = {"api_key": made["key-0"].shown["value"], "api": made["a"].ids["restApiId"], "stage": "prod", "method": "POST",
        "path": "/v1/chat"}
    with urllib.request.urlopen(urllib.request.Request(checks + "/check", json.dumps(request).encode())) as response:
        return json.load(response)["allowed"]


def run():
    resources = program()
    walk(resources, create)
    walk(resources, lambda it: it.plan(it.shown))
    assert is_allowed(resources)
    walk(resources, update)
    for old in resources["a-deployment"].deposed + resources["b-deployment"].deposed:
        aws.delete_deployment(**old)
    # A plan after the update, which an import reads as well.
    walk(resources, lambda it: it.plan(it.shown | it.changed))
    assert is_allowed(resources)
    walk(resources, destroy, reverse=True)
    assert all(it.is_gone() for it in resources.values())


done = abandoned = 0
while done < rounds:
    try:
        run()
        done += 1
    except ClientError as error:
        # Redis gave no reply for half a second, since this machine stood still: the provider would send the request again.
        if error.response["Error"]["Code"] != "ServiceUnavailableException" or abandoned == rounds:
            raise
        abandoned += 1
