"""Any API that speaks OpenAI's chat completions: OpenAI itself, Groq, Ollama, vLLM, llama.cpp, …"""

import asyncio
import logging
import time
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import replace
from typing import Any

import httpx
import msgspec

from agents.llm import metrics
from agents.llm.types import Delta, Finished, LlmError, Message, Request, TextDelta, ToolCallDelta

TOTAL_S = 30.0
CONNECT_S = 5.0
ERROR_CODES = {401: "llm_auth", 403: "llm_auth", 429: "llm_rate_limited"}

# What says that the request itself is not to a model's liking.
REFUSALS = (400, 415, 422)
BLIND = (500,)
"""Some servers of models that see nothing break on an image."""
REMEMBERED = 1_000
UNSEEN = "[an image that you cannot see]"

Options = tuple[str, str | None, bool | None]

log = logging.getLogger(__name__)

_decode = msgspec.json.Decoder().decode


def message_wire(message: Message, *, sees: bool = True) -> dict[str, Any]:
    """A message as chat completions wants it; a model that sees nothing is told of the images, in words."""
    wire: dict[str, Any] = {"role": message.role, "content": message.text}
    if message.images and sees:
        wire["content"] = [{"type": "text", "text": message.text}] if message.text else []
        wire["content"] += [
            {"type": "image_url", "image_url": {"url": image.url, "detail": image.detail}} for image in message.images
        ]
    elif message.images:
        wire["content"] = " ".join([message.text, *[UNSEEN] * len(message.images)]).strip()
    if message.tool_calls:
        wire["content"] = message.text or None
        wire["tool_calls"] = [
            {"id": call.call_id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
            for call in message.tool_calls
        ]
    if message.tool_call_id is not None:
        wire["tool_call_id"] = message.tool_call_id
    return wire


def request_wire(request: Request, model: str, *, sees: bool = True) -> dict[str, Any]:
    wire: dict[str, Any] = {
        "model": model,
        "messages": [message_wire(message, sees=sees) for message in request.messages],
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    if request.max_tokens is not None:
        wire["max_tokens"] = request.max_tokens
    if request.temperature is not None:
        wire["temperature"] = request.temperature
    if request.reasoning_effort is not None:
        wire["reasoning_effort"] = request.reasoning_effort
    if request.tools:
        wire["tools"] = [
            {"type": "function", "function": {name: value for name, value in tool.items() if name != "type"}}
            for tool in request.tools
        ]
        named = request.tool_choice not in ("auto", "none", "required")
        wire["tool_choice"] = (
            {"type": "function", "function": {"name": request.tool_choice}} if named else request.tool_choice
        )
        if request.parallel_tool_calls is not None:
            wire["parallel_tool_calls"] = request.parallel_tool_calls
    return wire


def options_of(request: Request) -> Options:
    """The model, and what not every model takes."""
    parallel = request.parallel_tool_calls if request.tools else None
    return request.reasoning_effort, parallel


class OpenAiCompatible:
    """One provider. ``base_url`` ends in /v1; ``model`` is used where a request names none; ``sees``: it takes images.

    What a client may ask of any model, and this one refuses (HTTP 400 or the like), it is asked again without: first
    the options, then the images. Refused options are remembered, so that the next answer does not wait for a refusal.
    """

    def __init__(
        self, name: str, base_url: str, api_key: str, model: str, *, total_s: float = TOTAL_S, sees: bool = True
    ) -> None:
        self.name = name
        self.model = model
        self._sees = sees
        self._refused: set[Options] = set()
        self._total_s = total_s
        self._client = httpx.AsyncClient(
            base_url=base_url.rstrip("/"),
            headers={"Authorization": f"Bearer {api_key}"} if api_key else {},
            timeout=httpx.Timeout(total_s, connect=CONNECT_S),
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=64, keepalive_expiry=60),
        )

    async def aclose(self) -> None:
        await self._client.aclose()

    async def stream(self, request: Request) -> AsyncGenerator[Delta, None]:
        began, outcome, waited_s = time.monotonic(), "cancelled", 0.0
        try:
            async with aclosing(self._deltas(request)) as deltas:
                while True:
                    # Only waiting for the model counts: it may be read slowly, as fast as it is spoken. And no time-out
                    # may span a yield: it would strike whatever the reader is waiting for.
                    asked = time.monotonic()
                    async with asyncio.timeout(self._total_s - waited_s):
                        delta = await anext(deltas)
                    if not waited_s:
                        metrics.FIRST_TOKEN.labels(self.name).observe(time.monotonic() - began)
                    waited_s += time.monotonic() - asked
                    if isinstance(delta, Finished):
                        outcome = "completed"
                    yield delta
                    if outcome == "completed":
                        return
        except LlmError as error:
            outcome = error.code
            raise
        except TimeoutError:
            outcome = "llm_timeout"
            raise LlmError(outcome, f"{self.name} did not finish its answer within {self._total_s:g} s.") from None
        except httpx.TimeoutException as error:
            outcome = "llm_timeout"
            raise LlmError(outcome, f"{self.name} did not answer in time ({type(error).__name__}).") from error
        except httpx.HTTPError as error:
            outcome = "llm_unavailable"
            raise LlmError(outcome, f"{self.name} could not be reached ({type(error).__name__}).") from error
        finally:
            metrics.REQUESTS.labels(self.name, outcome).inc()
            metrics.DURATION.labels(self.name).observe(time.monotonic() - began)

    async def _deltas(self, request: Request) -> AsyncGenerator[Delta, None]:
        async with self._send(request) as response:
            if response.status_code >= 400:
                code = ERROR_CODES.get(response.status_code, "llm_unavailable")
                # The body may quote the conversation: it goes nowhere.
                raise LlmError(code, f"{self.name} answered HTTP {response.status_code}.")
            reason, usage = "", Finished("stop")
            async for line in response.aiter_lines():
                if not line.startswith("data:"):
                    continue
                payload = line[5:].strip()
                if payload == "[DONE]":
                    break
                chunk = self._chunk(payload)
                if chunk.get("usage"):
                    usage = _usage(chunk["usage"])
                    metrics.TOKENS.labels(self.name, "input").inc(usage.input_tokens)
                    metrics.TOKENS.labels(self.name, "output").inc(usage.output_tokens)
                for choice in chunk.get("choices") or ():
                    for delta in _choice_deltas(choice.get("delta") or {}):
                        yield delta
                    reason = choice.get("finish_reason") or reason
            if not reason:
                raise LlmError("llm_bad_response", f"{self.name} broke off in the middle of its answer.")
            yield Finished(reason, usage.input_tokens, usage.output_tokens, usage.cached_tokens)

    @asynccontextmanager
    async def _send(self, request: Request) -> AsyncGenerator[httpx.Response, None]:
        """The answer to the request as it is asked, or to the first lesser one that is not refused."""
        options = options_of(request)
        plain = replace(request, parallel_tool_calls=None, reasoning_effort=None)
        asked = [(plain, self._sees)]
        if optional := options[1:] != (None, None) and options not in self._refused:
            asked.insert(0, (request, self._sees))
        if images := self._sees and any(message.images for message in request.messages):
            asked.append((plain, False))
        async with AsyncExitStack() as stack:
            for wanted, sees in asked:
                response = await stack.enter_async_context(self._post(wanted, sees=sees))
                if response.status_code not in (*REFUSALS, *(BLIND if images else ())):
                    break
            if optional and (wanted, sees) == (plain, self._sees) and response.status_code == 200:
                self._remember(options)
            yield response

    @asynccontextmanager
    async def _post(self, request: Request, *, sees: bool) -> AsyncGenerator[httpx.Response, None]:
        body = msgspec.json.encode(request_wire(request, self.model, sees=sees))
        headers = {"Content-Type": "application/json"}
        async with self._client.stream("POST", "/chat/completions", content=body, headers=headers) as response:
            if response.status_code >= 400:
                await response.aread()
            yield response

    def _remember(self, options: Options) -> None:
        log.warning("%s refuses reasoning_effort or parallel_tool_calls: it is asked without", self.name)
        if len(self._refused) >= REMEMBERED:
            self._refused.clear()
        self._refused.add(options)

    def _chunk(self, payload: str) -> dict[str, Any]:
        try:
            chunk = _decode(payload)
        except msgspec.DecodeError:
            raise LlmError("llm_bad_response", f"{self.name} sent something that is no JSON.") from None
        if not isinstance(chunk, dict):
            raise LlmError("llm_bad_response", f"{self.name} sent something that is no object.")
        if "error" in chunk:
            raise LlmError("llm_unavailable", f"{self.name} reported an error in the middle of its answer.")
        return chunk


def _usage(usage: dict[str, Any]) -> Finished:
    return Finished(
        "stop",
        usage.get("prompt_tokens") or 0,
        usage.get("completion_tokens") or 0,
        (usage.get("prompt_tokens_details") or {}).get("cached_tokens") or 0,
    )


def _choice_deltas(delta: dict[str, Any]) -> list[Delta]:
    deltas: list[Delta] = []
    if delta.get("content"):
        deltas.append(TextDelta(delta["content"]))
    for call in delta.get("tool_calls") or ():
        function = call.get("function") or {}
        deltas.append(
            ToolCallDelta(
                call.get("index") or 0,
                function.get("arguments") or "",
                call.get("id") or "",
                function.get("name") or "",
            )
        )
    return deltas
