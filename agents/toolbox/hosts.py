"""Where a credential may be sent: hosts with their ports, as ``api.example.com``, ``api.example.com:8443``,
``[2001:db8::1]`` or ``*.example.com``, which is one level below. Without a port it is 443, that of https://.

An OAuth credential's ``token_url`` is where its secret is for, and no matter of these.
"""

import re
from collections.abc import Sequence
from typing import Any

from agents.toolbox.errors import ToolboxInvalid
from agents.tools.http import origin_of

MOST = 32
HOST_CHARACTERS = 260
HOST = re.compile(r"(?:(\*)\.)?((?:[A-Za-z0-9_-]+\.)*[A-Za-z0-9_-]+|\[[0-9A-Fa-f:.]+\])(?::([0-9]{1,5}))?")
PORT = 443

Place = tuple[bool, str, int]
"""Whether it is what lies one level below, the name in small letters, the port."""


def check_hosts(hosts: Any) -> None:
    """Raises ToolboxInvalid."""
    if not isinstance(hosts, list) or len(hosts) > MOST:
        raise ToolboxInvalid({"hosts": f"This is a list of at most {MOST} hosts."})
    for number, host in enumerate(hosts):
        if not isinstance(host, str) or len(host) > HOST_CHARACTERS or not _is_host(host):
            words = "This is no host, such as api.example.com, api.example.com:8443 or *.example.com."
            raise ToolboxInvalid({f"hosts[{number}]": words})


def is_inside(hosts: Sequence[str], url: str) -> bool:
    """Whether what is asked at ``url``, which has been checked, lies on one of ``hosts``; no hosts are all of them."""
    if not hosts:
        return True
    name, _, port = origin_of(url).partition("://")[2].rpartition(":")
    place = (False, name.lower(), int(port))
    return any(_covers(_place(host), place) for host in hosts)


def is_narrower(hosts: Sequence[str], than: Sequence[str]) -> bool:
    """Whether ``hosts`` lead nowhere that ``than`` does not lead; both have been checked."""
    if not than:
        return True
    wide = [_place(host) for host in than]
    return bool(hosts) and all(any(_covers(each, _place(host)) for each in wide) for host in hosts)


def _covers(wide: Place, place: Place) -> bool:
    if wide == place:
        return True
    below, name, port = wide
    return below and not place[0] and place[2] == port and place[1].partition(".")[2] == name


def _is_host(host: str) -> bool:
    read = HOST.fullmatch(host)
    if read is None or not 0 < int(read[3] or PORT) < 65_536:
        return False
    # All that lies below one word, such as *.com, is nobody's; an address has nothing below it.
    return read[1] is None or ("." in read[2] and not re.fullmatch(r"[0-9.]+", read[2]))


def _place(host: str) -> Place:
    """Of a host that has been checked."""
    below, name, port = HOST.fullmatch(host).groups()  # type: ignore[union-attr]
    return below is not None, name.strip("[]").lower(), int(port or PORT)
