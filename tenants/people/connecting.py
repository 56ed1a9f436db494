"""Asking a tenant's identity provider: an address that a customer chose, so it must not lead into our own network."""

import ipaddress
import socket
from typing import Any

import requests
from django.conf import settings
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

MAX_ANSWER_BYTES = 1024 * 1024


class AddressRefused(OSError):
    """The name leads to an address that is not public; ``requests`` wraps it in its ConnectionError."""


def _refuse_private(sock: socket.socket) -> socket.socket:
    """Looks at where the connection really goes, so that no name can change its mind between a check and its use."""
    address = ipaddress.ip_address(sock.getpeername()[0].partition("%")[0])
    mapped = getattr(address, "ipv4_mapped", None) or address
    if not (mapped.is_global and not mapped.is_multicast) and not settings.SSO_PRIVATE_ISSUERS:
        sock.close()
        raise AddressRefused("The identity provider's address is not a public one.")
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
    """Time limits on every request, no proxy and no credentials from the environment, no redirects, bounded answers."""

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
        response = super().request(method, url, **kwargs)
        body = response.raw.read(MAX_ANSWER_BYTES + 1, decode_content=True)
        response.close()
        if len(body) > MAX_ANSWER_BYTES:
            raise requests.exceptions.ContentDecodingError("The identity provider's answer is too long.")
        response._content = body
        return response
