"""What the adapters of all APIs share: an HTTP client, and the one way in which its failures are told."""

import asyncio
import logging
import re
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, aclosing, asynccontextmanager, suppress
from dataclasses import replace
from functools import cache, partial
from typing import Any

import httpx2
import msgspec

from agents.egress import client as egress
from agents.egress.addresses import EgressRefused
from agents.egress.config import EgressConfig
from agents.llm.types import Delta, Finished, LlmError, Request, TextDelta, ToolCallDelta
from speech.logs import kind_and_place

CONNECTIONS = 500
KEPT_CONNECTIONS = 64
KEPT_S = 60.0
ANSWER_BYTES = 16 * 1024 * 1024
ANSWER_S = 600.0
"""An answer is read as fast as it is spoken, so it may take long to come in."""
EVENT_BYTES = 256 * 1024
"""Of one event, which is read at once. Models send a few bytes in each, some all arguments of a call."""
EXHAUST_S = 0.05
CODES = {401: "llm_auth", 402: "llm_auth", 403: "llm_auth", 408: "llm_timeout", 424: "llm_unavailable",
         425: "llm_unavailable", 429: "llm_rate_limited", 504: "llm_timeout"}  # fmt: skip

# What says that the request itself is not to a model's liking.
REFUSALS = (400, 415, 422)
BLIND = (500,)
"""Some servers of models that see nothing break on an image."""
REMEMBERED = 1_000
UNSEEN = "[an image that you cannot see]"

Options = tuple[str | None, bool | None, bool]

log = logging.getLogger(__name__)

_decode = msgspec.json.Decoder().decode


def options_of(request: Request) -> Options:
    """What not every model takes."""
    parallel = request.parallel_tool_calls if request.tools else None
    return request.reasoning_effort, parallel, request.temperature is not None


def lesser_of(request: Request) -> list[Request]:
    """The request, and what is left of it without the options, and without the temperature."""
    plain = replace(request, parallel_tool_calls=None, reasoning_effort=None)
    return list({options_of(each): each for each in (replace(plain, temperature=None), plain, request)}.values())[::-1]


def has_images(request: Request) -> bool:
    return any(message.images for message in request.messages)


async def encode(wire: Callable[[], Any], request: Request) -> bytes:
    """JSON; off the event loop where images make it long."""
    if has_images(request):
        return await asyncio.to_thread(lambda: msgspec.json.encode(wire()))
    return msgspec.json.encode(wire())


def code_of(status: int) -> str:
    """The error's code for an HTTP status that is no success."""
    if status in CODES:
        return CODES[status]
    return "llm_unavailable" if status >= 500 else "llm_refused" if status >= 400 else "llm_bad_response"


@cache
def tls() -> ssl.SSLContext:
    """Made once: reading the certificates of all authorities takes tens of milliseconds. Blocks."""
    return httpx2.create_ssl_context()


TIME_LIMITS = httpx2.Timeout(30.0, connect=5.0)
"""Of one step. Of the whole answer whoever asks takes care (``agents.llm.attempt``)."""
HEADERS = {"Content-Type": "application/json", "Accept-Encoding": "identity"}
"""What is compressed comes in lumps."""


def open_client() -> httpx2.AsyncClient:
    """One provider's connections, for addresses that are the platform's own or its operators' choice."""
    limits = httpx2.Limits(
        max_connections=CONNECTIONS, max_keepalive_connections=KEPT_CONNECTIONS, keepalive_expiry=KEPT_S
    )
    return httpx2.AsyncClient(verify=tls(), timeout=TIME_LIMITS, limits=limits)


def open_guarded_client(config: EgressConfig) -> httpx2.AsyncClient:
    """The same for addresses that a tenant chose."""
    return egress.open_client(config, max_bytes=ANSWER_BYTES, total_s=ANSWER_S)


