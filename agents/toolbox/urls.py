"""Addresses of the room. No tool can be called builtin, import or python (``operations.RESERVED``)."""

from django.urls import path

from agents.toolbox import api, trying

urlpatterns = [
    path("tools/", api.Tools.as_view(), name="tools"),
    path("tools/builtin/", trying.Builtins.as_view(), name="builtin_tools"),
    path("tools/import/", trying.Import.as_view(), name="import_tools"),
    path("tools/python/", trying.PythonTools.as_view(), name="python_tools"),
    path("tools/<slug:name>/", api.OneTool.as_view(), name="tool"),
    path("tools/<slug:name>/try/", trying.Try.as_view(), name="try_tool"),
    path("mcp-servers/", api.McpServers.as_view(), name="mcp_servers"),
    path("mcp-servers/<slug:label>/", api.OneMcpServer.as_view(), name="mcp_server"),
    path("mcp-servers/<slug:label>/tools/", trying.Offered.as_view(), name="mcp_server_tools"),
    path("tool-credentials/", api.Credentials.as_view(), name="tool_credentials"),
    path("tool-credentials/<slug:name>/", api.OneCredential.as_view(), name="tool_credential"),
]
