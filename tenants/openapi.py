"""What drf-spectacular cannot see by itself: the key scheme, and what ``TenantAPIView`` gives to every operation: the
envelope, the errors, the headers, a heading, and an example of what is sent and answered."""

import inspect
from typing import Any

from django.conf import settings
from drf_spectacular.extensions import OpenApiAuthenticationExtension

from tenants.api.examples import make_example
from tenants.api.pages import NEXT_PAGE
from tenants.api.problems import MEANINGS, PROBLEM_JSON, as_problem_details, problem_body
from tenants.api.resources import FILES, IN_PATHS
from tenants.permissions import TENANT_SCOPES, Scope
from tenants.rest import PlatformAPIView, TenantAPIView

JSON = "application/json"
TAGS = {
    "agents": "Who speaks on a call, and how.",
    "audit": "What was done by whom: append-only, chained by hash.",
    "budgets": "What a month may cost, and when to say so.",
    "conversations": "What was said on calls.",
    "features": "For platform operators: what is turned on and off, for all tenants and for single ones.",
    "invitations": "People who are asked to join.",
    "keys": "API keys: shown once, revoked at once.",
    "limits": "What may be used, and what is left of it.",
    "mcp-servers": "Remote MCP servers whose tools agents may use.",
    "me": "The person who signed in, and the tenant they act in.",
    "members": "People, their roles and their invitations.",
    "oauth-clients": "Programs that fetch access tokens by client credentials.",
    "plans": "For platform operators: what tenants of a plan may use.",
    "platform": "For platform operators: the platform's own audit log.",
    "prices": "For platform operators: what a unit of each meter costs, from which day on.",
    "privacy": "Export and erasure of what is kept of an end user.",
    "providers": "Ways to language models: the tenant's own, and the names of the platform's.",
    "recording-policy": "Which calls are recorded.",
    "recordings": "Recorded calls.",
    "redaction-policy": "Which personal data is not kept.",
    "routing-rules": "Which agent takes a call that names none.",
    "sso": "Single sign-on by the tenant's own provider.",
    "tenant": "The tenant's own settings.",
    "tenants": "For platform operators: tenants and their lives.",
    "tool-credentials": "What tools and MCP servers prove themselves by; secrets are never shown.",
    "tools": "HTTP requests that agents can have sent, and what else they can be given.",
    "usage": "What was used, to the second and the token, and what it costs.",
    "voices": "Voices that agents speak with.",
}
# What the base says of itself is about the code: a view that says nothing has its heading.
INHERITED = [inspect.getdoc(view) for view in (TenantAPIView, PlatformAPIView)]
SPELLED = {"oauth": "OAuth", "csv": "CSV", "json": "JSON", "stripe": "Stripe"}
# There is one at most, and there may be none.
SINGLE = ("/api/v1/sso/",)
TEXT = {"type": "string"}
HEADERS = {
    "RequestId": {"name": "X-Request-Id", "schema": TEXT | {"maxLength": 128, "pattern": "^[A-Za-z0-9_.-]+$"},
                  "description": "Names this request in our logs; one is drawn when you send none."},
    "IdempotencyKey": {"name": "Idempotency-Key",
                       "schema": TEXT | {"minLength": 1, "maxLength": 255, "pattern": "^[!#-\\[\\]-~]+$"},
                       "description": "Draw one for each request, such as a UUID. Sent again within a day, the same "
                                      "request is answered again and done once."},
    "IfMatch": {"name": "If-Match", "schema": TEXT,
                "description": "The ETag that GET answered: a change decided on an old state is refused with 412."},
    "IfNoneMatch": {"name": "If-None-Match", "schema": TEXT,
                    "description": "An ETag you have: 304 when nothing changed."},
}  # fmt: skip
ANSWER_HEADERS = {
    "X-Request-Id": {"description": "Names this request in our logs.", "schema": TEXT},
    "ETag": {"description": "Names this state of the thing.", "schema": TEXT},
    "Idempotency-Replayed": {"description": "`true` when this answer was given before.", "schema": TEXT},
    "Retry-After": {"description": "Seconds to wait.", "schema": {"type": "integer", "minimum": 0}},
    "RateLimit": {"description": "What is left of each limit, as the IETF draft writes it.", "schema": TEXT},
    "RateLimit-Policy": {"description": "The limits that apply.", "schema": TEXT},
}
PROBLEM = {
    "type": "object",
    "description": "An error, in the envelope.",
    "required": ["status", "error"],
    "properties": {
        "status": {"type": "string", "enum": ["error"]},
        "error": {
            "type": "object",
            "required": ["code", "message", "param", "documentation"],
            "properties": {
                "code": {"type": "string", "description": "For programs."},
                "message": {"type": "string", "description": "For people."},
                "param": {"type": ["string", "null"], "description": "The field, parameter or header it is about."},
                "documentation": {"type": "string", "description": "Where it is explained."},
            },
        },
    },
}
PROBLEM_DETAILS = {
    "type": "object",
    "description": "The same error as RFC 9457 shapes it.",
    "required": ["type", "title", "status", "detail", "code", "param"],
    "properties": {
        "type": {"type": "string", "format": "uri-reference"},
        "title": TEXT,
        "status": {"type": "integer"},
        "detail": TEXT,
        "code": TEXT,
        "param": {"type": ["string", "null"]},
    },
}
ERROR_EXAMPLES = {
    400: ("required", "This field is required.", "name"),
    401: ("invalid_api_key", "The API key is not valid.", None),
    403: ("insufficient_scope", "The API key lacks the scope 'agents:write'.", None),
    404: ("not_found", "There is no agent 'front-desk'.", None),
    406: ("not_acceptable", "Could not satisfy the request Accept header.", None),
    409: ("idempotency_key_in_use", "The first request with this key is still running; try again shortly.",
          "Idempotency-Key"),
    412: ("precondition_failed", "It has changed since; read it again and decide anew.", "If-Match"),
    413: ("body_too_large", "The body may have at most 1048576 bytes.", None),
    415: ("unsupported_media_type", 'Unsupported media type "text/csv" in request.', None),
    422: ("idempotency_key_reused", "This key came before with another request; draw a new key for each.",
          "Idempotency-Key"),
    428: ("precondition_required", "Send the header 'If-Match' with the ETag that GET answered.", "If-Match"),
    429: ("rate_limit_exceeded", "Too many requests; try again in 2 seconds.", None),
    503: ("database_unavailable", "The database does not answer at the moment; try again shortly.", None),
}  # fmt: skip


