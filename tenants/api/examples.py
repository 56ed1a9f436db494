"""Examples for the OpenAPI document: what a room writes beside its shapes, and for the rest one made from the schema.

A made example obeys its schema: formats, enumerations, bounds. A resource's fields have the values that
``tenants.api.resources`` gives them; names that mean the same everywhere have the same value.
"""

import re
from typing import Any

from tenants.api.resources import LEFT_OUT, RESOURCES, resource_of

KNOWN: dict[str, Any] = {
    "agent": "front-desk",
    "slug": "front-desk",
    "name": "Front desk",
    "email": "ada@example.com",
    "end_user": "customer-4711",
    "key_id": "key_5f0c9a1b2d3e4f5061728394",
    "session_id": "sess_4m1Qd7Zk",
    "conversation_id": "conv_8sHq2LxT",
    "voice": "marin",
    "language": "en",
    "address": "203.0.113.7",
    "currency": "EUR",
    "cors_origins": ["https://app.example.com"],
    "domains": ["voice.example.com"],
    "domain": "example.com",
    "thresholds": [50, 80, 100],
    "allowed_networks": ["203.0.113.0/24"],
    "issuer": "https://login.example.com",
    "scopes": ["agents:read"],
    "role": "viewer",
}
FORMATS: dict[str, Any] = {
    "date-time": "2027-01-15T08:00:00Z",
    "date": "2027-01-15",
    "uuid": "3f1c2b9e-6a57-4f0e-9d2c-0b8a7c6d5e4f",
    "email": "ada@example.com",
    "uri": "https://voice.example.com/",
    "decimal": "1.25",
}
DEEPEST = 8


def make_example(schema: dict[str, Any], components: dict[str, Any], name: str = "", *, writing: bool = False) -> Any:
    """A value that the schema allows; ``writing``: as a client sends it, without what only the server sets."""
    return _make(schema, components, name, writing, 0)


def _make(schema: dict[str, Any], components: dict[str, Any], name: str, writing: bool, depth: int) -> Any:
    resource = ""
    if "$ref" in schema:
        component = schema["$ref"].rpartition("/")[2]
        schema, resource = components[component], resource_of(component)
    for given in ("example", "default", "const"):
        if given in schema:
            return schema[given]
    if schema.get("examples"):
        return schema["examples"][0]
    if "enum" in schema:
        return next((value for value in schema["enum"] if value not in ("", None)), schema["enum"][0])
    if "allOf" in schema:
        parts = [_make(part, components, name, writing, depth + 1) for part in schema["allOf"]]
        return {key: value for part in parts for key, value in part.items()} if isinstance(parts[0], dict) else parts[0]
    for choice in ("oneOf", "anyOf"):
        if choice in schema:
            return _make(schema[choice][0], components, name, writing, depth + 1)
    kind = schema.get("type")
    if isinstance(kind, list):
        kind = next(each for each in kind if each != "null")
    if name in KNOWN and _fits(KNOWN[name], schema, kind):
        return KNOWN[name]
    if kind == "object" or "properties" in schema:
        return _make_object(schema, components, resource, writing, depth)
    if kind == "array":
        wanted = max(1, schema.get("minItems", 0))
        return (
            [_make(schema.get("items", {}), components, name, writing, depth + 1)] * wanted if depth < DEEPEST else []
        )
    if kind == "boolean":
        return False
    if kind in ("integer", "number"):
        return _make_number(schema, kind)
    if kind == "string":
        return _make_text(schema, name)
    return {} if kind is None else None


def _make_object(
    schema: dict[str, Any], components: dict[str, Any], resource: str, writing: bool, depth: int
) -> dict[str, Any]:
    shown, given = {}, RESOURCES.get(resource, {})
    for name, inner in schema.get("properties", {}).items():
        hidden = inner.get("readOnly") if writing else inner.get("writeOnly")
        if depth < DEEPEST and not hidden and name not in LEFT_OUT.get(resource, ()):
            shown[name] = given[name] if name in given else _make(inner, components, name, writing, depth + 1)
    return shown


def _make_number(schema: dict[str, Any], kind: str) -> float:
    low = schema.get("minimum", schema.get("exclusiveMinimum", 0))
    number = max(1, low + (1 if "exclusiveMinimum" in schema else 0))
    number = min(number, schema.get("maximum", number))
    return int(number) if kind == "integer" else float(number)


def _make_text(schema: dict[str, Any], name: str) -> str:
    if schema.get("format") in FORMATS:
        return FORMATS[schema["format"]]
    if "pattern" in schema:
        return "0.00" if schema["pattern"].startswith("^-?\\d") else "front-desk"
    text = name.replace("_", " ") or "text"
    return text.ljust(schema.get("minLength", 0), ".")[: schema.get("maxLength", 1000)]


def _fits(value: Any, schema: dict[str, Any], kind: Any) -> bool:
    if value is None:
        return isinstance(schema.get("type"), list) and "null" in schema["type"]
    if isinstance(value, list):
        return kind == "array"
    fits = re.search(schema["pattern"], value) if "pattern" in schema else True
    return kind == "string" and bool(fits) and schema.get("maxLength", 1000) >= len(value)
