"""What asking others counts."""

from prometheus_client import Counter

BREAKERS = Counter(
    "agentvoicebox_circuit_breaker_changes_total",
    "Circuit breakers that this process has opened or seen recover",
    ["kind", "change"],
)
REFUSED = Counter(
    "agentvoicebox_egress_refused_total",
    "Requests to addresses of tenants and clients that were not made, or whose answers were not read",
    ["reason"],
)