class Adapter:
    """One model of one provider. Its answers say that they come from ``answers_as``. ``sees``: it takes images.
    ``client`` is for whoever made it to close; without one it has its own.

    What may be asked of any model, and this one refuses (HTTP 400 or the like), it is asked again without: first the
    options, then the temperature, then the images. What it refuses is remembered, so that the next answer does not wait
    for a refusal; but of images, for another one may be to its liking.
    """

    def __init__(self, name: str, model: str, *, sees: bool = True, client: httpx2.AsyncClient | None = None) -> None:
        self.name = name
        self.answers_as = name
        self.model = model
        self.client = client or open_client()
        self._sees = sees
        self._taken: dict[Options, int] = {}

    async def aclose(self) -> None:
        await self.client.aclose()

    def post(self, request: Request, *, sees: bool) -> AbstractAsyncContextManager[httpx2.Response]:
        """The request as the API has it, on its way; ``sees``: with its images."""
        raise NotImplementedError

    def deltas(self, request: Request) -> AsyncGenerator[Delta, None]:
        """What the provider's API streams. May raise httpx2's errors."""
        raise NotImplementedError

    async def stream(self, request: Request) -> AsyncGenerator[Delta, None]:
        """Tokens as they come. Raises LlmError, which quotes nothing of what was asked or answered."""
        try:
            async with aclosing(self.deltas(request)) as deltas:
                async for delta in deltas:
                    _check(delta)
                    if isinstance(delta, Finished):
                        yield replace(delta, provider=self.answers_as, model=self.model)
                        return
                    yield delta
        except (AttributeError, KeyError, TypeError) as error:
            # Texts where its API has objects, and the like: nobody can read that, and the next model is asked.
            log.warning("%s sent what its API does not say: %s", self.name, kind_and_place(error))
            raise LlmError("llm_bad_response", f"{self.name} sent something that its API does not say.") from None
        except httpx2.PoolTimeout as error:
            raise LlmError("llm_rate_limited", f"All connections to {self.name} are in use.") from error
        except httpx2.TimeoutException as error:
            raise LlmError("llm_timeout", f"{self.name} did not answer in time ({type(error).__name__}).") from error
        except (EgressRefused, httpx2.InvalidURL, httpx2.UnsupportedProtocol) as error:
            raise LlmError("llm_refused", f"{self.name} is not asked: {error}") from error
        except httpx2.HTTPError as error:
            raise LlmError("llm_unavailable", f"{self.name} could not be reached ({type(error).__name__}).") from error
        raise LlmError("llm_bad_response", f"{self.name} broke off in the middle of its answer.")

    @asynccontextmanager
    async def open_stream(
        self, url: str, body: bytes, headers: dict[str, str]
    ) -> AsyncGenerator[httpx2.Response, None]:
        """A connection that was kept may be closed by the other side at the moment it is used again: then nothing was
        answered, and it is asked once more at once, on another."""
        post = partial(self.client.stream, "POST", url, content=body, headers=headers, timeout=TIME_LIMITS)
        async with AsyncExitStack() as stack:
            try:
                response = await stack.enter_async_context(post())
            except (httpx2.RemoteProtocolError, httpx2.ReadError, httpx2.WriteError):
                response = await stack.enter_async_context(post())
            yield response

    @asynccontextmanager
    async def send(self, request: Request) -> AsyncGenerator[httpx2.Response, None]:
        """The answer to the request as it is asked, or to the first lesser one that is not refused."""
        options, levels = options_of(request), lesser_of(request)
        known = self._taken.get(options, 0)
        asked = [(level, self._sees) for level in levels[known:]]
        images = self._sees and has_images(request)
        if images:
            ends = {known: levels[known], len(levels) - 1: levels[-1]}
            asked += [(level, False) for level in ends.values()]
        async with AsyncExitStack() as stack:
            for place, (wanted, sees) in enumerate(asked):
                response = await stack.enter_async_context(self.post(wanted, sees=sees))
                if response.status_code not in (*REFUSALS, *(BLIND if images else ())):
                    break
                if place < len(asked) - 1:
                    await exhaust(response.aiter_raw())
            if place and sees == self._sees and response.status_code == 200:
                self._remember(options, known + place)
            yield response

    def _remember(self, options: Options, level: int) -> None:
        log.warning("%s refuses what not every model takes (%s): it is asked without", self.name, self.model)
        if len(self._taken) >= REMEMBERED:
            self._taken.clear()
        self._taken[options] = level

    async def refusal(self, response: httpx2.Response) -> LlmError:
        # The body may quote the conversation: it goes nowhere.
        await exhaust(response.aiter_raw())
        return LlmError(code_of(response.status_code), f"{self.name} answered HTTP {response.status_code}.")

    def read_object(self, payload: str | bytes) -> dict[str, Any]:
        """One event's JSON. Raises LlmError."""
        if len(payload) > EVENT_BYTES:
            raise LlmError("llm_bad_response", f"{self.name} sent an event of more than {EVENT_BYTES} bytes.")
        try:
            read = _decode(payload)
        except msgspec.DecodeError:
            raise LlmError("llm_bad_response", f"{self.name} sent something that is no JSON.") from None
        if not isinstance(read, dict):
            raise LlmError("llm_bad_response", f"{self.name} sent something that is no object.")
        return read


def _check(delta: Delta) -> None:
    """Raises TypeError."""
    match delta:
        case TextDelta(str()) | ToolCallDelta(int(), str(), str(), str()) | Finished(str(), int(), int(), int()):
            pass
        case _:
            raise TypeError("a delta of other types")


async def exhaust(rest: AsyncIterator[Any]) -> None:
    """Reads what comes after the end of an answer, which is next to nothing: a connection whose answer was not read to
    its end cannot be used again, and making another takes a caller's time. Never raises."""
    with suppress(TimeoutError, httpx2.HTTPError):
        async with asyncio.timeout(EXHAUST_S):
            async for _ in rest:
                pass


def read_arguments(arguments: str) -> dict[str, Any] | None:
    """A tool call's arguments as an object; none at all are an empty one. None where they are no JSON object."""
    if arguments.strip() in ("", "null"):
        return {}
    try:
        read = _decode(arguments)
    except msgspec.DecodeError:
        return None
    return read if isinstance(read, dict) else None


def repeat_arguments(arguments: str) -> dict[str, Any]:
    """As a model is shown what it has called earlier: APIs refuse a conversation with arguments that are no object."""
    read = read_arguments(arguments)
    return {"malformed_arguments": arguments} if read is None else read


UNFIT_IN_IDS = re.compile(r"[^A-Za-z0-9_-]")


def fit_id(call_id: str) -> str:
    """A call's id with the letters that Anthropic and Bedrock take; ids of clients may have others."""
    return UNFIT_IN_IDS.sub("_", call_id)[-64:]
