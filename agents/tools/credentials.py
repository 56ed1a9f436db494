"""How an HTTP tool or an MCP server proves on whose behalf it asks: one frozen value per kind, and ``Tokens``, which
puts it on requests.

1. A secret is put on a request after everything that is shown of it has been written down.
2. A request that carries one follows no redirect: the secret was given for one place.
3. A token is fetched once for however many calls wait for it, kept until shortly before it ends, and fetched anew once
   when it is answered with 401.
"""

import asyncio
import hashlib
import json
import re
import time
import uuid
from base64 import b64encode
from collections import OrderedDict
from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal
from urllib.parse import quote, quote_plus, urlsplit

import httpx2
import jwt
import msgspec

TOKEN_S = 300.0
"""How long a token is kept whose end its issuer does not tell."""
LONGEST_TOKEN_S = 86_400.0
MARGIN_S = 30.0
"""So long before its end a token is fetched anew."""
FETCH_S = 10.0
KEPT_TOKENS = 1_000
TOKEN_ANSWER_BYTES = 64 * 1024
TOKEN = re.compile(r"[\x21-\x7e]{1,16384}")
FAULT = re.compile(r"[A-Za-z0-9_.:/-]{1,80}")


NOTHING = httpx2.Auth()
"""Leaves a request as it is, whatever its client does to others."""


class CredentialFailed(Exception):
    """There is no token or signature; the message names the credential and holds no secret. ``healthy``: the other side
    answered, so it is not down."""

    def __init__(self, message: str, *, healthy: bool = True) -> None:
        super().__init__(message)
        self.message = message
        self.healthy = healthy


@dataclass(frozen=True, slots=True)
class ApiKey:
    """``prefix`` and ``value`` in the header or the query parameter ``parameter``."""

    name: str
    parameter: str
    value: str = field(repr=False)
    place: Literal["header", "query"] = "header"
    prefix: str = ""


@dataclass(frozen=True, slots=True)
class BearerToken:
    name: str
    token: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class BasicLogin:
    name: str
    username: str
    password: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class ClientCredentials:
    """OAuth 2.0 client credentials; ``authentication`` is how the client names itself at ``token_url``."""

    name: str
    token_url: str
    client_id: str
    client_secret: str = field(repr=False)
    scope: str = ""
    audience: str = ""
    authentication: Literal["basic", "body"] = "basic"


@dataclass(frozen=True, slots=True)
class SignedToken:
    """A JWT signed for each call. ``key`` is text for HS256 and a private key in PEM for the others."""

    name: str
    algorithm: Literal["HS256", "RS256", "ES256"]
    key: str = field(repr=False)
    issuer: str = ""
    subject: str = ""
    audience: str = ""
    key_id: str = ""
    lifetime_s: int = 300
    claims: Mapping[str, Any] = field(default_factory=dict)


Credential = ApiKey | BearerToken | BasicLogin | ClientCredentials | SignedToken


