"""Tools from an OpenAPI document, 3.0 or 3.1: each operation becomes a request with places and a JSON Schema of what a
model gives.

References are followed inside the document only, and nothing is fetched. Whatever cannot be made a tool says why.
"""

import datetime
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import urljoin

import msgspec
import yaml

from agents.toolbox.errors import ImportInvalid
from agents.toolbox.models import DESCRIPTION_CHARACTERS
from agents.tools.http import OURS, SECRET

LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
METHODS = ("get", "post", "put", "patch", "delete")
NODES = 200_000
"""Parts of a document, each counted as often as it is named: a few lines of YAML can name a million."""
DEPTH = 64
OPERATION_NODES = 2_000
CHOSEN_NODES = 20_000
"""Parts of schemas, with what they refer to, of one operation and of all that are read at once: checking one of them
takes some 0.2 ms."""
OPERATIONS = 1_000
SCHEMA_DEPTH = 16
PROPERTY_CHARACTERS = 500
DROPPED = frozenset(
    {"$schema", "$id", "$anchor", "$comment", "$defs", "definitions", "discriminator", "example", "examples",
     "externalDocs", "nullable", "pattern", "patternProperties", "xml", "writeOnly", "readOnly", "deprecated"}
)  # fmt: skip
"""Of a schema: what says nothing to a model, and regular expressions, which are not run over what others wrote."""
PLACE = re.compile(r"\{([^{}]+)\}")
JSON = re.compile(r"application/(.+\+)?json|\*/\*|application/\*")


