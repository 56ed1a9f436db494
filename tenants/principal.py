"""Who acts: what each door makes of a key, a token or a sign-in, and what permissions, limits and the audit ask."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Literal

from tenants.limits.allowance import Allowance


@dataclass(frozen=True, slots=True)
class Principal:
    """``tenant`` is the schema name of the tenant acted in, empty for platform operators and the system itself.

    ``id``: ``key_…`` of an API key, the client id of an OAuth client, the primary key of a person. ``name`` is for
    people to read. ``address`` is the IP address the request came from, empty where there was none. ``allowance`` is
    what limits it, where the door has read that already.
    """

    kind: Literal["key", "client", "person", "operator", "system"]
    id: str
    name: str
    tenant: str = ""
    scopes: frozenset[str] = frozenset()
    address: str = ""
    allowance: Allowance | None = field(default=None, compare=False, repr=False)

    def may(self, scope: str) -> bool:
        return scope in self.scopes


SYSTEM = Principal("system", "system", "AgentVoiceBox")

_acting: ContextVar[Principal] = ContextVar("principal", default=SYSTEM)


@contextmanager
def acting_as(principal: Principal) -> Iterator[None]:
    """For doors: what runs inside is done by this principal, and the audit says so."""
    token = _acting.set(principal)
    try:
        yield
    finally:
        _acting.reset(token)


def act_as(principal: Principal) -> None:
    """The same for the rest of what an ``acting_as`` is around: for doors that learn only inside who it is."""
    _acting.set(principal)


def acting() -> Principal:
    """Who acts here; the system itself where no door said otherwise."""
    return _acting.get()
