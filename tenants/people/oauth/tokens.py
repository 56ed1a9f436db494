"""Access tokens of OAuth clients: made here, and turned back into a principal at every door."""

import secrets
import time
from collections.abc import Iterable
from typing import Any

import jwt
from django.conf import settings

from tenants.keys.queries import require_active
from tenants.keys.refusals import KeyExpired, KeyRefused, KeyRevoked
from tenants.models import OAuthClient
from tenants.people.oauth.signing import ALGORITHM, find_public_key, signing_key
from tenants.principal import Principal

TYPE = "at+jwt"
"""RFC 9068: nothing else that this key may come to sign passes for an access token."""
MAX_CHARACTERS = 4096


class InvalidToken(KeyRefused):
    """No such token."""

    code = "invalid_token"
    message = "The access token is not valid."


class TokenExpired(KeyExpired):
    code = "token_expired"
    message = "The access token has expired; fetch a new one at /oauth/token."


class ClientRevoked(KeyRevoked):
    code = "oauth_client_revoked"
    message = "The OAuth client was revoked."


def looks_like_token(bearer: bytes | str) -> bool:
    """Whether it is for ``find_client_principal`` to judge; API keys are not."""
    prefix, dot = (b"ey", b".") if isinstance(bearer, bytes) else ("ey", ".")
    return bearer.startswith(prefix) and bearer.count(dot) == 2 and bearer.isascii()


def issue_token(client: OAuthClient, scopes: Iterable[str]) -> str:
    """Signed, good for ``AVB_OAUTH_TOKEN_S``."""
    kid, private_key = signing_key()
    now = int(time.time())
    claims = {
        "iss": settings.OAUTH_ISSUER, "aud": settings.OAUTH_ISSUER, "sub": client.client_id,
        "client_id": client.client_id, "scope": " ".join(sorted(scopes)), "iat": now,
        "exp": now + settings.OAUTH_TOKEN_S, "jti": secrets.token_urlsafe(16),
    }  # fmt: skip
    return jwt.encode(claims, private_key, algorithm=ALGORITHM, headers={"kid": kid, "typ": TYPE})


def find_client_principal(token: str, address: str = "") -> Principal:
    """Who acts with this access token, from this IP address: its client, with the token's scopes that the client
    still holds.

    Two queries of the shared schema; never on the event loop of a live call. Raises KeyRefused: InvalidToken,
    TokenExpired, ClientRevoked or TenantSuspended.
    """
    claims = _read(token)
    client = find_usable_client(str(claims["client_id"]))
    if claims["sub"] != client.client_id:
        raise InvalidToken
    scopes = frozenset(str(claims["scope"]).split()) & frozenset(client.scopes)
    return Principal("client", client.client_id, client.name, client.tenant.schema_name, scopes, address)


def find_usable_client(client_id: str) -> OAuthClient:
    """Its tenant and plan loaded. Raises KeyRefused: InvalidToken, ClientRevoked or TenantSuspended."""
    client = OAuthClient.objects.select_related("tenant__plan").filter(client_id=client_id).first()
    if client is None:
        raise InvalidToken
    if client.revoked_at:
        raise ClientRevoked
    require_active(client.tenant)
    return client


def _read(token: str) -> dict[str, Any]:
    if len(token) > MAX_CHARACTERS or not looks_like_token(token):
        raise InvalidToken
    try:
        header = jwt.get_unverified_header(token)
        kid = header.get("kid")
        named = isinstance(kid, str) and kid.isprintable() and header.get("typ") == TYPE
        public_key = find_public_key(kid) if named else None
        if public_key is None:
            raise InvalidToken
        return jwt.decode(
            token, public_key, algorithms=[ALGORITHM], audience=settings.OAUTH_ISSUER, issuer=settings.OAUTH_ISSUER,
            options={"require": ["exp", "iat", "sub", "client_id", "scope"]},
        )  # fmt: skip
    except jwt.ExpiredSignatureError as error:
        raise TokenExpired from error
    except (jwt.PyJWTError, ValueError) as error:
        raise InvalidToken from error
