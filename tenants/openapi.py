"""What drf-spectacular cannot see by itself: the key scheme, the envelope around every answer, and the errors."""

from typing import Any

from drf_spectacular.extensions import OpenApiAuthenticationExtension

ERRORS = {
    "400": "The request is wrong; `param` names what.",
    "401": "No key, or one that is not valid.",
    "403": "The key lacks the scope.",
    "404": "This tenant has no such thing.",
    "503": "The database does not answer at the moment.",
}


class ApiKeyScheme(OpenApiAuthenticationExtension):
    target_class = "tenants.authentication.ApiKeyAuthentication"
    name = "apiKey"

    def get_security_definition(self, auto_schema: Any) -> dict[str, str]:
        return {"type": "http", "scheme": "bearer", "description": "An API key, `avb_live_…` or `avb_test_…`."}


def wrap_in_envelopes(result: dict[str, Any], **_: Any) -> dict[str, Any]:
    """A postprocessing hook: success bodies become ``{"status", "data"}``, and each operation lists its errors."""
    result["components"]["schemas"]["Problem"] = {
        "type": "object",
        "required": ["status", "error"],
        "properties": {
            "status": {"type": "string", "enum": ["error"]},
            "error": {
                "type": "object",
                "required": ["code", "message", "param"],
                "properties": {
                    "code": {"type": "string"},
                    "message": {"type": "string"},
                    "param": {"type": "string", "nullable": True},
                },
            },
        },
    }
    for path, operations in result["paths"].items():
        for operation in operations.values():
            for response in operation["responses"].values():
                for body in response.get("content", {}).values():
                    body["schema"] = {
                        "type": "object",
                        "required": ["status", "data"],
                        "properties": {"status": {"type": "string", "enum": ["success"]}, "data": body["schema"]},
                    }
            for status, words in ERRORS.items():
                if status == "404" and "{" not in path:
                    continue
                problem = {"schema": {"$ref": "#/components/schemas/Problem"}}
                operation["responses"][status] = {"description": words, "content": {"application/json": problem}}
    return result
