"""Amazon Bedrock's Converse API, streaming: signed by botocore, asked over httpx2, read by botocore's decoder."""

import asyncio
import re
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import quote

import botocore.session
import httpx2
import msgspec
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.eventstream import EventStreamBuffer, EventStreamMessage, ParserError
from botocore.exceptions import BotoCoreError

from agents.llm.adapter import HEADERS, UNSEEN, Adapter, exhaust, fit_id, repeat_arguments
from agents.llm.providers import Provider
from agents.llm.turns import Part, ToolResult, schema_of, system_of, tools_of, turns_of
from agents.llm.types import Delta, Finished, Image, LlmError, Request, TextDelta, ToolCall, ToolCallDelta

REGION = re.compile(r"[a-z]{2}(?:-[a-z]+)+-\d")
IMAGE_FORMATS = {"image/png": "png", "image/jpeg": "jpeg", "image/gif": "gif", "image/webp": "webp"}
REASONS = {
    "tool_use": "tool_calls",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "guardrail_intervened": "content_filter",
    "content_filtered": "content_filter",
}
"""Any other is ``stop``."""
ERRORS = {
    "throttlingException": "llm_rate_limited",
    "serviceQuotaExceededException": "llm_rate_limited",
    "accessDeniedException": "llm_auth",
    "validationException": "llm_refused",
    "modelTimeoutException": "llm_timeout",
}
"""Any other in the middle of an answer is ``llm_unavailable``."""


def part_wire(part: Part) -> dict[str, Any]:
    match part:
        case Image(url=url):
            media_type, _, encoded = url.removeprefix("data:").partition(";base64,")
            if not encoded or media_type not in IMAGE_FORMATS:
                return {"text": UNSEEN}  # it fetches none, and reads no other kinds
            return {"image": {"format": IMAGE_FORMATS[media_type], "source": {"bytes": encoded}}}
        case ToolCall(call_id=call_id, name=name, arguments=arguments):
            return {"toolUse": {"toolUseId": fit_id(call_id), "name": name, "input": repeat_arguments(arguments)}}
        case ToolResult(call_id=call_id, text=text):
            return {"toolResult": {"toolUseId": fit_id(call_id), "content": [{"text": text or " "}]}}
        case _:
            return {"text": part}


def request_wire(request: Request, *, sees: bool = True) -> dict[str, Any]:
    wire: dict[str, Any] = {
        "messages": [
            {"role": turn.role, "content": [part_wire(part) for part in turn.parts]}
            for turn in turns_of(request, sees=sees)
        ]
    }
    if system := system_of(request):
        wire["system"] = [{"text": system}]
    inference: dict[str, Any] = {}
    if request.max_tokens is not None:
        inference["maxTokens"] = request.max_tokens
    if request.temperature is not None:
        inference["temperature"] = min(request.temperature, 1.0)
    if inference:
        wire["inferenceConfig"] = inference
    tools = tools_of(request)
    may_call = bool(request.tools) and request.tool_choice != "none"
    # There is no way to say "none" but to offer none; yet calls made earlier want their tools offered.
    if tools and (may_call or any(message.tool_calls for message in request.messages)):
        wire["toolConfig"] = {"tools": [{"toolSpec": _tool(tool)} for tool in tools]}
        if may_call and request.tool_choice != "auto":
            named = {"tool": {"name": request.tool_choice}}
            wire["toolConfig"]["toolChoice"] = {"any": {}} if request.tool_choice == "required" else named
    return wire


def _tool(tool: dict[str, Any]) -> dict[str, Any]:
    described = {"description": tool["description"]} if tool.get("description") else {}
    return {"name": tool["name"], **described, "inputSchema": {"json": schema_of(tool)}}


