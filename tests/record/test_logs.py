"""A log line says whose it is, and holds no secret and nobody's address."""

import json
import logging
import logging.config

import pytest
from django.test import Client
from django_tenants.utils import tenant_context

from agentvoicebox.logs import TenantContextFilter
from speech.logs import JsonFormatter, TextFormatter, log_context, logging_config, redact
from tests.record.world import World


def line(message: str, *args: object, **extra: object) -> dict:
    record = logging.LogRecord("room", logging.WARNING, __file__, 1, message, args, None)
    record.__dict__.update(extra)
    TenantContextFilter("gateway").filter(record)
    return json.loads(JsonFormatter().format(record))


def test_a_line_holds_the_agreed_fields() -> None:
    with log_context(trace_id="t", session_id="sess_1", tenant_id="alpha", correlation_id="c", request_id="r"):
        found = line("it went %s", "well", stage="stt")
    assert found.pop("timestamp").endswith("+00:00")
    assert found == {
        "level": "WARNING", "service": "gateway", "logger": "room", "message": "it went well", "stage": "stt",
        "trace_id": "t", "session_id": "sess_1", "tenant_id": "alpha", "correlation_id": "c",
        "request_id": "r",
    }  # fmt: skip


def test_the_context_ends_with_its_block() -> None:
    with log_context(session_id="outer"):
        with log_context(session_id="inner"):
            assert line("x")["session_id"] == "inner"
        assert line("x")["session_id"] == "outer"
    assert line("x")["session_id"] == ""


def test_outside_of_a_call_the_schema_names_the_tenant(world: World) -> None:
    assert line("x")["tenant_id"] == ""
    with tenant_context(world.beta.tenant):
        assert line("x")["tenant_id"] == "beta"


@pytest.mark.parametrize(
    "secret",
    [
        "avb_live_0123456789abcdefABCDEF0123456789abcdefAB",
        "avb_test_abcdefgh",
        "sk-proj-abcdefghijklmnop",
        "Bearer eyJhbGciOi.J9.abc",
        "ek_0123456789abcdef",
        "person.name+tag@mail.example.com",
        "+49 30 1234567",
        "+14155550123",
        "(415) 555-0123",
        "415-555-0123",
        "postgresql://avb:hunter2@db/avb",
    ],
)
def test_secrets_and_addresses_are_not_logged(secret: str) -> None:
    for text in (
        redact(f"got {secret} here"),
        json.dumps(line("got %s here", secret)),
        json.dumps(line("x", got=secret)),
    ):
        assert secret not in text
        assert "hunter2" not in text
    assert redact(f"got {secret} here").startswith("got ")
    assert redact(f"got {secret} here").endswith(" here")


@pytest.mark.parametrize(
    "text",
    [
        "sess_0123456789abcdef ended after 1234567890 samples",
        "2026-11-20T07:51:05.737446+00:00",
        "550e8400-e29b-41d4-a716-446655440000",
        "127.0.0.1:56379",
        "took 12.5 ms, 1000 frames",
        "celery@host ready.",
    ],
)
def test_what_is_neither_stays_as_it_is(text: str) -> None:
    assert redact(text) == text


def test_a_traceback_is_redacted_too() -> None:
    try:
        raise ValueError("key avb_live_0123456789abcdef")
    except ValueError as error:
        record = logging.LogRecord("room", logging.ERROR, __file__, 1, "failed", (), (ValueError, error, None))
    TenantContextFilter("gateway").filter(record)
    for formatter in (JsonFormatter(), TextFormatter()):
        assert "0123456789" not in formatter.format(record)


def test_text_lines_are_for_people() -> None:
    record = logging.LogRecord("room", logging.INFO, __file__, 1, "ready", (), None)
    with log_context(session_id="sess_1", tenant_id="alpha"):
        TenantContextFilter("gateway").filter(record)
    assert TextFormatter().format(record).endswith("INFO    gateway  room: ready  [alpha sess_1]")


@pytest.mark.parametrize(("log_format", "formatter"), [("json", "JsonFormatter"), ("text", "TextFormatter")])
def test_the_format_is_chosen(log_format: str, formatter: str) -> None:
    config = logging_config(service="stt", level="DEBUG", log_format=log_format)
    assert config["formatters"]["line"]["()"].endswith(formatter)
    assert config["root"]["level"] == "DEBUG"


def test_a_request_keeps_its_callers_trace(world: World, caplog: pytest.LogCaptureFixture, monkeypatch) -> None:
    seen = {}

    def fail(*_, **__):
        seen.update(line("inside"))
        raise RuntimeError

    monkeypatch.setattr("agents.queries.find_agent", fail)
    trace = "0af7651916cd43dd8448eb211c80319c"
    response = Client().get(
        "/api/v1/agents/x/",
        headers={
            "Authorization": f"Bearer {world.alpha.key}",
            "traceparent": f"00-{trace}-b7ad6b7169203331-01",
            "X-Correlation-Id": "order-7",
        },
    )
    assert response.status_code == 500
    assert (seen["trace_id"], seen["correlation_id"], seen["tenant_id"]) == (trace, "order-7", "alpha")
    assert response["X-Correlation-Id"] == "order-7"


@pytest.mark.parametrize("given", ["", "x" * 129, "line\tbreak", "ü"])
def test_a_strange_correlation_id_is_replaced(given: str) -> None:
    answered = Client(headers={"X-Correlation-Id": given}).get("/")["X-Correlation-Id"]
    assert answered != given
    assert len(answered) == 16


def test_a_handshake_with_its_query_is_not_logged() -> None:
    """uvicorn writes the whole address, and with it who the caller is."""
    config = logging_config(service="gateway")
    (name,) = config["loggers"]["uvicorn.error"]["filters"]
    keeps = logging.config.DictConfigurator(config).configure_filter(config["filters"][name]).filter
    handshake = '%s - "WebSocket %s" [accepted]', ("127.0.0.1:1", "/v1/realtime?model=desk&user=alice")
    assert not keeps(logging.LogRecord("uvicorn.error", logging.INFO, __file__, 1, *handshake, None))
    assert keeps(logging.LogRecord("uvicorn.error", logging.INFO, __file__, 1, "Started server process", (), None))