class Unusable(Exception):
    """Why an operation cannot be made a tool."""


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation as a tool; ``security`` are the names of the schemes that it can be asked with, of which one is
    needed unless it is ``open``. ``problem``: why it cannot be made one, and then the rest is empty."""

    key: str
    name: str
    description: str = ""
    parameters: dict[str, Any] = field(default_factory=dict)
    request: dict[str, Any] = field(default_factory=dict)
    security: tuple[str, ...] = ()
    is_open: bool = True
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Document:
    title: str
    operations: tuple[Operation, ...]
    schemes: dict[str, str]
    """By name what kind of credential it wants, in our words; empty where there is none."""


def read_document(
    text: str, *, source_url: str = "", server_url: str = "", chosen: Collection[str] | None = None
) -> Document:
    """``source_url`` is where it came from, for a server written as a path; ``server_url`` is asked in the place of
    what the document says; of operations whose keys are not ``chosen`` only the name is read. Raises ImportInvalid."""
    root = _load(text)
    version = root.get("openapi")
    if not isinstance(version, str) or not re.match(r"3\.[01]\.", version):
        raise ImportInvalid({"document": "This is no OpenAPI document of version 3.0 or 3.1."})
    reader = _Reader(root, source_url, server_url)
    operations = tuple(reader.operations(chosen))
    if not operations:
        raise ImportInvalid({"document": "There are no operations in its paths."})
    if len(operations) > OPERATIONS:
        raise ImportInvalid({"document": f"There may be at most {OPERATIONS} operations."})
    title = root.get("info", {}).get("title") if isinstance(root.get("info"), dict) else ""
    return Document(str(title or "")[:200], _told_apart(operations), reader.schemes())


def _load(text: str) -> dict[str, Any]:
    try:
        if text.lstrip()[:1] == "{":
            loaded = msgspec.json.decode(text)
        else:
            _bound(text)
            loaded = yaml.load(text, Loader=LOADER)  # noqa: S506
        loaded = _Json(NODES).copy(loaded, DEPTH)
    except (msgspec.DecodeError, yaml.YAMLError) as error:
        first = next(iter(str(error).splitlines()), "")
        raise ImportInvalid({"document": f"This is neither JSON nor YAML: {first[:300]}"}) from error
    except (RecursionError, ValueError) as error:
        raise ImportInvalid({"document": "This is nested too deeply, or too large."}) from error
    if not isinstance(loaded, dict):
        raise ImportInvalid({"document": "An OpenAPI document is an object."})
    return loaded


def _bound(text: str) -> None:
    """Raises ValueError. libyaml's own loader calls itself for each level of nesting, until the process dies of it: so
    its events, which come one by one, are counted first."""
    depth = 0
    for count, event in enumerate(yaml.parse(text, Loader=LOADER)):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > DEPTH or count > NODES:
            raise ValueError


class _Json:
    """Copies what YAML made into what JSON has, within a number of parts."""

    def __init__(self, nodes: int) -> None:
        self._left = nodes

    def copy(self, value: Any, depth: int) -> Any:
        self._left -= 1
        if self._left < 0 or depth < 0:
            raise ValueError
        if isinstance(value, dict):
            return {str(name): self.copy(part, depth - 1) for name, part in value.items()}
        if isinstance(value, list):
            return [self.copy(part, depth - 1) for part in value]
        if isinstance(value, datetime.date):
            return value.isoformat()
        return value if value is None or isinstance(value, str | bool | int | float) else str(value)


class _Reader:
    def __init__(self, root: dict[str, Any], source_url: str, server_url: str) -> None:
        self._root = root
        self._source_url = source_url
        self._server_url = server_url
        self._left = 0
        self._left_of_all = CHOSEN_NODES

    def operations(self, chosen: Collection[str] | None) -> Iterator[Operation]:
        for path, item in _object(self._root.get("paths")).items():
            try:
                shared = self._follow(item)
            except Unusable:
                shared = {}
            for method in METHODS:
                if not isinstance(operation := shared.get(method), dict):
                    continue
                key, name = f"{method.upper()} {path}", _name(str(operation.get("operationId") or f"{method}{path}"))
                if chosen is None or key in chosen:
                    yield self._operation(Operation(key, name), path, shared, operation)
                else:
                    yield Operation(key, name)

    def schemes(self) -> dict[str, str]:
        found = {}
        for name, scheme in _object(_object(self._root.get("components")).get("securitySchemes")).items():
            try:
                found[name] = _kind_of(self._follow(scheme))
            except Unusable:
                found[name] = ""
        return found

    def _operation(self, named: Operation, path: str, shared: dict[str, Any], operation: dict[str, Any]) -> Operation:
        self._left = OPERATION_NODES
        try:
            draft = _Draft(named.key.partition(" ")[0])
            self._parameters(draft, [*_list(shared.get("parameters")), *_list(operation.get("parameters"))])
            if body := operation.get("requestBody"):
                self._body(draft, self._follow(body))
            security = operation.get("security", self._root.get("security"))
            return replace(
                named,
                description=_describe(operation),
                parameters=draft.schema(),
                request=draft.request(self._url(operation, shared) + _place_arguments(path, draft.paths)),
                security=tuple(
                    dict.fromkeys(each for one in _list(security) for each in _object(one) if len(one) == 1)
                ),
                is_open=not _list(security) or {} in _list(security),
            )
        except Unusable as error:
            return replace(named, problem=str(error))

    def _url(self, operation: dict[str, Any], shared: dict[str, Any]) -> str:
        if self._server_url:
            return self._server_url.rstrip("/")
        servers = _list(operation.get("servers")) or _list(shared.get("servers")) or _list(self._root.get("servers"))
        server = _object(servers[0]) if servers else {"url": "/"}
        variables = _object(server.get("variables"))

        def default(place: re.Match[str]) -> str:
            return str(_object(variables.get(place[1])).get("default", place[0]))

        url = urljoin(self._source_url, PLACE.sub(default, str(server.get("url", "/")))).rstrip("/")
        if not url.startswith(("https://", "http://")):
            raise Unusable("The document does not say which server to ask: give server_url.")
        return url

    def _parameters(self, draft: "_Draft", parameters: list[Any]) -> None:
        known: dict[tuple[str, str], dict[str, Any]] = {}
        for parameter in map(self._follow, parameters):
            known[str(parameter.get("in")), str(parameter.get("name"))] = parameter
        for (place, name), parameter in known.items():
            schema = self._schema(_object(parameter.get("schema")))
            if words := parameter.get("description"):
                schema = {**schema, "description": str(words)[:PROPERTY_CHARACTERS]}
            needed = bool(parameter.get("required"))
            if place == "header" and name.lower() in OURS | SECRET | {"accept", "content-type"}:
                continue
            if reason := _why_not(place, parameter, schema):
                if needed:
                    raise Unusable(f"The parameter {name!r} is needed and {reason}.")
                continue
            draft.add(place, name, schema, needed=needed)

    def _body(self, draft: "_Draft", body: dict[str, Any]) -> None:
        content, needed = _object(body.get("content")), bool(body.get("required"))
        kinds = [kind for kind in content if JSON.fullmatch(kind.partition(";")[0].strip().lower())]
        if not kinds:
            if content or needed:
                raise Unusable(f"Its body is {', '.join(content)[:100] or 'of no known type'}; only JSON can be sent.")
            return
        if draft.method == "GET":
            raise Unusable("A GET has no body.")
        schema = self._schema(_object(content[kinds[0]]).get("schema", {}), without_read_only=True)
        properties = schema.get("properties")
        if schema.get("type") != "object" or not isinstance(properties, dict) or not properties or "oneOf" in schema:
            draft.add_body(schema, needed=needed)
            return
        # Few documents say that a body is required; what its members say of themselves is believed.
        required = schema.get("required", [])
        for name, part in properties.items():
            draft.add("body", name, part, needed=name in required)

    def _follow(self, value: Any) -> dict[str, Any]:
        """The object, or the one that it refers to."""
        for _ in range(SCHEMA_DEPTH):
            if not isinstance(value, dict):
                raise Unusable("The document has something else where an object should be.")
            if "$ref" not in value:
                return value
            value = self._target(value["$ref"])
        raise Unusable("The document refers in a circle.")

    def _target(self, reference: Any) -> Any:
        if not isinstance(reference, str) or not reference.startswith("#/"):
            raise Unusable(f"It refers to {str(reference)[:100]!r}, which is not in the document.")
        found: Any = self._root
        for step in reference[2:].split("/"):
            step = step.replace("~1", "/").replace("~0", "~")
            if isinstance(found, list) and step.isdigit() and int(step) < len(found):
                found = found[int(step)]
            elif isinstance(found, dict) and step in found:
                found = found[step]
            else:
                raise Unusable(f"It refers to {reference[:100]!r}, which is not in the document.")
        return found

    def _schema(self, schema: Any, inside: tuple[str, ...] = (), *, without_read_only: bool = False) -> Any:
        """The schema with what it refers to in its place; what refers to itself, or goes too deep, takes anything."""
        self._left -= 1
        self._left_of_all -= 1
        if self._left < 0:
            raise Unusable("Its schemas are too large.")
        if self._left_of_all < 0:
            raise Unusable("The schemas are too large to be read all at once: choose operations.")
        if not isinstance(schema, dict):
            return schema if isinstance(schema, bool) else {}
        if "$ref" in schema:
            reference = schema["$ref"]
            if reference in inside or len(inside) >= SCHEMA_DEPTH:
                return {}
            return self._schema(self._target(reference), (*inside, reference), without_read_only=without_read_only)
        if len(inside) >= SCHEMA_DEPTH:
            return {}
        inside = (*inside, "")

        def inner(part: Any) -> Any:
            return self._schema(part, inside, without_read_only=without_read_only)

        made: dict[str, Any] = {}
        for name, part in schema.items():
            if name in DROPPED or name.startswith("x-"):
                continue
            if name == "properties":
                made[name] = {
                    each: inner(sub)
                    for each, sub in _object(part).items()
                    if not (without_read_only and isinstance(sub, dict) and sub.get("readOnly") is True)
                }
            elif name in ("items", "additionalProperties", "not", "propertyNames", "contains", "if", "then", "else"):
                made[name] = inner(part)
            elif name in ("allOf", "anyOf", "oneOf", "prefixItems"):
                made[name] = [inner(sub) for sub in _list(part)]
            elif name == "description":
                made[name] = str(part)[:PROPERTY_CHARACTERS]
            else:
                made[name] = part
        return _modern(_merged(made), nullable=schema.get("nullable") is True)


class _Draft:
    """What a model gives and where it goes, as they are found."""

    def __init__(self, method: str) -> None:
        self.method = method
        self.paths: dict[str, str] = {}
        self._properties: dict[str, Any] = {}
        self._required: list[str] = []
        self._parts: dict[str, dict[str, Any]] = {"query": {}, "header": {}, "body": {}}
        self._body: Any = None

    def add(self, place: str, name: str, schema: Any, *, needed: bool) -> None:
        argument = self._argument(name, place, schema, needed=needed or place == "path")
        if place == "path":
            self.paths[name] = argument
        else:
            self._parts[place][name] = f"{{{{arguments.{argument}}}}}"

    def add_body(self, schema: Any, *, needed: bool) -> None:
        self._body = f"{{{{arguments.{self._argument('body', 'body', schema, needed=needed)}}}}}"

    def schema(self) -> dict[str, Any]:
        return {"type": "object", "properties": self._properties, "required": self._required}

    def request(self, url: str) -> dict[str, Any]:
        request = {"method": self.method, "url": url, "query": self._parts["query"], "headers": self._parts["header"]}
        body = self._body or self._parts["body"] or None
        return {name: part for name, part in (request | {"body": body}).items() if part}

    def _argument(self, name: str, place: str, schema: Any, *, needed: bool) -> str:
        argument = re.sub(r"[^A-Za-z0-9_-]+", "_", name).strip("_")[:60] or place
        while argument in self._properties:
            argument = f"{argument}_{place}"[-64:]
        self._properties[argument] = schema
        if needed:
            self._required.append(argument)
        return argument


def _place_arguments(path: str, arguments: Mapping[str, str]) -> str:
    def place(found: re.Match[str]) -> str:
        if found[1] not in arguments:
            raise Unusable(f"Its path has {found[0]}, which is none of its parameters.")
        return f"{{{{arguments.{arguments[found[1]]}}}}}"

    return PLACE.sub(place, path)


def _why_not(place: str, parameter: dict[str, Any], schema: Any) -> str:
    kind = schema.get("type") if isinstance(schema, dict) else None
    if place not in ("path", "query", "header"):
        return f"is sent in a {place[:20]}"
    if "content" in parameter:
        return "has a content type of its own"
    if place == "query" and kind == "array" and parameter.get("explode") is False:
        return "is a list in one value"
    if kind == "object" or (kind == "array" and place != "query"):
        return f"is of type {kind}"
    return ""


def _kind_of(scheme: dict[str, Any]) -> str:
    match scheme.get("type"), str(scheme.get("scheme", "")).lower():
        case "apiKey", _ if scheme.get("in") in ("header", "query"):
            return "api_key"
        case "http", "bearer":
            return "bearer"
        case "http", "basic":
            return "basic"
        case "oauth2", _ if "clientCredentials" in _object(scheme.get("flows")):
            return "oauth2_client_credentials"
    return ""


def _merged(schema: dict[str, Any]) -> dict[str, Any]:
    """``allOf`` of plain objects as one object: models read it better, and a body can be given by its members."""
    parts = schema.get("allOf")
    if not parts or not all(isinstance(part, dict) and not part.keys() - PLAIN for part in parts):
        return schema
    merged = {name: part for name, part in schema.items() if name != "allOf"}
    for part in parts:
        merged["properties"] = _object(part.get("properties")) | _object(merged.get("properties"))
        merged["required"] = list(dict.fromkeys([*_list(merged.get("required")), *_list(part.get("required"))]))
        for name in ("type", "title", "description"):
            if name in part:
                merged.setdefault(name, part[name])
    return merged


PLAIN = {"type", "properties", "required", "title", "description"}


def _modern(schema: dict[str, Any], *, nullable: bool) -> dict[str, Any]:
    """What 3.0 writes differently from JSON Schema 2020-12."""
    for name, bound in (("exclusiveMinimum", "minimum"), ("exclusiveMaximum", "maximum")):
        if isinstance(schema.get(name), bool) and schema.pop(name) and bound in schema:
            schema[name] = schema.pop(bound)
    if nullable and isinstance(schema.get("type"), str):
        schema["type"] = [schema["type"], "null"]
        if isinstance(schema.get("enum"), list) and None not in schema["enum"]:
            schema["enum"] = [*schema["enum"], None]
    return schema


def _told_apart(operations: tuple[Operation, ...]) -> tuple[Operation, ...]:
    """No two of the same name."""
    seen: dict[str, int] = {}
    made = []
    for operation in operations:
        count = seen[operation.name] = seen.get(operation.name, 0) + 1
        name = operation.name if count == 1 else f"{operation.name[:60]}_{count}"
        made.append(replace(operation, name=name))
    return tuple(made)


def _describe(operation: dict[str, Any]) -> str:
    words = [str(operation[name]).strip() for name in ("summary", "description") if operation.get(name)]
    return "\n".join(dict.fromkeys(words))[:DESCRIPTION_CHARACTERS]


def _name(written: str) -> str:
    return re.sub(r"[^A-Za-z0-9_-]+", "_", written).strip("_")[:64] or "operation"


def _object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