class Bedrock(Adapter):
    """One model, by its id, inference profile or ARN. Neither reasoning effort nor whether calls may be parallel can be
    asked for. Raises LlmError where the provider's configuration is wrong."""

    def __init__(self, provider: Provider, model: str, *, client: httpx2.AsyncClient | None = None) -> None:
        super().__init__(provider.name, model, sees=provider.sees, client=client)
        self._region = provider.credential("region")
        if not REGION.fullmatch(self._region):
            raise LlmError("llm_refused", f"{self.name} has no AWS region such as eu-central-1.")
        base_url = provider.base_url or f"https://bedrock-runtime.{self._region}.amazonaws.com"
        self._url = f"{base_url.rstrip('/')}/model/{quote(model, safe='')}/converse-stream"
        self._provider = provider
        self._credentials: Any = None
        self._finding = asyncio.Lock()

    async def deltas(self, request: Request) -> AsyncGenerator[Delta, None]:
        async with self.send(request) as response:
            if response.status_code != 200:
                raise await self.refusal(response)
            buffer, reason = EventStreamBuffer(), ""
            pieces = response.aiter_bytes()
            async for piece in pieces:
                buffer.add_data(piece)
                for kind, event in self._events(buffer):
                    if kind == "messageStop":
                        reason = event.get("stopReason") or "end_turn"
                    elif kind == "metadata":
                        await exhaust(pieces)
                        yield _finished(reason, event.get("usage") or {})
                        return
                    elif delta := _delta(event):
                        yield delta
            if reason:  # an answer without its counts is one all the same
                yield _finished(reason, {})

    @asynccontextmanager
    async def post(self, request: Request, *, sees: bool) -> AsyncGenerator[httpx2.Response, None]:
        if self._credentials is None and not self._provider.credential("api_key"):
            async with self._finding:
                if self._credentials is None:
                    self._credentials = await asyncio.to_thread(self._find_credentials)
        # Hashing what may hold images, and renewing credentials, take their time.
        body, headers = await asyncio.to_thread(self._sign, request, sees)
        async with self.open_stream(self._url, body, headers) as response:
            yield response

    def _events(self, buffer: EventStreamBuffer) -> list[tuple[str, dict[str, Any]]]:
        try:
            messages: list[EventStreamMessage] = list(buffer)
        except ParserError as error:
            raise LlmError("llm_bad_response", f"{self.name} sent a broken frame ({type(error).__name__}).") from None
        events = []
        for message in messages:
            if message.headers.get(":message-type") != "event":
                kind = str(message.headers.get(":exception-type") or message.headers.get(":error-code"))
                words = f"{self.name} reported {kind if kind in ERRORS else 'an error'} in the middle of its answer."
                raise LlmError(ERRORS.get(kind, "llm_unavailable"), words)
            events.append((str(message.headers.get(":event-type")), self.read_object(message.payload)))
        return events

    def _find_credentials(self) -> Any:
        provider = self._provider
        if key_id := provider.credential("access_key_id"):
            token = provider.credential("session_token") or None
            return Credentials(key_id, provider.credential("secret_access_key"), token)
        if provider.tenant:
            # AWS's own chain would find the platform's account.
            raise LlmError("llm_auth", f"{self.name} has no credentials.")
        try:
            found = botocore.session.Session().get_credentials()
        except BotoCoreError as error:
            raise LlmError("llm_auth", f"AWS's credentials cannot be used: {type(error).__name__}.") from error
        if found is None:
            raise LlmError("llm_auth", "AWS's own chain finds no credentials.")
        return found

    def _sign(self, request: Request, sees: bool) -> tuple[bytes, dict[str, str]]:
        """Body and headers. Blocks. Raises LlmError."""
        body = msgspec.json.encode(request_wire(request, sees=sees))
        headers = {**HEADERS, "Accept": "application/vnd.amazon.eventstream"}
        if key := self._provider.credential("api_key"):
            return body, {**headers, "Authorization": f"Bearer {key}"}
        signed = AWSRequest("POST", self._url, headers={"Content-Type": headers["Content-Type"]}, data=body)
        try:
            SigV4Auth(self._credentials.get_frozen_credentials(), "bedrock", self._region).add_auth(signed)
        except BotoCoreError as error:
            raise LlmError("llm_auth", f"AWS's credentials cannot be used: {type(error).__name__}.") from error
        return body, {**headers, **dict(signed.headers.items())}


def _delta(event: dict[str, Any]) -> Delta | None:
    index = event.get("contentBlockIndex") or 0
    started = (event.get("start") or {}).get("toolUse")
    piece = event.get("delta") or {}
    if started:
        return ToolCallDelta(index, "", started.get("toolUseId") or "", started.get("name") or "")
    if "toolUse" in piece:
        return ToolCallDelta(index, piece["toolUse"].get("input") or "")
    return TextDelta(piece["text"]) if piece.get("text") else None


def _finished(reason: str, usage: dict[str, Any]) -> Finished:
    cached = usage.get("cacheReadInputTokens") or 0
    read = (usage.get("inputTokens") or 0) + (usage.get("cacheWriteInputTokens") or 0) + cached
    return Finished(REASONS.get(reason, "stop"), read, usage.get("outputTokens") or 0, cached)
