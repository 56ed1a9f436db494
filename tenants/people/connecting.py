"""Asking a tenant's identity provider: an address that a customer chose, so it must not lead into our own network."""

import socket
import threading
from contextlib import suppress
from contextvars import ContextVar
from types import TracebackType
from typing import Any, Self

import requests
from django.conf import settings
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import HTTPError

from tenants.keys.networks import is_public

MAX_ANSWER_BYTES = 1024 * 1024


class AddressRefused(OSError):
    """The name leads to an address that is not public; ``requests`` wraps it in its ConnectionError."""


class _Deadline:
    """All of a request ends here. A socket's time limit begins anew with each byte, so it holds a thread for as long as
    the other side likes to send another one."""

    def __init__(self, seconds: float) -> None:
        self.passed = False
        self._sockets: list[socket.socket] = []
        self._timer = threading.Timer(seconds, self._end)
        self._timer.daemon = True

    def watch(self, sock: socket.socket) -> None:
        # Another handle of the connection: TLS takes the socket itself away.
        self._sockets.append(sock.dup())
        if self.passed:
            self._end()

    def _end(self) -> None:
        self.passed = True
        for sock in self._sockets:
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    def __enter__(self) -> Self:
        self._timer.start()
        self._before = _deadline.set(self)
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        _deadline.reset(self._before)
        self._timer.cancel()
        self._timer.join()
        for sock in self._sockets:
            sock.close()


_deadline: ContextVar[_Deadline] = ContextVar("deadline")


def _refuse_private(sock: socket.socket) -> socket.socket:
    """Looks at where the connection really goes, so that no name can change its mind between a check and its use."""
    if not is_public(sock.getpeername()[0]) and not settings.SSO_PRIVATE_ISSUERS:
        sock.close()
        raise AddressRefused("The identity provider's address is not a public one.")
    _deadline.get().watch(sock)
    return sock


class _PublicHTTP(HTTPConnection):
    def _new_conn(self) -> socket.socket:
        return _refuse_private(super()._new_conn())


class _PublicHTTPS(HTTPSConnection):
    def _new_conn(self) -> socket.socket:
        return _refuse_private(super()._new_conn())


class _HTTPPool(HTTPConnectionPool):
    ConnectionCls = _PublicHTTP


class _HTTPSPool(HTTPSConnectionPool):
    ConnectionCls = _PublicHTTPS


class _PublicAdapter(HTTPAdapter):
    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = {"http": _HTTPPool, "https": _HTTPSPool}


class PublicSession(requests.Session):
    """A time limit on all of a request, no proxy and no credentials from the environment, no redirects, bounded
    answers."""

    def __init__(self, timeout_s: float) -> None:
        super().__init__()
        self.trust_env = False
        self._timeout_s = timeout_s
        self.mount("https://", _PublicAdapter())
        self.mount("http://", _PublicAdapter())

    def request(self, method: str, url: str, **kwargs: Any) -> requests.Response:  # type: ignore[override]
        """Raises requests.RequestException."""
        if not url.startswith("https://") and not settings.SSO_PRIVATE_ISSUERS:
            raise requests.exceptions.InvalidSchema("An identity provider is asked over https:// only.")
        kwargs |= {"timeout": self._timeout_s, "allow_redirects": False, "stream": True}
        with _Deadline(self._timeout_s) as deadline:
            try:
                response = super().request(method, url, **kwargs)
                body = response.raw.read(MAX_ANSWER_BYTES + 1, decode_content=True)
                response.close()
            except HTTPError as error:
                raise requests.ConnectionError(type(error).__name__) from error
            finally:
                self.close()  # no connection outlives its request and its watch
        if deadline.passed:
            raise requests.Timeout("The identity provider took too long.")
        if len(body) > MAX_ANSWER_BYTES:
            raise requests.exceptions.ContentDecodingError("The identity provider's answer is too long.")
        response._content = body
        return response
