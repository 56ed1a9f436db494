"""What an API key, a client or a person opens; keys' as gateways keep them at hand, in Redis for a short while.

Only what opens something is kept; what was refused is looked up anew each time, which the door bounds per address.
When a key changes, its entry is replaced by a mark that it was forgotten. Whoever had read the old row a moment before
writes only where nothing lies, so what is forgotten stays forgotten.
"""

import hmac
import time
from typing import Any, Literal

import msgspec

from tenants.keys.networks import is_allowed
from tenants.keys.refusals import AddressRefused, KeyExpired, ScopeMissing
from tenants.limits.allowance import Allowance, Party

Kind = Literal["key", "client", "person"]
"""Whose it is: an API key's, an OAuth client's, or that of a person who is signed in."""

FORGOTTEN_S = 10
"""How long the mark stays: longer than any read of a row that began before the change."""
FORGOTTEN = b""


class Credential(msgspec.Struct, frozen=True, kw_only=True):
    """``id`` is ``key_…``, the client id of an OAuth client, or ``person_`` and a primary key. ``tenant`` is the schema
    name; ``agent`` the slug of the default agent or empty; ``expires_at`` Unix time in seconds. ``secret_hash`` is
    SHA-256 in hex, empty where there is none."""

    kind: Kind
    id: str
    name: str
    tenant: str
    scopes: frozenset[str]
    allowance: Allowance
    agent: str = ""
    networks: tuple[str, ...] = ()
    expires_at: float | None = None
    secret_hash: str = ""

    def party(self, end_user: str = "", limits: dict[str, int] | None = None) -> Party:
        """Whose counters its use counts in; ``limits`` are the end user's own."""
        allowance = msgspec.structs.replace(self.allowance, end_user=limits) if limits else self.allowance
        return Party(tenant=self.tenant, key_id=self.id, end_user=end_user, allowance=allowance)

    def require(self, scope: str | None, address: str) -> None:
        """Raises KeyExpired, AddressRefused or ScopeMissing."""
        if self.expires_at is not None and self.expires_at <= time.time():
            raise KeyExpired
        if not is_allowed(address, self.networks):
            raise AddressRefused(address)
        if scope is not None and scope not in self.scopes:
            raise ScopeMissing(scope, self.kind)


def id_of_person(primary_key: int) -> str:
    """A person's ``id``."""
    return f"person_{primary_key}"


def person_of(person_id: str) -> int:
    """And back."""
    return int(person_id.removeprefix("person_"))


encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Credential).decode


def credential_key(secret_hash: str) -> str:
    """Looked up before the tenant is known, so no tenant is in its name."""
    return f"avb:key:{secret_hash}"


def decode(kept: bytes | None, secret_hash: str) -> Credential | None:
    """What lies in Redis, if it is this secret's; None where it must be looked up."""
    if not kept:
        return None
    try:
        credential = _decode(kept)
    except msgspec.MsgspecError:
        return None  # another version of this program wrote it
    return credential if hmac.compare_digest(credential.secret_hash, secret_hash) else None


async def recall(redis: Any, secret_hash: str) -> Credential | None:
    """Raises RedisError."""
    return decode(await redis.get(credential_key(secret_hash)), secret_hash)


async def keep(redis: Any, credential: Credential, ttl_s: int) -> None:
    """For at most ``ttl_s``, and never over a mark. Raises RedisError."""
    if credential.expires_at is not None:
        ttl_s = min(ttl_s, int(credential.expires_at - time.time()) + 1)
    if ttl_s > 0:
        await redis.set(credential_key(credential.secret_hash), encode(credential), ex=ttl_s, nx=True)
