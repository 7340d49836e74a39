"""Sends every query parameter of the requests that the admin API serves (served.py), with boto3: it acts, or is refused.

Arguments: the admin API's URL and the checks' URL. Requests that are not served have one clear error.
"""

import datetime
import sys

from botocore.exceptions import ClientError
from served import CLASSES, connect, inputs, model

admin, _ = sys.argv[1:]
aws, call = connect(admin)


def refused(name, operation, **arguments):
    try:
        call(operation, **arguments)
    except ClientError as error:
        found = error.response["Error"]["Code"], error.response["ResponseMetadata"]["HTTPStatusCode"]
        assert found == ("BadRequestException", 400), (operation, name, error)
        assert name in error.response["Error"]["Message"], (operation, name, error)
        return
    raise AssertionError(f"{operation} took {name}")


def sample(shape):
    """A value that botocore sends."""
    if getattr(shape, "enum", None):
        return shape.enum[0]
    if shape.type_name == "structure":
        return {name: sample(member) for name, member in shape.members.items()}
    if shape.type_name == "list":
        return [sample(shape.member)]
    kinds = {"map": {}, "boolean": True, "integer": 1, "double": 1.0, "blob": b"x"}
    return kinds.get(shape.type_name, "x")


# The resources: two of everything, so that what a parameter leaves out is missed.
api = aws.create_rest_api(name="one")
aws.create_rest_api(name="two")
root = api["rootResourceId"]
chat = aws.create_resource(restApiId=api["id"], parentId=root, pathPart="chat")["id"]
aws.put_method(restApiId=api["id"], resourceId=chat, httpMethod="POST", authorizationType="NONE", apiKeyRequired=True)
first = aws.create_deployment(restApiId=api["id"], stageName="one")["id"]
second = aws.create_deployment(restApiId=api["id"], stageName="two")["id"]
key = aws.create_api_key(name="acme", customerId="c-1", enabled=True)
other = aws.create_api_key(name="other", customerId="c-2", enabled=True)
plan = aws.create_usage_plan(name="basic")["id"]
aws.create_usage_plan(name="unused")
for one in (key, other):
    aws.create_usage_plan_key(usagePlanId=plan, keyId=one["id"], keyType="API_KEY")
today = datetime.datetime.now(datetime.UTC).date()
yesterday = today - datetime.timedelta(days=1)
arn = f"arn:aws:apigateway:eu-central-1::/usageplans/{plan}"
aws.tag_resource(resourceArn=arn, tags={"team": "red", "cost": "7"})

# The arguments of each call that is served, without what is tried.
BASE = {
    "GetResources": {"restApiId": api["id"]},
    "GetResource": {"restApiId": api["id"], "resourceId": chat},
    "GetDeployments": {"restApiId": api["id"]},
    "GetDeployment": {"restApiId": api["id"], "deploymentId": first},
    "GetStages": {"restApiId": api["id"]},
    "GetApiKey": {"apiKey": key["id"]},
    "GetUsagePlanKeys": {"usagePlanId": plan},
    "GetUsage": {"usagePlanId": plan, "startDate": str(today), "endDate": str(today)},
    "GetTags": {"resourceArn": arn},
}


def base(operation):
    return dict(BASE.get(operation, {}))


def ids(page):
    items = page.get("items", page.get("item"))
    return list(items) if isinstance(items, dict) else [item.get("id", item.get("stageName")) for item in items]


def paged(operation):
    """Pages of one entry have together what the whole list has."""
    whole = ids(call(operation, **base(operation)))
    assert len(whole) == 2, (operation, whole)
    page = call(operation, **base(operation), limit=1)
    assert ids(page) == whole[:1] and page["position"], (operation, page)
    page = call(operation, **base(operation), position=page["position"])
    assert ids(page) == whole[1:] and "position" not in page, (operation, page)


def narrowed(operation, expected, **parameters):
    found = ids(call(operation, **base(operation), **parameters))
    assert found == expected, (operation, parameters, found)


def values_shown(operation, member, found):
    assert not any("value" in one for one in found(call(operation, **base(operation), **{member: False})))
    assert all(one["value"] for one in found(call(operation, **base(operation), **{member: True})))


def methods_embedded(operation):
    def method(page):
        resources = page["items"] if "items" in page else [page]
        return [one["resourceMethods"]["POST"] for one in resources if one["id"] == chat][0]
    assert method(call(operation, **base(operation))) == {}
    assert method(call(operation, **base(operation), embed=["methods"]))["apiKeyRequired"] is True
    refused("embed", operation, **base(operation), embed=["parents"])


def summary_embedded(operation):
    assert "apiSummary" not in call(operation, **base(operation))
    shown = call(operation, **base(operation), embed=["apisummary"])["apiSummary"]
    assert shown["/chat"]["POST"]["apiKeyRequired"] is True, shown
    refused("embed", operation, **base(operation), embed=["methods"])


def imported(operation):
    lines = f"Name,Key\nimported,{'7' * 20}\nshort,x\n".encode()
    refused("line 3", operation, body=lines, format="csv", failOnWarnings=True)
    taken = call(operation, body=lines, format="csv", failOnWarnings=False)
    assert len(taken["ids"]) == len(taken["warnings"]) == 1, taken
    aws.delete_api_key(apiKey=taken["ids"][0])


