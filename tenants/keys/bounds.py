"""What a key is bound to (networks, lower limits, an end) it does not get rid of by another key: it neither makes nor
changes one that is freer than itself."""

import ipaddress
from collections.abc import Mapping
from typing import Any

from tenants.errors import TenancyError
from tenants.keys import networks
from tenants.models import ApiKey
from tenants.principal import acting

BOUNDS = ("allowed_networks", "limits", "expires_at")


class KeyBound(TenancyError):
    """The key that acts is bound more tightly than what it would make."""

    code = "key_bound"


def require_bounds(fields: Mapping[str, Any]) -> None:
    """``fields``: those of ``BOUNDS`` as a key would have them. Raises KeyBound."""
    own = _acting_key()
    if own is None:
        return
    if own.allowed_networks and not _is_within(fields["allowed_networks"], own.allowed_networks):
        words = f"The key that you use is bound to {', '.join(own.allowed_networks)}, so others need networks in these."
        raise KeyBound(words, "allowed_networks")
    for name, limit in own.limits.items():
        if name not in fields["limits"] or fields["limits"][name] > limit:
            raise KeyBound(f"The key that you use has {name} {limit}, so others need that or a lower one.", "limits")
    if own.expires_at and (fields["expires_at"] is None or fields["expires_at"] > own.expires_at):
        end = own.expires_at.isoformat()
        raise KeyBound(f"The key that you use ends at {end}, so others end then at the latest.", "expires_at")


def require_unbound() -> None:
    """For what has no such bounds itself. Raises KeyBound."""
    own = _acting_key()
    if own is not None and (own.allowed_networks or own.limits or own.expires_at):
        raise KeyBound(
            "The key that you use has networks, limits or an end of its own; an OAuth client has none.", "scopes"
        )


def _acting_key() -> ApiKey | None:
    principal = acting()
    return ApiKey.objects.get(public_id=principal.id) if principal.kind == "key" else None


def _is_within(inner: list[str], outer: list[str]) -> bool:
    """Every network lies in one of the outer ones; no networks are all addresses."""
    allowed = [networks.read_network(network) for network in outer]
    return bool(inner) and all(
        any(_is_part(networks.read_network(one), network) for network in allowed) for one in inner
    )


def _is_part(one: networks.Network, network: networks.Network) -> bool:
    if isinstance(one, ipaddress.IPv4Network):
        return isinstance(network, ipaddress.IPv4Network) and one.subnet_of(network)
    return isinstance(network, ipaddress.IPv6Network) and one.subnet_of(network)
