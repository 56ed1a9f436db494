"""What the JSON columns of tools and MCP servers may be, and what they are for a call."""

import json
from typing import Any
from urllib.parse import urlsplit

from jsonschema import Draft202012Validator, SchemaError

from agents.egress.addresses import is_private_allowed
from agents.egress.config import EgressConfig
from agents.toolbox.errors import ToolboxInvalid
from agents.tools.http import HEADER, OURS, HttpToolInvalid, check_address, read_http_tool
from tenants.keys.networks import is_public, read_address

PARAMETERS_CHARACTERS = 32_000
DEPTH = 24
HEADERS = 32
HEADER_CHARACTERS = 4_000
FILTER_NAMES = 128
FETCHING = ("$ref", "$dynamicRef", "$recursiveRef")


def check_json(value: Any, param: str) -> None:
    """What a JSON column can hold. Raises ToolboxInvalid."""
    if depth_of(value) > DEPTH:
        raise ToolboxInvalid({param: f"This may be nested {DEPTH} deep."})
    try:
        written = json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
    except (TypeError, ValueError) as error:
        words = "There is something in it that JSON cannot hold: a number that is none, or half a character."
        raise ToolboxInvalid({param: words}) from error
    if rb"\u0000" in written:
        raise ToolboxInvalid({param: "Null characters are not allowed."})


def check_parameters(parameters: Any, param: str = "parameters") -> None:
    """A JSON Schema of type object that holds all it refers to. Raises ToolboxInvalid."""
    if not isinstance(parameters, dict) or parameters.get("type") != "object":
        raise ToolboxInvalid({param: 'This is a JSON Schema of type object, such as {"type": "object"}.'})
    if len(json.dumps(parameters)) > PARAMETERS_CHARACTERS:
        raise ToolboxInvalid({param: f"This may have at most {PARAMETERS_CHARACTERS} characters."})
    try:
        Draft202012Validator.check_schema(parameters)
    except SchemaError as error:
        way = ".".join([param, *(str(step) for step in error.absolute_path)])
        raise ToolboxInvalid({way: f"This is no JSON Schema: {error.message[:300]}"}) from error
    _refuse_references(parameters, param)


def check_request(request: Any, response: Any, parameters: Any) -> None:
    """Raises ToolboxInvalid."""
    try:
        read_http_tool(request, response, parameters)
    except HttpToolInvalid as error:
        raise ToolboxInvalid({error.param: error.message}) from error
    check_reach(request["url"], "request.url")


def check_reach(url: str, param: str) -> None:
    """An address that is written out and that is not asked from here is told at once; where a name leads is found out
    when it is asked. Raises ToolboxInvalid."""
    host = urlsplit(url).hostname or ""
    address = "127.0.0.1" if host == "localhost" or host.endswith(".localhost") else host
    if read_address(address) is None or is_public(address):
        return
    if not is_private_allowed(address, EgressConfig.from_environ()):
        words = f"{host} is not public, so it is not asked; who runs the server can allow its network"
        raise ToolboxInvalid({param: f"{words} (AVB_EGRESS_PRIVATE_NETWORKS)."})


def check_server(url: Any, headers: Any, allowed_tools: Any, require_approval: Any) -> None:
    """Raises ToolboxInvalid."""
    try:
        check_address(url, "url")
    except HttpToolInvalid as error:
        raise ToolboxInvalid({"url": error.message}) from error
    check_reach(url, "url")
    if not isinstance(headers, dict) or len(headers) > HEADERS:
        raise ToolboxInvalid({"headers": f"This is an object of at most {HEADERS} headers."})
    for name, value in headers.items():
        if not HEADER.fullmatch(name) or name.lower() in OURS:
            raise ToolboxInvalid({f"headers.{name[:100]}": "This is no header that may be set."})
        if not isinstance(value, str) or not value.isascii() or not value.isprintable():
            raise ToolboxInvalid({f"headers.{name}": "A header's value is visible ASCII on one line."})
        if len(value) > HEADER_CHARACTERS:
            raise ToolboxInvalid({f"headers.{name}": f"A header has at most {HEADER_CHARACTERS} characters."})
    check_filter(allowed_tools)
    check_approval(require_approval)


def check_filter(value: Any, param: str = "allowed_tools") -> None:
    """OpenAI's ``allowed_tools``: names, or an object; None is all. Raises ToolboxInvalid."""
    if value is None:
        return
    shape = {"tool_names": value} if isinstance(value, list) else value
    if not isinstance(shape, dict) or shape.keys() - {"tool_names", "read_only"}:
        raise ToolboxInvalid({param: "This is a list of names, or an object with tool_names and read_only."})
    names, read_only = shape.get("tool_names") or [], shape.get("read_only")
    fits = isinstance(names, list) and len(names) <= FILTER_NAMES
    if not fits or not all(isinstance(name, str) and 0 < len(name) <= 128 for name in names):
        raise ToolboxInvalid({param: f"There may be up to {FILTER_NAMES} names of 1 to 128 characters."})
    if not isinstance(read_only, bool | None):
        raise ToolboxInvalid({f"{param}.read_only": "This is true or false."})


def check_approval(value: Any) -> None:
    """OpenAI's ``require_approval``; None is 'always', as there. Raises ToolboxInvalid."""
    if value in (None, "always", "never"):
        return
    if not isinstance(value, dict) or not value or value.keys() - {"always", "never"}:
        words = 'Use "always", "never", or an object with the filters always and never.'
        raise ToolboxInvalid({"require_approval": words})
    for name, part in value.items():
        if not isinstance(part, dict):
            raise ToolboxInvalid({f"require_approval.{name}": "This is an object with tool_names and read_only."})
        check_filter(part, f"require_approval.{name}")


def depth_of(value: Any) -> int:
    """How deep JSON is nested; DEPTH + 1 where it is deeper."""
    level, depth = [value], 0
    while level and depth <= DEPTH:
        level = [
            part
            for each in level
            for part in (each.values() if isinstance(each, dict) else each if isinstance(each, list) else ())
        ]
        depth += 1
    return depth


def _refuse_references(schema: Any, param: str) -> None:
    """A schema that refers to another document would have it fetched by whoever validates."""
    if isinstance(schema, dict):
        for name in FETCHING:
            reference = schema.get(name)
            if isinstance(reference, str) and not reference.startswith("#"):
                words = f"{name} may only refer to this schema itself, such as #/$defs/address."
                raise ToolboxInvalid({param: words})
        if isinstance(schema.get("$id"), str):
            raise ToolboxInvalid({param: "$id may not be used here."})
        for part in schema.values():
            _refuse_references(part, param)
    elif isinstance(schema, list):
        for part in schema:
            _refuse_references(part, param)
