"""Where the platform's own pages are on a developer's machine. No Django here: the command line asks too."""

from urllib.parse import urlsplit

PLATFORM_HOST = "platform.localhost"
"""Every browser takes it to the machine itself, and no tenant has it; the demo tenant has ``localhost`` and the
loopback addresses."""
LOOPBACK_HOSTS = {"localhost", "127.0.0.1", "::1"}


def platform_address(base_url: str) -> str:
    """Scheme, host and port for operators, for somebody who is at ``base_url``."""
    parts = urlsplit(base_url)
    host = parts.hostname or ""
    if host not in LOOPBACK_HOSTS and not host.endswith(".localhost"):
        return base_url.rstrip("/")
    return f"{parts.scheme}://{PLATFORM_HOST}" + (f":{parts.port}" if parts.port else "")
