"""The doors that ask others while the caller waits, and those that list what this server brings."""

from http import HTTPStatus
from typing import Any

import msgspec
from django.db import connection
from drf_spectacular.utils import extend_schema
from rest_framework import status
from rest_framework.exceptions import APIException, ErrorDetail, ValidationError
from rest_framework.request import Request
from rest_framework.response import Response

from agents.toolbox import importing, running
from agents.toolbox.api import ToolboxView, find_mcp_server, find_tool, refusals
from agents.toolbox.openapi import read_document
from agents.toolbox.serializers import (
    BuiltinToolsSerializer,
    ImportedOperationSerializer,
    ImportedToolsSerializer,
    OfferedToolsSerializer,
    ToolAnswerSerializer,
    ToolImportSerializer,
    ToolTrySerializer,
)
from agents.tools.builtin import BUILTINS
from agents.tools.python import list_python_tools
from agents.tools.types import ToolSpec, ToolsUnavailable
from tenants.api.places import TooBusy
from tenants.audit.operations import record
from tenants.permissions import Scope


class Busy(APIException):
    status_code = HTTPStatus.SERVICE_UNAVAILABLE
    headers = {"Retry-After": "5"}

    def __init__(self) -> None:
        super().__init__("Other tools are being tried at the moment; try again in a few seconds.", "busy")


class ServerFailed(APIException):
    status_code = HTTPStatus.BAD_GATEWAY


class Try(ToolboxView):
    serializer_class = ToolTrySerializer

    @extend_schema(operation_id="try_tool", request=ToolTrySerializer, responses=ToolAnswerSerializer)
    def post(self, request: Request, name: str) -> Response:
        """Runs the tool for real, as a call would, and tells what a model would read and what was sent. A tool that
        fails is no error of this request: see ``error``."""
        tool = find_tool(name)
        asked = self.read(ToolTrySerializer)
        with refusals(), asking():
            answer = running.try_tool(tool, asked["arguments"], asked["variables"])
        outcome = {"outcome": answer.receipt.outcome, "took_ms": answer.receipt.took_ms}
        record(action="tool.tried", target=tool.name, after=outcome, tenant=connection.schema_name)
        return Response(
            {
                "output": answer.output,
                "error": answer.error.wire() if answer.error else None,
                "receipt": msgspec.to_builtins(answer.receipt),
            }
        )


class Import(ToolboxView):
    serializer_class = ToolImportSerializer

    @extend_schema(
        operation_id="import_tools",
        request=ToolImportSerializer,
        responses={200: ImportedToolsSerializer, 201: ImportedToolsSerializer},
    )
    def post(self, request: Request) -> Response:
        """What an OpenAPI document offers as tools; with ``create`` they are made, all or none."""
        asked = self.read(ToolImportSerializer)
        if ("document" in asked) == ("url" in asked):
            words = "Give the document itself, or the url where it is: one of the two."
            raise ValidationError({"document": [ErrorDetail(words, "invalid")]})
        keys = asked.get("operations")
        with refusals(), asking(), running.places.take():
            text = asked["document"] if "document" in asked else running.fetch_document(asked["url"])
            document = read_document(
                text, source_url=asked.get("url", ""), server_url=asked.get("server_url", ""), chosen=keys
            )
            operations = importing.choose_operations(document, keys)
            made = []
            if asked["create"]:
                made = importing.import_operations(
                    operations=operations,
                    all_of_them=keys is None,
                    credentials=asked["credentials"],
                    integration=asked["integration"],
                )
        shown = {
            "title": document.title,
            "schemes": document.schemes,
            "operations": ImportedOperationSerializer(operations, many=True).data,
            "created": [tool.name for tool in made],
        }
        return Response(shown, status=status.HTTP_201_CREATED if made else status.HTTP_200_OK)


class Offered(ToolboxView):
    serializer_class = OfferedToolsSerializer
    read_scope = Scope.AGENTS_WRITE
    """Asking a server is more than reading what is here: it is sent the tenant's credential."""

    @extend_schema(operation_id="list_mcp_server_tools", responses=OfferedToolsSerializer)
    def get(self, request: Request, label: str) -> Response:
        """What the MCP server offers at this moment, as far as ``allowed_tools`` lets it."""
        self.refuse_unknown(set())
        server = find_mcp_server(label)
        with refusals(), asking():
            found = running.list_offered(server)
        return Response(_page(found))

    def represent(self) -> Response:
        """What it offers is the server's own, and no state of ours that a change could be decided on."""
        return Response({})


class Builtins(ToolboxView):
    serializer_class = BuiltinToolsSerializer

    @extend_schema(operation_id="list_builtin_tools", responses=BuiltinToolsSerializer)
    def get(self, request: Request) -> Response:
        """The tools that every agent can have, with the JSON Schema of their settings."""
        self.refuse_unknown(set())
        rows = [
            {
                "name": builtin.name,
                "description": builtin.description,
                "by": builtin.by,
                "settings": builtin.settings_schema,
            }
            for builtin in BUILTINS.values()
        ]
        return Response({"next": None, "previous": None, "results": rows})


class PythonTools(ToolboxView):
    serializer_class = OfferedToolsSerializer

    @extend_schema(operation_id="list_python_tools", responses=OfferedToolsSerializer)
    def get(self, request: Request) -> Response:
        """The Python tools that are installed with this server."""
        self.refuse_unknown(set())
        return Response(_page(list_python_tools()))


class asking:  # noqa: N801  (reads as a statement)
    """Says to a caller what kept the inside from being asked."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        if isinstance(error, TooBusy):
            raise Busy from error
        if isinstance(error, ToolsUnavailable):
            raise ServerFailed(error.error.message, "mcp_server_failed") from error


def _page(tools: tuple[ToolSpec, ...]) -> dict[str, Any]:
    rows = [
        {
            "name": tool.name,
            "description": tool.description,
            "parameters": tool.parameters,
            "needs_approval": tool.needs_approval,
        }
        for tool in tools
    ]
    return {"next": None, "previous": None, "results": rows}