def of_days(operation):
    days = call(operation, **{**base(operation), "startDate": str(yesterday)})["items"]
    assert [len(of) for of in days.values()] == [2, 2], days
    days = call(operation, usagePlanId=plan, startDate=str(yesterday), endDate=str(yesterday))["items"]
    assert [len(of) for of in days.values()] == [1, 1], days


def untagged(operation):
    call(operation, resourceArn=arn, tagKeys=["cost", "none"])
    assert aws.get_tags(resourceArn=arn)["tags"] == {"team": "red"}


def document_imported(operation):
    own = {"restApiId": aws.create_rest_api(name="other")["id"]} if operation == "PutRestApi" else {}
    document = b"openapi: 3.0.1\ninfo: {title: made}\npaths: {/a: {trace: {}}}"
    refused("trace", operation, **own, body=document, failOnWarnings=True)
    refused("basepath", operation, **own, body=document, parameters={"basepath": "prepend"})
    made = call(operation, **own, body=document, failOnWarnings=False, parameters={"ignore": "documentation"})
    assert made["name"] == "made" and len(made["warnings"]) == 1, made
    aws.delete_rest_api(restApiId=made["id"])


def document_overwrites(operation):
    refused("mode", operation, restApiId=api["id"], mode="other", body=b"{}")
    document = b"openapi: 3.0.1\ninfo: {title: one}\npaths: {/b: {}}"
    other = aws.create_rest_api(name="other")["id"]
    for mode, paths in (("merge", ["/", "/b"]), ("overwrite", ["/", "/c"])):
        call(operation, restApiId=other, mode=mode, body=document)
        assert sorted(one["path"] for one in aws.get_resources(restApiId=other)["items"]) == paths, mode
        document = document.replace(b"/b", b"/c")
    aws.delete_rest_api(restApiId=other)


def exported(operation):
    own = {"restApiId": api["id"], "stageName": "one", "exportType": "oas30"}
    has_source = [
        b"api-key-source" in call(operation, **own, parameters=parameters)["body"].read()
        for parameters in ({}, {"extensions": "apigateway"})]
    assert has_source == [False, True], has_source
    refused("extensions", operation, **own, parameters={"extensions": "none"})


ids_of_keys = sorted([key["id"], other["id"]])
ACTS = {
    "ImportRestApi.failOnWarnings": document_imported,
    "ImportRestApi.parameters": document_imported,
    "PutRestApi.failOnWarnings": document_imported,
    "PutRestApi.parameters": document_imported,
    "PutRestApi.mode": document_overwrites,
    "GetExport.parameters": exported,
    "GetResources.embed": methods_embedded,
    "GetResource.embed": methods_embedded,
    "GetDeployment.embed": summary_embedded,
    "GetStages.deploymentId": lambda call: (
        narrowed(call, ["one", "two"]), narrowed(call, ["two"], deploymentId=second),
        narrowed(call, [], deploymentId="none")),
    "ImportApiKeys.format": imported,
    "ImportApiKeys.failOnWarnings": imported,
    "GetApiKeys.nameQuery": lambda call: narrowed(call, [key["id"]], nameQuery="acm"),
    "GetApiKeys.customerId": lambda call: narrowed(call, [other["id"]], customerId="c-2"),
    "GetApiKeys.includeValues": lambda call: values_shown(call, "includeValues", lambda page: page["items"]),
    "GetApiKey.includeValue": lambda call: values_shown(call, "includeValue", lambda one: [one]),
    "GetUsagePlans.keyId": lambda call: (
        narrowed(call, [plan], keyId=key["id"]), narrowed(call, [], keyId="none")),
    "GetUsagePlanKeys.nameQuery": lambda call: (
        narrowed(call, ids_of_keys), narrowed(call, [other["id"]], nameQuery="other"),
        narrowed(call, [], nameQuery="none")),
    "GetUsage.keyId": lambda call: narrowed(call, [key["id"]], keyId=key["id"]),
    "GetUsage.startDate": of_days,
    "GetUsage.endDate": of_days,
    "UntagResource.tagKeys": untagged,
}

tried = 0
for operation, classes in CLASSES.items():
    query = {name: of for name, of in inputs(operation).items() if of.serialization.get("location") == "querystring"}
    for name in query.keys() & set(classes.get("acts", [])):
        ACTS.get(f"{operation}.{name}", paged if name in ("position", "limit") else None)(operation)
    for name in query.keys() & set(classes.get("refused", [])):
        refused(query[name].serialization["name"], operation, **base(operation), **{name: sample(query[name])})
    tried += len(query)
assert tried > 25, tried

# A parameter that nobody knows is refused by every call that is served, whatever else is wrong with the request.
UNSERVED = {"NotImplementedException": 501, "MethodNotAllowedException": 405}
event = "before-call.apigateway"
aws.meta.events.register(
    event, lambda params, **_: params.update(url=params["url"] + ("&" if "?" in params["url"] else "?") + "colour=red"))
served = 0
for operation in model.operation_names:
    shape = model.operation_model(operation).input_shape
    try:
        call(operation, **{name: sample(shape.members[name]) for name in shape.required_members})
    except ClientError as error:
        said = error.response["Error"]
        status = error.response["ResponseMetadata"]["HTTPStatusCode"]
        if said["Code"] in UNSERVED:
            assert operation not in CLASSES, error
            assert status == UNSERVED[said["Code"]], (operation, error)
            continue
        assert status == 400, (operation, error)
        assert "`colour`" in said["Message"], (operation, error)
        served += 1
    else:
        raise AssertionError(f"{operation} took the parameter colour")
assert served == len(CLASSES), served
