"""Where a request may go: names to addresses, off the event loop, and which of these may be connected to.

What is checked is connected to: the connection is made to the very address, so no name can change its mind between the
check and its use. TLS still asks for the certificate of the name.
"""

import asyncio
import socket
import time
from collections.abc import Awaitable, Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpcore2
import httpx2

from agents.egress.config import EgressConfig
from agents.egress.metrics import REFUSED
from tenants.keys.networks import is_public, read_address

ADDRESSES_TRIED = 4
"""Of a name that has many."""
RESOLVING_MAX = 32
"""Names that a process asks for at once; a slow answer holds a thread."""

Resolve = Callable[[str, int], Awaitable[list[str]]]
"""Host and port to addresses, best first. Raises OSError."""

_resolving = ThreadPoolExecutor(RESOLVING_MAX, thread_name_prefix="resolving")


class EgressRefused(httpx2.TransportError):
    """A request that is not made, or an answer that is not read. The message says why and may be shown to tenants;
    ``reason`` is one of scheme, credentials, address, redirect, encoding, size."""

    def __init__(self, reason: str, message: str) -> None:
        REFUSED.labels(reason).inc()
        super().__init__(message)
        self.reason = reason


async def resolve(host: str, port: int) -> list[str]:
    """As the system resolves names, which knows odd ways to write an address (2130706433, 0x7f.1) too."""
    found = await asyncio.get_running_loop().run_in_executor(
        _resolving, lambda: socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    )
    return list(dict.fromkeys(str(address[4][0]) for address in found))


def is_private_allowed(address: str, config: EgressConfig) -> bool:
    read = read_address(address)
    return read is not None and any(read in network for network in config.private_networks)


class GuardedBackend(httpcore2.AsyncNetworkBackend):
    """Makes the connections of one scheme."""

    def __init__(self, config: EgressConfig, scheme: str, resolve: Resolve) -> None:
        self._config = config
        self._scheme = scheme
        self._resolve = resolve
        self._backend = httpcore2.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 - httpcore2's name
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        """Raises EgressRefused, httpcore2.ConnectError, httpcore2.ConnectTimeout."""
        ends = time.monotonic() + (timeout or self._config.connect_s)
        try:
            async with asyncio.timeout(timeout or self._config.connect_s):
                found = await self._resolve(host, port)
        except TimeoutError as error:
            raise httpcore2.ConnectTimeout(f"{host} was not resolved in time.") from error
        except (OSError, UnicodeError) as error:
            raise httpcore2.ConnectError(f"{host} cannot be resolved.") from error
        addresses = self._allowed(host, found)[:ADDRESSES_TRIED]
        for number, address in enumerate(addresses):
            left = len(addresses) - number
            try:
                return await self._backend.connect_tcp(
                    address, port, max(0.05, (ends - time.monotonic()) / left), local_address, socket_options
                )
            except (httpcore2.ConnectError, httpcore2.ConnectTimeout):
                if left == 1:
                    raise
        raise httpcore2.ConnectError(f"{host} has no address.")

    def _allowed(self, host: str, addresses: list[str]) -> list[str]:
        public = [address for address in addresses if is_public(address)]
        private = [address for address in addresses if is_private_allowed(address, self._config)]
        if not public and not private and addresses:
            raise EgressRefused("address", f"{host} leads to an address that is not public.")
        if self._scheme == "http" and not self._config.http:
            if not private and public:
                raise EgressRefused("scheme", f"{host} is asked over https:// only.")
            return private
        return [address for address in addresses if address in public or address in private]

    async def connect_unix_socket(
        self,
        path: str,
        timeout: float | None = None,  # noqa: ASYNC109 - httpcore2's name
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        raise EgressRefused("address", "Sockets of this machine are not asked.")

    async def sleep(self, seconds: float) -> None:
        await self._backend.sleep(seconds)
