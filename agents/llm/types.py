"""What a language model is asked and what it streams back, whatever API serves it."""

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from agents.llm.providers import ModelRef


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call the model made earlier, as it goes back into the context. ``arguments`` is JSON text."""

    call_id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class Image:
    """``url`` is a data or https URL; ``detail`` is auto, low or high."""

    url: str
    detail: str = "auto"


@dataclass(frozen=True, slots=True)
class Message:
    """One message of the context. Tool messages answer ``tool_call_id``; assistant messages may carry ``tool_calls``.

    ``images`` are for models that see.
    """

    role: Literal["system", "user", "assistant", "tool"]
    text: str
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str | None = None
    images: tuple[Image, ...] = ()


@dataclass(frozen=True, slots=True)
class Request:
    """``models`` are asked in this order, the next where one fails before its first word; none is the platform's
    default. ``tools`` are JSON-schema function definitions; ``tool_choice`` is auto, none, required or a function's
    name.

    ``parallel_tool_calls`` and ``reasoning_effort`` are None where nobody asked for them; a model that does not know
    them answers without.
    """

    messages: tuple[Message, ...]
    models: tuple[ModelRef, ...] = ()
    temperature: float | None = None
    max_tokens: int | None = None
    tools: tuple[dict[str, Any], ...] = ()
    tool_choice: str = "auto"
    parallel_tool_calls: bool | None = None
    reasoning_effort: str | None = None


@dataclass(frozen=True, slots=True)
class TextDelta:
    text: str


@dataclass(frozen=True, slots=True)
class ToolCallDelta:
    """A piece of one tool call: the first piece of ``index`` names ``call_id`` and ``name``."""

    index: int
    arguments: str
    call_id: str = ""
    name: str = ""


@dataclass(frozen=True, slots=True)
class Finished:
    """The last delta. ``reason``: stop, length, tool_calls or content_filter; token counts are 0 when unknown.
    ``provider`` and ``model`` have answered."""

    reason: str
    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    provider: str = ""
    model: str = ""


Delta = TextDelta | ToolCallDelta | Finished


class LlmError(Exception):
    """The model could not answer.

    ``code``: llm_unavailable, llm_timeout, llm_auth, llm_rate_limited, llm_bad_response; llm_refused where the request
    itself is not to the provider's liking (an unknown model, too long a conversation), so that asking the same again
    helps nobody and says nothing of the provider's health.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class LanguageModel(Protocol):
    """``model`` answers requests that name none."""

    name: str
    model: str

    def stream(self, request: Request) -> AsyncGenerator[Delta, None]:
        """Tokens as they come; closing the iterator stops the model. Raises LlmError."""
        ...
