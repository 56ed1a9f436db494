"""Anthropic's Messages API."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import httpx2

from agents.llm.adapter import HEADERS, Adapter, encode, exhaust, fit_id, repeat_arguments
from agents.llm.turns import Part, ToolResult, schema_of, system_of, tools_of, turns_of
from agents.llm.types import Delta, Finished, Image, LlmError, Request, TextDelta, ToolCall, ToolCallDelta

VERSION = "2023-06-01"
MAX_TOKENS = 4_096
"""The API wants a number; a spoken answer is shorter."""
REASONS = {
    "tool_use": "tool_calls",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "refusal": "content_filter",
}
"""Any other is ``stop``."""
ERRORS = {
    "overloaded_error": "llm_unavailable",
    "api_error": "llm_unavailable",
    "timeout_error": "llm_timeout",
    "rate_limit_error": "llm_rate_limited",
    "authentication_error": "llm_auth",
    "permission_error": "llm_auth",
    "billing_error": "llm_auth",
    "invalid_request_error": "llm_refused",
    "not_found_error": "llm_refused",
    "request_too_large": "llm_refused",
}


def part_wire(part: Part) -> dict[str, Any]:
    match part:
        case Image(url=url) if url.startswith("data:"):
            media_type, _, encoded = url.removeprefix("data:").partition(";base64,")
            return {"type": "image", "source": {"type": "base64", "media_type": media_type, "data": encoded}}
        case Image(url=url):
            return {"type": "image", "source": {"type": "url", "url": url}}
        case ToolCall(call_id=call_id, name=name, arguments=arguments):
            return {"type": "tool_use", "id": fit_id(call_id), "name": name, "input": repeat_arguments(arguments)}
        case ToolResult(call_id=call_id, text=text):
            return {"type": "tool_result", "tool_use_id": fit_id(call_id), "content": text}
        case _:
            return {"type": "text", "text": part}


def request_wire(request: Request, model: str, *, sees: bool = True) -> dict[str, Any]:
    wire: dict[str, Any] = {
        "model": model,
        "max_tokens": request.max_tokens or MAX_TOKENS,
        "stream": True,
        "messages": [
            {"role": turn.role, "content": [part_wire(part) for part in turn.parts]}
            for turn in turns_of(request, sees=sees)
        ],
    }
    if system := system_of(request):
        # The same in every turn of a call: read once, and then from the provider's cache.
        wire["system"] = [{"type": "text", "text": system, "cache_control": {"type": "ephemeral"}}]
    if request.temperature is not None:
        wire["temperature"] = min(request.temperature, 1.0)
    if tools := tools_of(request):
        wire["tools"] = [
            {"name": tool["name"], "description": tool.get("description") or "", "input_schema": schema_of(tool)}
            for tool in tools
        ]
        wire["tool_choice"] = _choice(request)
    return wire


def _choice(request: Request) -> dict[str, Any]:
    if not request.tools or request.tool_choice == "none":
        return {"type": "none"}
    choice: dict[str, Any] = {"type": {"auto": "auto", "required": "any"}.get(request.tool_choice, "tool")}
    if choice["type"] == "tool":
        choice["name"] = request.tool_choice
    if request.parallel_tool_calls is False:
        choice["disable_parallel_tool_use"] = True
    return choice


class Anthropic(Adapter):
    """One model. ``base_url`` is with or without its /v1. Reasoning effort is not asked for."""

    def __init__(
        self,
        name: str,
        base_url: str,
        api_key: str,
        model: str,
        *,
        sees: bool = True,
        client: httpx2.AsyncClient | None = None,
    ) -> None:
        super().__init__(name, model, sees=sees, client=client)
        self._url = f"{base_url.rstrip('/').removesuffix('/v1')}/v1/messages"
        self._headers = {**HEADERS, "x-api-key": api_key, "anthropic-version": VERSION, "Accept": "text/event-stream"}

    async def deltas(self, request: Request) -> AsyncGenerator[Delta, None]:
        async with self.send(request) as response:
            if response.status_code != 200:
                raise await self.refusal(response)
            usage: dict[str, int] = {}
            reason = ""
            lines = response.aiter_lines()
            async for line in lines:
                if not line.startswith("data:"):  # each event says its type in its data too
                    continue
                event = self.read_object(line[5:])
                match event.get("type"):
                    case "message_start":
                        usage |= _counts((event.get("message") or {}).get("usage"))
                    case "content_block_start" | "content_block_delta":
                        if delta := _delta(event):
                            yield delta
                    case "message_delta":
                        usage |= _counts(event.get("usage"))
                        reason = (event.get("delta") or {}).get("stop_reason") or reason
                    case "message_stop":
                        await exhaust(lines)
                        yield _finished(reason, usage)
                        return
                    case "error":
                        kind = str((event.get("error") or {}).get("type"))
                        words = f"{self.name} reported {kind if kind in ERRORS else 'an error'}."
                        raise LlmError(ERRORS.get(kind, "llm_unavailable"), words)

    @asynccontextmanager
    async def post(self, request: Request, *, sees: bool) -> AsyncGenerator[httpx2.Response, None]:
        body = await encode(lambda: request_wire(request, self.model, sees=sees), request)
        async with self.open_stream(self._url, body, self._headers) as response:
            yield response


def _delta(event: dict[str, Any]) -> Delta | None:
    index = event.get("index") or 0
    block = event.get("content_block") or {}
    piece = event.get("delta") or {}
    if block.get("type") == "tool_use":
        return ToolCallDelta(index, "", block.get("id") or "", block.get("name") or "")
    if piece.get("type") == "input_json_delta":
        return ToolCallDelta(index, piece.get("partial_json") or "")
    if text := piece.get("text") or block.get("text"):
        return TextDelta(text)
    return None


def _counts(usage: Any) -> dict[str, int]:
    return {name: count for name, count in (usage or {}).items() if isinstance(count, int)}


def _finished(reason: str, usage: dict[str, int]) -> Finished:
    cached = usage.get("cache_read_input_tokens", 0)
    return Finished(
        REASONS.get(reason, "stop"),
        # What was read from the cache, or written there, is not among their input tokens.
        usage.get("input_tokens", 0) + usage.get("cache_creation_input_tokens", 0) + cached,
        usage.get("output_tokens", 0),
        cached,
    )
