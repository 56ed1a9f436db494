"""What tools count."""

from prometheus_client import Counter, Histogram

CALLS = Counter("agentvoicebox_tool_calls_total", "Tool calls that the server ran", ["kind", "outcome"])
DURATION = Histogram(
    "agentvoicebox_tool_call_duration_seconds",
    "From a model's call to the tool's answer",
    ["kind"],
    buckets=(0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0),
)
LISTS = Counter("agentvoicebox_mcp_lists_total", "Tool lists that MCP servers were asked for", ["outcome"])