class ApiKeyScheme(OpenApiAuthenticationExtension):
    target_class = "tenants.authentication.ApiKeyAuthentication"
    name = "apiKey"

    def get_security_definition(self, auto_schema: Any) -> dict[str, str]:
        return {"type": "http", "scheme": "bearer", "description": "An API key, `avb_live_…` or `avb_test_…`."}


class PlatformKeyScheme(OpenApiAuthenticationExtension):
    target_class = "tenants.lifecycle.authentication.PlatformKeyAuthentication"
    name = "platformKey"

    def get_security_definition(self, auto_schema: Any) -> dict[str, str]:
        return {"type": "http", "scheme": "bearer", "description": "A platform operator's key, `avb_platform_…`."}


class OAuthClientScheme(OpenApiAuthenticationExtension):
    target_class = "tenants.authentication.OAuthClientAuthentication"
    name = "oauth2"

    def get_security_definition(self, auto_schema: Any) -> dict[str, Any]:
        return {
            "type": "oauth2",
            "description": "An access token of an OAuth client, by client credentials.",
            "flows": {
                "clientCredentials": {
                    "tokenUrl": "/oauth/token",
                    "scopes": {scope.value: scope.label for scope in Scope if scope in TENANT_SCOPES},
                }
            },
        }


class PersonScheme(OpenApiAuthenticationExtension):
    target_class = "tenants.authentication.PersonAuthentication"
    name = "session"

    def get_security_definition(self, auto_schema: Any) -> dict[str, str]:
        words = "A person who signed in on this server; changes need the header `X-CSRFToken`."
        return {"type": "apiKey", "in": "cookie", "name": settings.SESSION_COOKIE_NAME, "description": words}


def complete_document(result: dict[str, Any], **_: Any) -> dict[str, Any]:
    """A postprocessing hook: every operation with what ``TenantAPIView`` adds to it."""
    components = result["components"]
    schemas = components["schemas"]
    _allow_null_anywhere(schemas)
    schemas["Problem"], schemas["ProblemDetails"] = PROBLEM, PROBLEM_DETAILS
    components["headers"] = ANSWER_HEADERS
    components["parameters"] = {name: header | {"in": "header", "required": False} for name, header in HEADERS.items()}
    components["responses"] = {f"Error{status}": _error(status) for status in ERROR_EXAMPLES}
    used = set()
    for path, operations in result["paths"].items():
        for method, operation in operations.items():
            used |= set(operation.get("tags", ()))
            _complete(path, method, operation, readable="get" in operations, schemas=schemas)
    result["tags"] = [{"name": tag, "description": TAGS.get(tag, tag)} for tag in sorted(used)]
    return result


