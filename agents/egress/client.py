"""The HTTP client for every address that a tenant or a client chose.

It asks only addresses that are public or that operators allow, each redirect anew; takes no proxy, no credentials and
keeps no cookies, so one client serves all tenants; and bounds the time of a request and the size of its answer.
"""

import asyncio
import ssl
import zlib
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from functools import cache
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Any, cast

import httpcore2
import httpx2

from agents.egress.addresses import EgressRefused, GuardedBackend, Resolve, resolve
from agents.egress.config import EgressConfig

MAX_REDIRECTS = 5
MAX_CONNECTIONS = 200
IDLE_CONNECTIONS = 40
IDLE_S = 15.0
PIECE_BYTES = 64 * 1024
DEADLINE = "agentvoicebox.deadline"
HARMLESS_HEADERS = ("accept", "accept-encoding", "accept-language", "content-type", "user-agent")
"""What goes along to another origin. Any other header may be a credential."""


@cache
def _ssl_context() -> ssl.SSLContext:
    """Operators can name their own certificate authorities by SSL_CERT_FILE and SSL_CERT_DIR."""
    return httpx2.create_ssl_context()


def open_client(
    config: EgressConfig, *, max_bytes: int | None = None, total_s: float | None = None, resolve: Resolve = resolve
) -> "EgressClient":
    """A client for the running event loop; close it with ``aclose``. Connections are kept for the next request."""
    return EgressClient(
        replace(config, max_bytes=max_bytes or config.max_bytes, total_s=total_s or config.total_s), resolve
    )


class EgressClient(httpx2.AsyncClient):
    """Raises what httpx2 does, and EgressRefused, which is one of its TransportErrors."""

    def __init__(self, config: EgressConfig, resolve: Resolve = resolve) -> None:
        self.config = config
        super().__init__(
            mounts={f"{scheme}://": GuardedTransport(config, scheme, resolve) for scheme in ("http", "https")},
            transport=_NoTransport(),
            timeout=httpx2.Timeout(config.total_s, connect=config.connect_s),
            headers={"Accept-Encoding": "gzip", "User-Agent": "AgentVoiceBox"},
            cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
            max_redirects=MAX_REDIRECTS,
            trust_env=False,
        )

    async def send(
        self,
        request: httpx2.Request,
        *,
        stream: bool = False,
        auth: Any = httpx2.USE_CLIENT_DEFAULT,
        follow_redirects: Any = httpx2.USE_CLIENT_DEFAULT,
    ) -> httpx2.Response:
        follow = self.follow_redirects if follow_redirects is httpx2.USE_CLIENT_DEFAULT else follow_redirects
        request.extensions = {DEADLINE: asyncio.get_running_loop().time() + self.config.total_s, **request.extensions}
        history: list[httpx2.Response] = []
        while True:
            if request.url.userinfo:
                raise EgressRefused("credentials", "An address holds no user and no password.")
            response = await super().send(request, stream=stream, auth=auth, follow_redirects=False)
            response.history = list(history)
            following = response.next_request
            if not follow or following is None:
                return response
            await response.aclose()
            if len(history) == self.max_redirects:
                raise httpx2.TooManyRedirects(f"More than {self.max_redirects} redirects.", request=request)
            history.append(response)
            # What signs the first request is in its headers now, and goes along as far as these do.
            request, auth = _redirected(request, following), None


def _redirected(request: httpx2.Request, following: httpx2.Request) -> httpx2.Request:
    before, after = request.url, following.url
    if (before.scheme, before.host, before.port) == (after.scheme, after.host, after.port):
        return following
    if before.scheme == "https" and after.scheme != "https":
        raise EgressRefused("redirect", "A redirect from https:// to http:// is not followed.")
    if following.method not in ("GET", "HEAD"):
        raise EgressRefused("redirect", "A redirect that takes what was sent to another origin is not followed.")
    headers = {name: value for name, value in following.headers.items() if name in HARMLESS_HEADERS}
    return httpx2.Request(following.method, after, headers=headers, extensions=following.extensions)


class _NoTransport(httpx2.AsyncBaseTransport):
    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        raise EgressRefused("scheme", f"{request.url.scheme}:// is not asked, only https://.")


class GuardedTransport(httpx2.AsyncHTTPTransport):
    """One scheme's connections, and the bounds of what comes over them."""

    def __init__(self, config: EgressConfig, scheme: str, resolve: Resolve) -> None:
        super().__init__(verify=_ssl_context(), trust_env=False)
        self._config = config
        # The transport has no other way to be given a network backend.
        self._pool = httpcore2.AsyncConnectionPool(
            ssl_context=_ssl_context(),
            max_connections=MAX_CONNECTIONS,
            max_keepalive_connections=IDLE_CONNECTIONS,
            keepalive_expiry=IDLE_S,
            network_backend=GuardedBackend(config, scheme, resolve),
        )

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        deadline = request.extensions.get(DEADLINE)
        try:
            async with asyncio.timeout_at(deadline):
                response = await super().handle_async_request(request)
        except TimeoutError as error:
            raise _too_slow(self._config) from error
        encoding = response.headers.pop("content-encoding", "identity").strip().lower()
        inflate = None
        if encoding in ("gzip", "x-gzip", "deflate"):
            response.headers.pop("content-length", None)
            inflate = zlib.decompressobj(zlib.MAX_WBITS | 32)
        elif encoding not in ("identity", ""):
            await response.aclose()
            raise EgressRefused("encoding", f"The answer is compressed as {encoding}, which was not asked for.")
        stream = cast("httpx2.AsyncByteStream", response.stream)
        return httpx2.Response(
            status_code=response.status_code,
            headers=response.headers,
            stream=_BoundedStream(stream, self._config, deadline, inflate),
            extensions=response.extensions,
        )


def _too_slow(config: EgressConfig) -> httpx2.ReadTimeout:
    return httpx2.ReadTimeout(f"There was no whole answer within {config.total_s:g} s.")


class _BoundedStream(httpx2.AsyncByteStream):
    def __init__(
        self, stream: httpx2.AsyncByteStream, config: EgressConfig, deadline: float | None, inflate: Any
    ) -> None:
        self._stream = stream
        self._config = config
        self._deadline = deadline
        self._inflate = inflate

    async def __aiter__(self) -> AsyncIterator[bytes]:
        parts, left = aiter(self._stream), self._config.max_bytes
        while True:
            try:
                async with asyncio.timeout_at(self._deadline):
                    part = await anext(parts, None)
            except TimeoutError as error:
                raise _too_slow(self._config) from error
            for piece in self._decompress(part):
                left -= len(piece)
                if left < 0:
                    raise EgressRefused("size", f"The answer is longer than {self._config.max_bytes} bytes.")
                yield piece
            if part is None:
                return

    def _decompress(self, part: bytes | None) -> Iterator[bytes]:
        """None: the answer has ended."""
        if self._inflate is None:
            yield part or b""
            return
        try:
            while part:
                yield self._inflate.decompress(part, PIECE_BYTES)
                part = self._inflate.unconsumed_tail
            if part is None:
                yield self._inflate.flush()
        except zlib.error as error:
            raise httpx2.DecodingError("The answer is not compressed as it says.") from error

    async def aclose(self) -> None:
        await self._stream.aclose()
