"""TCP ports on loopback."""

import socket
from contextlib import closing

LOOPBACK = "127.0.0.1"


def find_free_port() -> int:
    """A port nobody listens on now. Somebody else may take it before you do: be ready to ask again."""
    with closing(socket.socket()) as probe:
        probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])


def is_free(port: int, host: str = LOOPBACK) -> bool:
    """Whether a server could listen there now."""
    with closing(socket.socket()) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
        return True


def keep_or_find(port: int | None) -> int:
    """The remembered port while it is free, else a new one."""
    return port if port and is_free(port) else find_free_port()
