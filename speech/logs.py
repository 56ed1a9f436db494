"""How every process logs: one line per event, with whose call it belongs to, and without secrets or personal data.

It knows no Django and lies below everything, so that gateway, workers and command line write the same lines.
"""

import logging
import re
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Literal

trace_id: ContextVar[str] = ContextVar("trace_id", default="")
session_id: ContextVar[str] = ContextVar("session_id", default="")
tenant_id: ContextVar[str] = ContextVar("tenant_id", default="")
correlation_id: ContextVar[str] = ContextVar("correlation_id", default="")
request_id: ContextVar[str] = ContextVar("request_id", default="")

CONTEXT = {
    "trace_id": trace_id,
    "session_id": session_id,
    "tenant_id": tenant_id,
    "correlation_id": correlation_id,
    "request_id": request_id,
}

SECRETS = re.compile(
    r"avb_(?:live|test|platform|client)_[A-Za-z0-9]{4,}|\b(?:sk|rk|pk|ek|gsk|xai)[-_][A-Za-z0-9_-]{8,}"
    r"|(?i:\b(?:bearer|basic)\s+[A-Za-z0-9._~+/=-]{8,})|(?<=://)[^\s/:@]*:[^\s/@]+(?=@)"
    r"|\beyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]+"
)
EMAILS = re.compile(r"[A-Za-z0-9._%+-]+@(?:[A-Za-z0-9-]+\.)+[A-Za-z]{2,}")
# International form, or a separated national number of at least ten digits. Bare runs of digits are ids and sizes.
PHONES = re.compile(
    r"(?<![\w.+-])(?:\+\d[\d ().-]{6,18}\d|\(\d{2,4}\) ?\d{3,4}[ .-]?\d{3,4}|\d{3,4}[ .-]\d{3,4}[ .-]\d{4})(?![\w-])"
)


@contextmanager
def log_context(**values: str) -> Iterator[None]:
    """Name the call, tenant or trace for all lines logged inside; keys are those of ``CONTEXT``."""
    tokens = [(CONTEXT[name], CONTEXT[name].set(value)) for name, value in values.items()]
    try:
        yield
    finally:
        for variable, token in reversed(tokens):
            variable.reset(token)


def redact(text: str) -> str:
    """The text without keys, passwords in URLs, e-mail addresses and phone numbers."""
    text = SECRETS.sub("[secret]", text)
    text = EMAILS.sub("[email]", text)
    return PHONES.sub("[phone]", text)


def kind_and_place(error: BaseException) -> str:
    """An unexpected error for the log: its type and where it came from, without its message, which may hold what was
    said."""
    return f"{type(error).__name__}\n{''.join(traceback.format_tb(error.__traceback__))}".rstrip()


class ContextFilter(logging.Filter):
    """Puts the context variables and the service's name on each record."""

    def __init__(self, service: str = "") -> None:
        super().__init__()
        self.service = service

    def filter(self, record: logging.LogRecord) -> Literal[True]:
        record.service = self.service
        for name, variable in CONTEXT.items():
            if not hasattr(record, name):
                setattr(record, name, variable.get())
        return True


class JsonFormatter(logging.Formatter):
    """One JSON object per line: timestamp, level, service, logger, message, the context, and the record's extras."""

    def __init__(self) -> None:
        super().__init__()
        from pythonjsonlogger.json import JsonFormatter as Lines

        self.lines = Lines(
            "%(levelname)s %(service)s %(name)s %(message)s " + " ".join(f"%({name})s" for name in CONTEXT),
            rename_fields={"levelname": "level", "name": "logger"},
            timestamp=True,
            json_ensure_ascii=False,
        )

    def format(self, record: logging.LogRecord) -> str:
        return redact(self.lines.format(record))


class NoHandshakes(logging.Filter):
    """Drops uvicorn's lines on WebSocket handshakes: they hold the query, and with it who the caller is."""

    def filter(self, record: logging.LogRecord) -> bool:
        return not (isinstance(record.msg, str) and '"WebSocket %s"' in record.msg)


class TextFormatter(logging.Formatter):
    """For a person at a terminal: time, level, service, whose call, message."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)-7s %(service)-8s %(name)s: %(message)s", "%H:%M:%S")

    def format(self, record: logging.LogRecord) -> str:
        whose = " ".join(filter(None, (getattr(record, "tenant_id", ""), getattr(record, "session_id", ""))))
        line = super().format(record)
        return redact(f"{line}  [{whose}]" if whose else line)


def logging_config(*, service: str, level: str = "INFO", log_format: str = "auto") -> dict[str, Any]:
    """A ``logging.config.dictConfig`` dictionary. ``log_format``: json, text, or auto (text on a terminal)."""
    if log_format == "auto":
        log_format = "text" if sys.stderr.isatty() else "json"
    formatter = {"json": "speech.logs.JsonFormatter", "text": "speech.logs.TextFormatter"}[log_format]
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "filters": {
            "context": {"()": "speech.logs.ContextFilter", "service": service},
            "no_handshakes": {"()": "speech.logs.NoHandshakes"},
        },
        "formatters": {"line": {"()": formatter}},
        "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line", "filters": ["context"]}},
        "root": {"handlers": ["stderr"], "level": level},
        "loggers": {
            # Their INFO lines repeat what metrics count, and httpx would log full URLs.
            "httpx": {"level": "WARNING"},
            "httpcore": {"level": "WARNING"},
            "httpx2": {"level": "WARNING"},
            "httpcore2": {"level": "WARNING"},
            # It shows what servers of tenants answer, word for word; agents.tools.mcp tells what matters of it.
            "mcp": {"level": "CRITICAL"},
            "celery.beat": {"level": "WARNING"},
            "faster_whisper": {"level": "WARNING"},
            # It warns of each phrase whose words it joins, which is how it works.
            "phonemizer": {"level": "ERROR"},
            "uvicorn.access": {"handlers": [], "propagate": False},
            "uvicorn.error": {"filters": ["no_handshakes"]},
        },
    }
