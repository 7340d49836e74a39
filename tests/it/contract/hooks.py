"""What schemathesis sends, made likelier to be about what is there: tests/it/contract.rs made it."""

import os
import random
from collections.abc import MutableMapping

import hypothesis
import schemathesis

# schemathesis asks hypothesis for requests like those that were accepted, and hypothesis then spends
# nearly all of a long run on making such requests shorter. What is likely is said below instead.
hypothesis.target = lambda *_, **__: None

KNOWN = {
    "api_key": ["demo-key", "a-strangers-key"], "key_id": ["demo"], "api": ["inference"], "stage": ["prod"],
    "method": ["POST", "GET"], "path": ["/v1/chat/completions", "/"], "policy": ["login"],
    "X-API-Key": ["demo-key"], "X-Forwarded-Method": ["POST"], "X-Forwarded-Uri": ["/v1/chat/completions"],
    "key_header": ["X-API-Key"], "keyId": ["acme"], "apiId": ["shop"], "op": ["replace"],
    "deploymentId": ["first"], "handle": os.environ.get("HANDLES", "").split(),
}
PATCHED = ["/name", "/description", "/throttle/rateLimit", "/quota/limit", "/enabled", "/apiStages", "/tags/a"]
IDS = {"/restapis": "shop", "/apikeys": "acme", "/usageplans": "free"}


def entries(members, name):
    found = members.get(name)
    return found if isinstance(found, list) else []


def likely(members, chance):
    if not isinstance(members, MutableMapping):
        return
    for name in sorted(set(members) & set(KNOWN)):
        if isinstance(members[name], str) and KNOWN[name] and chance.random() < 0.5:
            members[name] = chance.choice(KNOWN[name])
    if chance.random() < 0.5:
        # A client is named once, and a policy with the key that it counts.
        if members.get("api_key"):
            members.pop("key_id", None)
        if members.get("policy"):
            members.update(policy="login", key="somebody")
    for more in ("checks", "policies", "reservations"):
        for one in entries(members, more):
            likely(one, chance)
    for operation in entries(members, "patchOperations"):
        if isinstance(operation, dict) and chance.random() < 0.7:
            operation["path"] = chance.choice(PATCHED)


def chance(value):
    """The same for the same value: a failure can be tried again."""
    return random.Random(repr(value))


def existing(parameters, operation, chance):
    # Resources that exist are kept: none of them is deleted.
    if operation.method.lower() == "delete" or chance.random() >= 0.7:
        return
    known = [known for path, known in IDS.items() if operation.path.startswith(path)]
    for name, value in (("id", known), ("name", ["prod"]), ("key", ["acme"])):
        if name in parameters and value:
            parameters[name] = value[0]
    if "arn" in parameters:
        parameters["arn"] = "arn:aws:apigateway:local::/usageplans/free"


@schemathesis.hook
def map_case(context, case):
    parts = {"body": case.body, "query": case.query, "header": case.headers, "path": case.path_parameters}
    for location, component in case.meta.components.items():
        members = parts.get(location.value)
        # A request that is wrong on purpose stays so: it has to be refused for that.
        if members and component.mode == schemathesis.GenerationMode.POSITIVE:
            likely(members, chance(members))
            if location.value == "path":
                existing(members, case.operation, chance(members))
    return case
