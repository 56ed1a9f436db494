"""What the language models' side counts."""

from prometheus_client import Counter, Gauge, Histogram

REQUESTS = Counter("agentvoicebox_llm_requests_total", "Answers asked of a model", ["provider", "outcome"])
DURATION = Histogram(
    "agentvoicebox_llm_duration_seconds",
    "From asking a model to its last token",
    ["provider"],
    buckets=(0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0),
)
FIRST_TOKEN = Histogram(
    "agentvoicebox_llm_first_token_seconds",
    "From asking a model to its first token",
    ["provider"],
    buckets=(0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0),
)
TOKENS = Counter("agentvoicebox_llm_tokens_total", "Tokens as the provider counts them", ["provider", "kind"])
BREAKER = Gauge(
    "agentvoicebox_llm_circuit_breaker_state",
    "0 closed, 1 open, as a platform's provider was last found",
    ["provider"],
    multiprocess_mode="mostrecent",
)
FAILOVERS = Counter(
    "agentvoicebox_llm_failovers_total",
    "Models that did not answer, so that the next was asked",
    ["provider", "reason"],
)
PASSES = Counter("agentvoicebox_llm_retries_total", "Further passes through a chain of which nobody had answered")
