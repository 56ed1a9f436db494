"""``/api/v1/tools/``, ``/api/v1/mcp-servers/``, ``/api/v1/tool-credentials/``: what a tenant's agents may use."""

from typing import Any

from django.http import Http404
from drf_spectacular.utils import extend_schema
from rest_framework import status
from rest_framework.exceptions import ErrorDetail, ValidationError
from rest_framework.request import Request
from rest_framework.response import Response

from agents.toolbox import operations, queries
from agents.toolbox.errors import ToolboxError
from agents.toolbox.models import Credential, McpServer, Tool
from agents.toolbox.serializers import McpServerSerializer, ToolCredentialSerializer, ToolQuery, ToolSerializer
from tenants.api.pages import answer_page
from tenants.api.shapes import PageQuery
from tenants.permissions import Scope
from tenants.rest import Pages, TenantAPIView


class NamePages(Pages):
    ordering = "name"


class LabelPages(Pages):
    ordering = "label"


class ToolboxView(TenantAPIView):
    read_scope = Scope.AGENTS_READ
    write_scope = Scope.AGENTS_WRITE

    def read(self, shape: Any, row: Any = None) -> dict[str, Any]:
        """What was sent, by its serializer. Raises ValidationError."""
        read = shape(row, data=self.request.data, partial=row is not None)
        read.is_valid(raise_exception=True)
        return dict(read.validated_data)


class Tools(ToolboxView):
    pagination_class = NamePages
    serializer_class = ToolSerializer

    @extend_schema(operation_id="list_tools", parameters=[ToolQuery], responses=ToolSerializer(many=True))
    def get(self, request: Request) -> Response:
        """The tenant's HTTP tools by name, a page at a time."""
        return answer_page(self, queries.list_tools(**self.read_query(ToolQuery)), ToolSerializer)

    @extend_schema(operation_id="create_tool", responses={201: ToolSerializer})
    def post(self, request: Request) -> Response:
        """A new HTTP tool; agents name it in their ``tools``."""
        with refusals():
            tool = operations.create_tool(**self.read(ToolSerializer))
        return Response(ToolSerializer(tool).data, status=status.HTTP_201_CREATED)


class OneTool(ToolboxView):
    serializer_class = ToolSerializer

    @extend_schema(operation_id="get_tool")
    def get(self, request: Request, name: str) -> Response:
        self.refuse_unknown(set())
        return Response(ToolSerializer(find_tool(name)).data)

    @extend_schema(operation_id="update_tool")
    def patch(self, request: Request, name: str) -> Response:
        """Changes the fields that are sent. Published versions of agents keep the tool as it was; only switching it off
        reaches them."""
        tool = find_tool(name)
        with refusals():
            tool = operations.update_tool(tool=tool, **self.read(ToolSerializer, tool))
        return Response(ToolSerializer(tool).data)

    @extend_schema(operation_id="delete_tool", responses={204: None})
    def delete(self, request: Request, name: str) -> Response:
        """Published versions of agents keep the tool as it was: switch it off first to take it from them."""
        operations.delete_tool(tool=find_tool(name))
        return Response(status=status.HTTP_204_NO_CONTENT)


class McpServers(ToolboxView):
    pagination_class = LabelPages
    serializer_class = McpServerSerializer

    @extend_schema(operation_id="list_mcp_servers", parameters=[PageQuery], responses=McpServerSerializer(many=True))
    def get(self, request: Request) -> Response:
        """The MCP servers that the tenant's agents may use."""
        self.read_query(PageQuery)
        return answer_page(self, queries.list_mcp_servers(), McpServerSerializer)

    @extend_schema(operation_id="create_mcp_server", responses={201: McpServerSerializer})
    def post(self, request: Request) -> Response:
        """A new MCP server. Without ``require_approval`` a client must agree to each call, as OpenAI has it."""
        with refusals():
            server = operations.create_mcp_server(**self.read(McpServerSerializer))
        return Response(McpServerSerializer(server).data, status=status.HTTP_201_CREATED)


class OneMcpServer(ToolboxView):
    serializer_class = McpServerSerializer

    @extend_schema(operation_id="get_mcp_server")
    def get(self, request: Request, label: str) -> Response:
        self.refuse_unknown(set())
        return Response(McpServerSerializer(find_mcp_server(label)).data)

    @extend_schema(operation_id="update_mcp_server")
    def patch(self, request: Request, label: str) -> Response:
        """Changes the fields that are sent. With another ``url`` the headers must be sent again."""
        server = find_mcp_server(label)
        with refusals():
            server = operations.update_mcp_server(server=server, **self.read(McpServerSerializer, server))
        return Response(McpServerSerializer(server).data)

    @extend_schema(operation_id="delete_mcp_server", responses={204: None})
    def delete(self, request: Request, label: str) -> Response:
        """Agents that name it begin their calls without its tools."""
        operations.delete_mcp_server(server=find_mcp_server(label))
        return Response(status=status.HTTP_204_NO_CONTENT)


class Credentials(ToolboxView):
    pagination_class = NamePages
    serializer_class = ToolCredentialSerializer

    @extend_schema(
        operation_id="list_tool_credentials", parameters=[PageQuery], responses=ToolCredentialSerializer(many=True)
    )
    def get(self, request: Request) -> Response:
        """What tools and MCP servers prove themselves by, without the secrets."""
        self.read_query(PageQuery)
        return answer_page(self, queries.list_credentials(), ToolCredentialSerializer)

    @extend_schema(operation_id="create_tool_credential", responses={201: ToolCredentialSerializer})
    def post(self, request: Request) -> Response:
        """A new credential; its secret is sealed and never shown again."""
        with refusals():
            credential = operations.create_credential(**self.read(ToolCredentialSerializer))
        return Response(ToolCredentialSerializer(credential).data, status=status.HTTP_201_CREATED)


class OneCredential(ToolboxView):
    serializer_class = ToolCredentialSerializer

    @extend_schema(operation_id="get_tool_credential")
    def get(self, request: Request, name: str) -> Response:
        self.refuse_unknown(set())
        return Response(ToolCredentialSerializer(find_credential(name)).data)

    @extend_schema(operation_id="update_tool_credential")
    def patch(self, request: Request, name: str) -> Response:
        """Changes the fields that are sent, for calls that begin from now on. Where a secret is sent to changes only
        together with the secret; ``hosts`` can be narrowed without."""
        credential = find_credential(name)
        with refusals():
            credential = operations.update_credential(
                credential=credential, **self.read(ToolCredentialSerializer, credential)
            )
        return Response(ToolCredentialSerializer(credential).data)

    @extend_schema(operation_id="delete_tool_credential", responses={204: None})
    def delete(self, request: Request, name: str) -> Response:
        """Refused while tools or MCP servers use it."""
        with refusals():
            operations.delete_credential(credential=find_credential(name))
        return Response(status=status.HTTP_204_NO_CONTENT)


class refusals:  # noqa: N801  (reads as a statement)
    """Says to a caller what the operation inside refused."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        if isinstance(error, ToolboxError):
            shown = {param: [ErrorDetail(message, error.code)] for param, message in error.errors.items()}
            raise ValidationError(shown) from error


def find_tool(name: str) -> Tool:
    return _found(queries.find_tool, name)


def find_mcp_server(label: str) -> McpServer:
    return _found(queries.find_mcp_server, label)


def find_credential(name: str) -> Credential:
    return _found(queries.find_credential, name)


def _found(find: Any, name: str) -> Any:
    try:
        return find(name)
    except queries.ToolboxUnknown as error:
        raise Http404(error.message) from error
