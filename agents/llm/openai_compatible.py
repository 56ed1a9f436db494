"""Any API that speaks OpenAI's chat completions: OpenAI itself, Groq, Ollama, vLLM, llama.cpp, …"""

import secrets
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import httpx2
import msgspec

from agents.llm.adapter import (
    HEADERS,
    UNSEEN,
    Adapter,
    encode,
    exhaust,
    read_arguments,
    repeat_arguments,
)
from agents.llm.types import Delta, Finished, LlmError, Message, Request, TextDelta, ToolCall, ToolCallDelta


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
            {
                "id": call.call_id,
                "type": "function",
                "function": _called(call),
            }
            for call in message.tool_calls
        ]
    if message.tool_call_id is not None:
        wire["tool_call_id"] = message.tool_call_id
    return wire


def request_wire(request: Request, model: str, *, sees: bool = True, limit: str = "max_tokens") -> dict[str, Any]:
    wire: dict[str, Any] = {
        "model": model,
        "messages": [message_wire(message, sees=sees) for message in request.messages],
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    if request.max_tokens is not None:
        wire[limit] = request.max_tokens
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


def _called(call: ToolCall) -> dict[str, str]:
    """Good arguments go back to the letter: they may be in the provider's cache."""
    fit = call.arguments.strip() and read_arguments(call.arguments) is not None
    arguments = call.arguments if fit else msgspec.json.encode(repeat_arguments(call.arguments)).decode()
    return {"name": call.name, "arguments": arguments}


class OpenAiCompatible(Adapter):
    """One model. ``base_url`` ends in /v1; ``limit`` is what the most tokens of an answer are called there."""

    def __init__(
        self,
        name: str,
        base_url: str,
        api_key: str,
        model: str,
        *,
        sees: bool = True,
        limit: str = "max_tokens",
        client: httpx2.AsyncClient | None = None,
    ) -> None:
        super().__init__(name, model, sees=sees, client=client)
        self._limit = limit
        self._url = f"{base_url.rstrip('/')}/chat/completions"
        self._headers = {**HEADERS, "Accept": "text/event-stream"}
        if api_key:
            self._headers["Authorization"] = f"Bearer {api_key}"

    async def deltas(self, request: Request) -> AsyncGenerator[Delta, None]:
        async with self.send(request) as response:
            if response.status_code != 200:
                raise await self.refusal(response)
            reason, usage, calls = "", Finished("stop"), _Calls()
            lines = response.aiter_lines()
            async for line in lines:
                if not line.startswith("data:"):
                    continue
                payload = line[5:].strip()
                if payload == "[DONE]":
                    break
                chunk = self.read_object(payload)
                if "error" in chunk:
                    raise LlmError("llm_unavailable", f"{self.name} reported an error in the middle of its answer.")
                if chunk.get("usage"):
                    usage = _usage(chunk["usage"])
                for choice in chunk.get("choices") or ():
                    delta = choice.get("delta") or {}
                    if delta.get("content"):
                        yield TextDelta(delta["content"])
                    for piece in delta.get("tool_calls") or ():
                        yield calls.read(piece)
                    reason = choice.get("finish_reason") or reason
            if reason:
                await exhaust(lines)
                yield replace(usage, reason=reason)

    @asynccontextmanager
    async def post(self, request: Request, *, sees: bool) -> AsyncGenerator[httpx2.Response, None]:
        body = await encode(lambda: request_wire(request, self.model, sees=sees, limit=self._limit), request)
        async with self.open_stream(self._url, body, self._headers) as response:
            yield response


class _Calls:
    """Which call a piece belongs to. Some servers number no calls, or give two at once the same number: then a new id
    is a new call. Some give no id: then they get one."""

    def __init__(self) -> None:
        self._now: dict[int, tuple[int, str]] = {}
        self._count = 0

    def read(self, piece: dict[str, Any]) -> ToolCallDelta:
        number, given = piece.get("index") or 0, piece.get("id") or ""
        function = piece.get("function") or {}
        name = function.get("name") or ""
        known = self._now.get(number)
        new = known is None or (given and given != known[1])
        if known is None or new:
            known = self._now[number] = (self._count, given or f"call_{secrets.token_hex(12)}")
            self._count += 1
        arguments = function.get("arguments") or ""
        if not isinstance(arguments, str):  # some servers send the object itself
            arguments = msgspec.json.encode(arguments).decode()
        return ToolCallDelta(known[0], arguments, known[1] if new else "", name if new else "")


def _usage(usage: dict[str, Any]) -> Finished:
    return Finished(
        "stop",
        usage.get("prompt_tokens") or 0,
        usage.get("completion_tokens") or 0,
        (usage.get("prompt_tokens_details") or {}).get("cached_tokens") or 0,
    )
