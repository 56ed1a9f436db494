"""What each kind of provider needs to be asked."""

import re
from collections.abc import Mapping
from urllib.parse import urlsplit

from django.core.exceptions import ValidationError
from django.db.models import TextChoices


class Kind(TextChoices):
    OPENAI = "openai", "OpenAI"
    GROQ = "groq", "Groq"
    OLLAMA = "ollama", "Ollama"
    OPENAI_COMPATIBLE = "openai_compatible", "OpenAI-compatible"
    ANTHROPIC = "anthropic", "Anthropic"
    BEDROCK = "bedrock", "Amazon Bedrock"


KEY_PAIR = ("access_key_id", "secret_access_key")
CREDENTIALS = {
    Kind.OPENAI: ("api_key",),
    Kind.GROQ: ("api_key",),
    Kind.OLLAMA: ("api_key",),
    Kind.OPENAI_COMPATIBLE: ("api_key",),
    Kind.ANTHROPIC: ("api_key",),
    Kind.BEDROCK: ("region", *KEY_PAIR, "session_token", "api_key"),
}
NAMES = tuple(dict.fromkeys(name for names in CREDENTIALS.values() for name in names))
ANYWHERE = (Kind.OLLAMA, Kind.OPENAI_COMPATIBLE)
"""These have no address of their own, and may want no key."""
CREDENTIAL_CHARACTERS = 4_096
REGION = re.compile(r"[a-z]{2}(?:-[a-z]+)+-\d")


def check_base_url(value: str) -> None:
    """Raises ValidationError. Whether it may be asked is seen when it is (``agents.egress``)."""
    words = "An address looks like https://llm.example.com/v1, without user, query and fragment."
    try:
        parts = urlsplit(value)
        port = parts.port
    except ValueError as error:
        raise ValidationError(words) from error
    odd = parts.username is not None or parts.query or parts.fragment or port == 0
    if parts.scheme not in ("http", "https") or not parts.hostname or odd or not value.isprintable() or " " in value:
        raise ValidationError(words)


def find_fault(kind: str, base_url: str, credentials: Mapping[str, str]) -> tuple[str, str] | None:
    """The field at fault and what is wrong with it; None where such a provider can be asked."""
    if kind in ANYWHERE and not base_url:
        return "base_url", f"A provider of kind {kind} needs its address, such as https://llm.example.com/v1."
    known = CREDENTIALS[Kind(kind)]
    for name, value in credentials.items():
        if name not in known:
            return "credentials", f"A provider of kind {kind} has no credential {name!r}; there are {', '.join(known)}."
        if not (value.isascii() and value.isprintable() and len(value) <= CREDENTIAL_CHARACTERS):
            return "credentials", f"{name} has at most {CREDENTIAL_CHARACTERS} printable ASCII characters."
    if kind == Kind.BEDROCK:
        return _find_aws_fault(credentials)
    if kind not in ANYWHERE and "api_key" not in credentials:
        return "credentials", f"A provider of kind {kind} needs an api_key."
    return None


def _find_aws_fault(credentials: Mapping[str, str]) -> tuple[str, str] | None:
    if not REGION.fullmatch(credentials.get("region", "")):
        return "credentials", "A provider of kind bedrock needs its region, such as eu-central-1."
    pair = [name for name in KEY_PAIR if name in credentials]
    if len(pair) == 1 or ("session_token" in credentials and not pair):
        return (
            "credentials",
            "access_key_id and secret_access_key go together; a session_token only with them.",
        )
    if not pair and "api_key" not in credentials:
        return "credentials", "A provider of kind bedrock needs access_key_id and secret_access_key, or an api_key."
    return None
