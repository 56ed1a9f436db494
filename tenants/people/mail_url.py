"""Where mail goes, as one address in the environment. No Django here: the settings read it."""

from typing import Any
from urllib.parse import unquote, urlsplit

from environs import ValidationError

BACKENDS = "django.core.mail.backends"
PORTS = {"smtp": 25, "smtps": 465, "smtp+tls": 587}
EXPECTED = (
    "use smtp://, smtp+tls:// (STARTTLS) or smtps:// with [user:password@]host[:port], file:///folder, or console:"
)


def read_mail_url(url: str, timeout_s: float) -> dict[str, Any]:
    """Django's e-mail settings. Raises ValidationError; its message does not hold the address, which may have a
    password."""
    parts = urlsplit(url)
    try:
        port = parts.port
    except ValueError as error:
        raise ValidationError(f"a port is a number; {EXPECTED}") from error
    if parts.query or parts.fragment:
        raise ValidationError(f"an e-mail address of a server has no parameters; {EXPECTED}")
    if parts.scheme == "console":
        return {"EMAIL_BACKEND": f"{BACKENDS}.console.EmailBackend"}
    if parts.scheme == "file" and parts.path:
        return {"EMAIL_BACKEND": f"{BACKENDS}.filebased.EmailBackend", "EMAIL_FILE_PATH": unquote(parts.path)}
    if parts.scheme not in PORTS or not parts.hostname:
        raise ValidationError(f"mail cannot be sent that way; {EXPECTED}")
    return {
        "EMAIL_BACKEND": f"{BACKENDS}.smtp.EmailBackend",
        "EMAIL_HOST": parts.hostname,
        "EMAIL_PORT": port or PORTS[parts.scheme],
        "EMAIL_HOST_USER": unquote(parts.username or ""),
        "EMAIL_HOST_PASSWORD": unquote(parts.password or ""),
        "EMAIL_USE_TLS": parts.scheme == "smtp+tls",
        "EMAIL_USE_SSL": parts.scheme == "smtps",
        "EMAIL_TIMEOUT": timeout_s,
    }