def _allow_null_anywhere(node: Any) -> None:
    """drf-spectacular writes 'anything, or else null' for JSON that may be null: null is both, so it fits neither."""
    if isinstance(node, dict):
        if node.get("oneOf") == [{}, {"type": "null"}]:
            del node["oneOf"]
        for inner in node.values():
            _allow_null_anywhere(inner)
    elif isinstance(node, list):
        for inner in node:
            _allow_null_anywhere(inner)


def _complete(path: str, method: str, operation: dict[str, Any], *, readable: bool, schemas: dict[str, Any]) -> None:
    tag = operation["tags"][0]
    operation["summary"] = heading_of(operation["operationId"])
    if operation.get("description") in INHERITED:
        del operation["description"]
    headers = ["RequestId"]
    errors = {400, 401, 403, 406, 429, 503}
    if "{" in path or path in SINGLE:
        errors.add(404)
    if method == "get":
        headers.append("IfNoneMatch")
    if method == "post":
        headers.append("IdempotencyKey")
        errors |= {409, 422}
    if method in ("put", "patch", "delete") and readable:
        headers.append("IfMatch")
        errors |= {412, 428}
    if body := operation.get("requestBody"):
        errors |= {413, 415}
        for content in body["content"].values():
            _exemplify(content, schemas, writing=True)
    parameters = operation.setdefault("parameters", [])
    for parameter in parameters:
        # Who tries an operation on our page is sent there with the examples filled in: only for what must be given.
        if parameter["in"] == "path":
            name = parameter["name"]
            given = IN_PATHS.get(tag, {}).get(name)
            parameter["example"] = given if given is not None else make_example(parameter["schema"], schemas, name)
    parameters += [{"$ref": f"#/components/parameters/{name}"} for name in headers]
    shown_path = path.format_map({each["name"]: each["example"] for each in parameters if "example" in each})
    for status, response in operation["responses"].items():
        _shape_answer(method, shown_path, tag, status, response, schemas)
    if method == "get":
        operation["responses"]["304"] = {"description": "Nothing changed since the ETag in If-None-Match."}
    for status in errors:
        words = operation["responses"].get(str(status), {}).get("description")
        shared = {"$ref": f"#/components/responses/Error{status}"}
        operation["responses"][str(status)] = _error(status, words) if words else shared
    operation["responses"] = dict(sorted(operation["responses"].items()))


def heading_of(operation_id: str) -> str:
    """``export_usage_csv`` is headed 'Export usage CSV'."""
    words = [SPELLED.get(word, word) for word in operation_id.split("_")]
    return " ".join([words[0].capitalize(), *words[1:]])


def _shape_answer(
    method: str, path: str, tag: str, status: str, response: dict[str, Any], schemas: dict[str, Any]
) -> None:
    """A success in its envelope, with an example; bodies that are no JSON stay as they are."""
    if not status.startswith("2"):
        return
    content = response.get("content", {})
    content.pop(PROBLEM_JSON, None)
    for kind, body in content.items():
        if kind != JSON:
            body["examples"] = {"example": {"value": FILES[tag][kind]}}
            continue
        _exemplify(body, schemas, writing=False)
        body["schema"] = {
            "type": "object",
            "required": ["status", "data"],
            "properties": {"status": {"type": "string", "enum": ["success"]}, "data": body["schema"]},
        }
        for example in body["examples"].values():
            if "results" in example["value"] and example["value"]["next"]:
                example["value"] |= {"next": NEXT_PAGE.format(path=path), "previous": None}
            example["value"] = {"status": "success", "data": example["value"]}
    names = ["X-Request-Id", "RateLimit", "RateLimit-Policy"]
    if method in ("get", "put", "patch"):
        names.append("ETag")
    if method == "post":
        names.append("Idempotency-Replayed")
    response["headers"] = {name: {"$ref": f"#/components/headers/{name}"} for name in names}


def _exemplify(content: dict[str, Any], schemas: dict[str, Any], *, writing: bool) -> None:
    if not content.get("examples"):
        content["examples"] = {"example": {"value": make_example(content["schema"], schemas, writing=writing)}}


def _error(status: int, description: str = "") -> dict[str, Any]:
    code, message, param = ERROR_EXAMPLES.get(status, ("error", MEANINGS[status], None))
    body = problem_body(status, code, message, param)
    headers = ["X-Request-Id", *(["Retry-After"] if status in (409, 429, 503) else [])]
    return {
        "description": description or MEANINGS[status],
        "headers": {name: {"$ref": f"#/components/headers/{name}"} for name in headers},
        "content": {
            JSON: {"schema": {"$ref": "#/components/schemas/Problem"}, "examples": {"example": {"value": body}}},
            PROBLEM_JSON: {
                "schema": {"$ref": "#/components/schemas/ProblemDetails"},
                "examples": {"example": {"value": as_problem_details(body, status)}},
            },
        },
    }
