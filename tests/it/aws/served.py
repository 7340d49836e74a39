"""The members of the requests that the admin API serves: botocore's model, and members.toml, which classifies them.

Prints the table of docs/admin-api.md. A member that botocore knows and members.toml does not, or the other way round,
is an error: a newer botocore with a new member ends the programs that use this.
"""

import tomllib
from pathlib import Path

import boto3
import botocore.session
from botocore.config import Config

CLASSES = tomllib.loads(Path(__file__).with_name("members.toml").read_text())
model = botocore.session.get_session().get_service_model("apigateway")


def connect(admin):
    """A client of the admin API that tries once, and its requests by the names of their operations."""
    aws = boto3.client("apigateway", endpoint_url=admin, region_name="eu-central-1", config=Config(retries={"max_attempts": 0}, proxies={}))
    methods = {operation: method for method, operation in aws.meta.method_to_api_mapping.items()}
    return aws, lambda operation, /, **arguments: getattr(aws, methods[operation])(**arguments)


def inputs(operation):
    """The members of a call beside those in its path, each with its shape."""
    shape = model.operation_model(operation).input_shape
    members = shape.members.items() if shape else ()
    return {name: of for name, of in members if of.serialization.get("location") not in ("uri", "header")}


def nested(name, shape):
    """A member, and those below it."""
    yield name
    while shape.type_name in ("list", "map"):
        shape = shape.member if shape.type_name == "list" else shape.value
    for member, of in shape.members.items() if shape.type_name == "structure" else ():
        yield from nested(f"{name}.{member}", of)


def check():
    unknown = set(CLASSES) - set(model.operation_names)
    assert not unknown, f"botocore has no {unknown}"
    for operation, classes in CLASSES.items():
        known = sorted(path for name, of in inputs(operation).items() for path in nested(name, of))
        listed = sorted(name for of in classes.values() for name in of)
        assert known == listed, f"{operation}: botocore has {known}, members.toml {listed}"


def shown(names):
    """Members with those below them: `quota` (`limit`, `offset`)."""
    texts = []
    for name in names:
        parent, _, last = name.rpartition(".")
        if parent in names:
            continue
        below = [f"`{other[len(name) + 1:]}`" for other in names if other.startswith(name + ".")]
        texts.append(f"`{name}`" + (f" ({', '.join(below)})" if below else ""))
    return ", ".join(texts)


def table():
    rows = {}
    for operation, classes in CLASSES.items():
        if classes:
            cells = " | ".join(shown(classes.get(kind, [])) for kind in ("acts", "shown", "refused"))
            rows.setdefault(cells, []).append(f"`{operation}`")
    lines = ["| call | acts | kept and shown | refused |", "|---|---|---|---|"]
    lines += [f"| {', '.join(calls)} | {cells} |" for cells, calls in rows.items()]
    bare = [f"`{operation}`" for operation, classes in CLASSES.items() if not classes]
    others = [f"`{operation}`" for operation in model.operation_names if operation not in CLASSES]
    for head, names in (("Without members", bare), ("Not served", others)):
        lines += ["", *filled(f"{head}: {', '.join(names)}.")]
    return "\n".join(lines)


def filled(text, width=118):
    lines = [""]
    for word in text.split(" "):
        if len(lines[-1]) + len(word) > width:
            lines.append("")
        lines[-1] += (" " if lines[-1] else "") + word
    return lines


check()
if __name__ == "__main__":
    print(table())
