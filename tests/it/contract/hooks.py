"""What schemathesis sends, made likelier to be about what is there: tests/it/contract.rs made it."""

import random

import schemathesis

KNOWN = {
    "api_key": ["demo-key"], "key_id": ["demo"], "api": ["inference"], "stage": ["prod"],
    "method": ["POST", "GET"], "path": ["/v1/chat/completions", "/"], "policy": ["login"],
    "X-API-Key": ["demo-key"], "X-Forwarded-Method": ["POST"], "X-Forwarded-Uri": ["/v1/chat/completions"],
    "key_header": ["X-API-Key"], "keyId": ["acme"], "apiId": ["shop"], "op": ["replace"],
    "deploymentId": ["first"],
}
PATCHED = ["/name", "/description", "/throttle/rateLimit", "/quota/limit", "/enabled", "/apiStages", "/tags/a"]
IDS = {"/restapis": "shop", "/apikeys": "acme", "/usageplans": "free"}


def entries(members, name):
    found = members.get(name)
    return found if isinstance(found, list) else []


def likely(members, chance):
    if not isinstance(members, dict):
        return members
    for name in sorted(set(members) & set(KNOWN)):
        if isinstance(members[name], str) and chance.random() < 0.5:
            members[name] = chance.choice(KNOWN[name])
    if chance.random() < 0.5:
        # Who asks is said once, and a policy with whom it counts.
        if members.get("api_key"):
            members.pop("key_id", None)
        # Both or none: what lacks one on purpose has to be refused for that.
        if "policy" in members and "key" in members:
            members.update(policy="login", key="somebody")
    for more in ("checks", "policies"):
        for one in entries(members, more):
            likely(one, chance)
    for operation in entries(members, "patchOperations"):
        if isinstance(operation, dict) and chance.random() < 0.7:
            operation["path"] = chance.choice(PATCHED)
    return members


def chance(value):
    """The same for the same value: a failure can be tried again."""
    return random.Random(repr(value))


@schemathesis.hook
def map_body(context, body):
    return likely(body, chance(body))


@schemathesis.hook
def map_query(context, query):
    return likely(query, chance(query))


@schemathesis.hook
def map_headers(context, headers):
    return likely(headers, chance(headers))


@schemathesis.hook
def map_path_parameters(context, parameters):
    # What is there stays there: nothing of it is deleted.
    if parameters and context.operation.method.lower() != "delete" and chance(parameters).random() < 0.7:
        known = [known for path, known in IDS.items() if context.operation.path.startswith(path)]
        for name, value in (("id", known), ("name", ["prod"]), ("key", ["acme"])):
            if name in parameters and value:
                parameters[name] = value[0]
        if "arn" in parameters:
            parameters["arn"] = "arn:aws:apigateway:local::/usageplans/free"
    return parameters
