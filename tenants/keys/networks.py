"""IP addresses: which networks a key may be used from, where a request really came from, and which are public."""

import ipaddress
from collections.abc import Iterable
from functools import lru_cache

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
MOST = 100
"""Networks of one key."""
NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
UNICAST = ipaddress.IPv6Network("2000::/3")
"""All of IPv6 that is given out to anybody on the internet; what lies elsewhere is some network's own."""


def read_network(written: str) -> Network:
    """An address or a network, such as 192.0.2.7, 192.0.2.0/24 or 2001:db8::/32. Raises ValueError, which says what is
    wrong."""
    return ipaddress.ip_network(written.strip())


@lru_cache(maxsize=1024)
def _read_networks(written: tuple[str, ...]) -> tuple[Network, ...]:
    return tuple(read_network(network) for network in written)


def is_allowed(address: str, networks: Iterable[str]) -> bool:
    """No networks allow every address; an address that cannot be read is in no network."""
    allowed = _read_networks(tuple(networks))
    if not allowed:
        return True
    read = read_address(address)
    return read is not None and any(read in network for network in allowed)


def read_address(written: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """IPv4 in IPv6's clothes (``::ffff:192.0.2.7``) is IPv4; None where it is no address."""
    try:
        address = ipaddress.ip_address(written.strip().partition("%")[0])
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def is_public(written: str) -> bool:
    """Whether the address is somebody's on the internet, also where it is IPv4 in IPv6's clothes.

    Raises ValueError where it is no address.
    """
    address = ipaddress.ip_address(written.partition("%")[0])
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour or (address.teredo[1] if address.teredo else None)
        if address in NAT64:
            inner = ipaddress.IPv4Address(address.packed[-4:])
        if inner is None and address not in UNICAST:
            return False
        address = inner or address
    return address.is_global and not address.is_multicast


def client_address(peer: str, forwarded_for: str, trusted_proxies: Iterable[str]) -> str:
    """Who is at the other end. ``peer`` is the connection's own address.

    ``X-Forwarded-For`` counts only as far as trusted proxies wrote it: from its end, the first address that is not one
    of theirs. Whatever stands before that anybody could have sent.
    """
    trusted = _read_networks(tuple(trusted_proxies))
    address = read_address(peer)
    if address is None:
        return ""
    for written in reversed(forwarded_for.split(",")) if forwarded_for else ():
        if not any(address in network for network in trusted):
            break
        before = read_address(written)
        if before is None:
            break
        address = before
    return str(address)


def subscriber_of(address: str) -> str:
    """By whom to count: an IPv4 address, and of IPv6 the /64, which one subscriber has all of."""
    read = read_address(address)
    return str(ipaddress.ip_network((read, 64), strict=False)) if isinstance(read, ipaddress.IPv6Address) else address
