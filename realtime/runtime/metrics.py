"""What a gateway process counts. Names: ``agentvoicebox_<component>_<metric>_<unit>``."""

from prometheus_client import Counter, Gauge, Histogram

_LATENCY = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)

CONNECTIONS = Counter("agentvoicebox_gateway_connections_total", "Calls that were let in")
CONNECTIONS_REFUSED = Counter("agentvoicebox_gateway_connections_refused_total", "Calls turned away", ["code"])
CONNECTIONS_ACTIVE = Gauge("agentvoicebox_gateway_connections_active", "Calls in progress")
MESSAGES = Counter("agentvoicebox_gateway_messages_total", "Events in and out", ["direction"])
MESSAGE_DURATION = Histogram(
    "agentvoicebox_gateway_message_duration_seconds", "From a client's frame to its effects done", buckets=_LATENCY
)
TURN_STAGE = Histogram(
    "agentvoicebox_gateway_turn_stage_seconds",
    "From the end of the caller's turn to a stage of the answer",
    ["stage"],
    buckets=_LATENCY,
)
DEGRADED = Counter("agentvoicebox_gateway_degraded_total", "Answers given with less than all parts", ["part"])
OVERLOADED = Counter("agentvoicebox_gateway_overloaded_total", "Calls ended because their client read too slowly")
FAULTS = Counter("agentvoicebox_gateway_faults_total", "Unexpected errors inside a call", ["where"])