class Tokens:
    """The access tokens of one process, in its memory only. ``clock`` in seconds, monotonic."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._kept: OrderedDict[str, tuple[str, float]] = OrderedDict()
        self._fetching: dict[str, asyncio.Task[str]] = {}

    def auth(
        self, credential: Credential | None, client: httpx2.AsyncClient, *, tenant: str
    ) -> "CredentialAuth | None":
        """For ``auth=`` of one request or of a client, whose requests are then to one server. ``client`` fetches the
        tokens, so it must be a guarded one."""
        return None if credential is None else CredentialAuth(credential, self, client, tenant)

    async def token(self, credential: ClientCredentials, client: httpx2.AsyncClient, *, tenant: str) -> str:
        """Raises CredentialFailed."""
        key = _identity(credential, tenant)
        token, ends_at = self._kept.get(key, ("", 0.0))
        if token and self._clock() < ends_at:
            self._kept.move_to_end(key)
            return token
        task = self._fetching.get(key)
        if task is None:
            task = asyncio.create_task(self._fetch(key, credential, client), name=f"token of {credential.name}")
            self._fetching[key] = task
            task.add_done_callback(lambda _: self._fetching.pop(key, None))
            task.add_done_callback(_note_failure)
        # Whoever asked first may hang up: the others, and the next, want the token all the same.
        return await asyncio.shield(task)

    def forget(self, credential: ClientCredentials, token: str, *, tenant: str) -> None:
        """The token was refused. A newer one stays."""
        key = _identity(credential, tenant)
        if self._kept.get(key, ("", 0.0))[0] == token:
            del self._kept[key]

    async def _fetch(self, key: str, credential: ClientCredentials, client: httpx2.AsyncClient) -> str:
        began = self._clock()
        token, lifetime_s = await fetch_token(credential, client)
        self._kept[key] = (token, began + lifetime_s - min(MARGIN_S, lifetime_s / 2))
        while len(self._kept) > KEPT_TOKENS:
            self._kept.popitem(last=False)
        return token


class CredentialAuth(httpx2.Auth):
    """Puts a credential on requests. ``used`` holds every secret text that went out by it, for whoever must take them
    out of what came back. Raises CredentialFailed in the place of the request."""

    def __init__(self, credential: Credential, tokens: Tokens, client: httpx2.AsyncClient, tenant: str) -> None:
        self._credential, self._tokens, self._client, self._tenant = credential, tokens, client, tenant
        self.used: set[str] = set()

    async def async_auth_flow(self, request: httpx2.Request) -> AsyncGenerator[httpx2.Request, httpx2.Response]:
        token = await self._prove(request)
        response = yield request
        if response.status_code == 401 and isinstance(self._credential, ClientCredentials):
            self._tokens.forget(self._credential, token, tenant=self._tenant)
            if await self._prove(request) != token:
                yield request

    async def _prove(self, request: httpx2.Request) -> str:
        """The secret that was put on the request."""
        credential = self._credential
        match credential:
            case ApiKey(place="query"):
                secret = credential.prefix + credential.value
                request.url = request.url.copy_set_param(credential.parameter, secret)
                # Whoever repeats an address repeats it percent-encoded.
                self.used |= {credential.value, quote(secret, safe=""), quote_plus(secret)}
            case ApiKey():
                secret = credential.prefix + credential.value
                request.headers[credential.parameter] = secret
                self.used.add(credential.value)
            case BasicLogin():
                secret = _basic(credential.username, credential.password)
                request.headers["Authorization"] = f"Basic {secret}"
                self.used.add(credential.password)
            case BearerToken():
                secret = credential.token
                request.headers["Authorization"] = f"Bearer {secret}"
            case SignedToken():
                # An RSA signature, and reading its key, takes longer than a call's loop may wait.
                secret = await asyncio.to_thread(sign_token, credential)
                request.headers["Authorization"] = f"Bearer {secret}"
            case ClientCredentials():
                secret = await self._tokens.token(credential, self._client, tenant=self._tenant)
                request.headers["Authorization"] = f"Bearer {secret}"
                self.used.add(credential.client_secret)
        self.used.add(secret)
        return secret


async def fetch_token(credential: ClientCredentials, client: httpx2.AsyncClient) -> tuple[str, float]:
    """A new access token and the seconds that it is good for. Raises CredentialFailed."""
    asked = {"grant_type": "client_credentials", "scope": credential.scope, "audience": credential.audience}
    headers = {"Accept": "application/json"}
    if credential.authentication == "basic":
        # RFC 6749 2.3.1: both are form-encoded before they are put together.
        login = _basic(quote_plus(credential.client_id), quote_plus(credential.client_secret))
        headers["Authorization"] = f"Basic {login}"
    else:
        asked |= {"client_id": credential.client_id, "client_secret": credential.client_secret}
    form = {name: value for name, value in asked.items() if value}
    host = urlsplit(credential.token_url).hostname
    failed = f"The credential {credential.name!r} got no token: {host}"
    try:
        async with asyncio.timeout(FETCH_S):
            response = await client.post(
                credential.token_url, data=form, headers=headers, auth=NOTHING, follow_redirects=False
            )
    except TimeoutError as error:
        raise CredentialFailed(f"{failed} did not answer within {FETCH_S:.0f} s.", healthy=False) from error
    except httpx2.HTTPError as error:
        raise CredentialFailed(f"{failed} cannot be asked ({type(error).__name__}).", healthy=False) from error
    return _read_token(response, failed)


def sign_token(credential: SignedToken) -> str:
    """A JWT that begins now. Raises CredentialFailed."""
    now = int(time.time())
    own = {"iss": credential.issuer, "sub": credential.subject, "aud": credential.audience}
    claims = {
        **credential.claims,
        **{name: value for name, value in own.items() if value},
        "iat": now,
        "exp": now + credential.lifetime_s,
        "jti": str(uuid.uuid4()),
    }
    headers = {"kid": credential.key_id} if credential.key_id else None
    try:
        return jwt.encode(claims, credential.key, credential.algorithm, headers)
    except (jwt.PyJWTError, ValueError, TypeError) as error:
        words = f"The credential {credential.name!r} cannot sign: its key is none for {credential.algorithm}."
        raise CredentialFailed(words) from error


def redact(text: str, secrets: set[str]) -> str:
    """The text without what some servers repeat of a request."""
    written = secrets | {json.dumps(secret)[1:-1] for secret in secrets}
    for secret in sorted(written, key=len, reverse=True):
        if len(secret) >= SHORTEST_REDACTED:
            text = text.replace(secret, "•••")
    return text


SHORTEST_REDACTED = 4
"""Taking out shorter ones would tell what they are by where they are missing."""


def _read_token(response: httpx2.Response, failed: str) -> tuple[str, float]:
    try:
        answer = msgspec.json.decode(response.content[:TOKEN_ANSWER_BYTES])
    except (msgspec.DecodeError, RecursionError):
        answer = None
    answer = answer if isinstance(answer, dict) else {}
    if response.status_code != 200:
        fault = answer.get("error")
        why = f" ({fault})" if isinstance(fault, str) and FAULT.fullmatch(fault) else ""
        raise CredentialFailed(f"{failed} answered {response.status_code}{why}.", healthy=response.status_code < 500)
    token, kind, lifetime = answer.get("access_token"), answer.get("token_type", "bearer"), answer.get("expires_in")
    if not isinstance(token, str) or not TOKEN.fullmatch(token):
        raise CredentialFailed(f"{failed} answered without a usable access_token.")
    if not isinstance(kind, str) or kind.lower() != "bearer":
        raise CredentialFailed(f"{failed} gives tokens of another type than Bearer.")
    try:
        lifetime_s = float(lifetime) if lifetime is not None else TOKEN_S
    except (TypeError, ValueError):
        lifetime_s = TOKEN_S
    return token, min(max(lifetime_s, 0.0), LONGEST_TOKEN_S) if lifetime_s == lifetime_s else TOKEN_S


def _identity(credential: ClientCredentials, tenant: str) -> str:
    """Another secret, scope or tenant is another token."""
    parts = (
        tenant, credential.token_url, credential.client_id, credential.client_secret, credential.scope,
        credential.audience, credential.authentication,
    )  # fmt: skip
    return hashlib.sha256(msgspec.json.encode(parts)).hexdigest()


def _basic(username: str, password: str) -> str:
    return b64encode(f"{username}:{password}".encode()).decode()


def _note_failure(task: asyncio.Task[str]) -> None:
    """Whoever waits is told; where nobody waits any more the failure is nobody's."""
    if not task.cancelled():
        task.exception()
