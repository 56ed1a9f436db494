"""A safety net: whoever records an act leaves secrets out; what slips through is taken out here."""

import re
from itertools import pairwise
from typing import Any

MASK = "•••"
NAMES = {
    "secret", "secrets", "password", "passwords", "passwd", "passphrase", "token", "authorization", "cookie",
    "credential", "credentials", "otp", "pin", "apikey",
}  # fmt: skip
PAIRS = {
    ("private", "key"), ("api", "key"), ("master", "key"), ("data", "key"), ("signing", "key"),
    ("recovery", "code"), ("recovery", "codes"),
}  # fmt: skip
WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")
SECRETS = re.compile(
    r"avb_[a-z]+_[A-Za-z0-9]{20,}"
    r"|\b(?:sk|rk|pk|whsec)_[A-Za-z0-9_]{16,}"
    r"|-----BEGIN [A-Z ]*PRIVATE KEY-----[\s\S]*"
    r"|\beyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]+"
)
"""Keys of ours, Stripe's and OpenAI's, private keys, signed tokens."""


def is_secret(name: str) -> bool:
    """Whether what has this name is a secret: ``secret_hash`` and ``apiKey`` are, ``tokens_per_minute`` and ``key_id``
    are not. What says only that there is one, or when (``password_changed_at``), is masked too."""
    words = [word.lower() for word in WORDS.findall(name)]
    return not NAMES.isdisjoint(words) or any(pair in PAIRS for pair in pairwise(words))


def mask(value: Any) -> Any:
    """JSON values without what is secret by its name or by its look; whether there was something stays to be seen."""
    if isinstance(value, dict):
        return {
            name: MASK if is_secret(name) and entry not in (None, "") else mask(entry) for name, entry in value.items()
        }
    if isinstance(value, list):
        return [mask(entry) for entry in value]
    if isinstance(value, str):
        return SECRETS.sub(MASK, value)
    return value
