"""Which differences between two versions of a record break somebody.

Messages of the old version lie on topics for days and old programs go on writing them, so the new version must accept
them all; and who reads a field must go on finding it. Allowed: new optional fields, wider types and bounds, more
values of an enumeration, other descriptions.
"""

from collections.abc import Callable, Iterator
from typing import Any

Schema = dict[str, Any]

_LOWER_BOUNDS = ("minimum", "exclusiveMinimum", "minLength", "minItems")
_UPPER_BOUNDS = ("maximum", "exclusiveMaximum", "maxLength", "maxItems")
_EXACT = ("pattern", "format", "const", "uniqueItems", "multipleOf")


def json_breaks(name: str, old: Schema, new: Schema) -> list[str]:
    """Sentences, each naming the field, on what `new` takes away from or newly asks of messages valid under `old`."""
    return list(_breaks(name, old, new, _resolver(old), _resolver(new)))


def arrow_breaks(name: str, old: Schema, new: Schema) -> list[str]:
    """The same for the columns of an Arrow record."""
    before = {column["name"]: column for column in old["columns"]}
    after = {column["name"]: column for column in new["columns"]}
    found = [f"{name}.{column} was removed" for column in before if column not in after]
    for column, now in after.items():
        was = before.get(column)
        if was is not None and was["type"] != now["type"]:
            found.append(f"{name}.{column} changed from {was['type']} to {now['type']}")
        if now["required"] and not (was and was["required"]):
            found.append(f"{name}.{column} is newly required")
    return found


def _resolver(root: Schema) -> Callable[[Schema], Schema]:
    def resolve(schema: Schema) -> Schema:
        while "$ref" in schema:
            target: Any = root
            for part in schema["$ref"].removeprefix("#/").split("/"):
                target = target[part]
            schema = {key: value for key, value in schema.items() if key != "$ref"} | target
        return schema

    return resolve


def _breaks(
    name: str, old: Schema, new: Schema, of_old: Callable[[Schema], Schema], of_new: Callable[[Schema], Schema]
) -> Iterator[str]:
    after = _alternatives(new, of_new)
    for kind, was in _alternatives(old, of_old).items():
        now = after.get(kind) or after.get("any") or (after.get("number") if kind == "integer" else None)
        if now is None:
            yield f"{name} no longer takes {kind}"
            continue
        yield from _narrowed(name, was, now)
        yield from _object_breaks(name, was, now, of_old, of_new)
        if "items" in was and "items" in now:
            yield from _breaks(f"{name}[]", was["items"], now["items"], of_old, of_new)


def _object_breaks(
    name: str, was: Schema, now: Schema, of_old: Callable[[Schema], Schema], of_new: Callable[[Schema], Schema]
) -> Iterator[str]:
    fields = now.get("properties", {})
    for field, before in was.get("properties", {}).items():
        if field in fields:
            yield from _breaks(f"{name}.{field}", before, fields[field], of_old, of_new)
        else:
            yield f"{name}.{field} was removed"
    for field in sorted(set(now.get("required", ())) - set(was.get("required", ()))):
        yield f"{name}.{field} is newly required"
    values = was.get("additionalProperties"), now.get("additionalProperties")
    if values[1] is False and values[0] is not False:
        yield f"{name} no longer takes unknown fields"
    if isinstance(values[0], dict) and isinstance(values[1], dict):
        yield from _breaks(f"{name}.*", values[0], values[1], of_old, of_new)


def _alternatives(schema: Schema, resolve: Callable[[Schema], Schema]) -> dict[str, Schema]:
    """Type name to the schema of that type, through references and anyOf."""
    schema = resolve(schema)
    if "anyOf" in schema:
        return {kind: part for choice in schema["anyOf"] for kind, part in _alternatives(choice, resolve).items()}
    return {str(schema.get("type", "any")): schema}


def _narrowed(name: str, was: Schema, now: Schema) -> Iterator[str]:
    lost = sorted(str(value) for value in _values(was) - _values(now)) if _values(now) else []
    if lost:
        yield f"{name} no longer takes {', '.join(lost)}"
    if _values(now) and not _values(was):
        yield f"{name} newly takes only {', '.join(sorted(map(str, _values(now))))}"
    for bound in _LOWER_BOUNDS:
        if bound in now and now[bound] > was.get(bound, float("-inf")):
            yield f"{name} has a higher {bound}"
    for bound in _UPPER_BOUNDS:
        if bound in now and now[bound] < was.get(bound, float("inf")):
            yield f"{name} has a lower {bound}"
    for key in _EXACT:
        if key in now and key != "const" and now[key] != was.get(key):
            yield f"{name} has another {key}"


def _values(schema: Schema) -> set[Any]:
    """The enumerated values; empty where every value goes."""
    return set(schema["enum"]) if "enum" in schema else {schema["const"]} if "const" in schema else set()
