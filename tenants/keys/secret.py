"""How an API key's secret looks, and what is kept of it."""

import hashlib
import secrets
import string
from typing import Literal

PREFIXES = ("avb_live_", "avb_test_")
ALPHABET = string.ascii_letters + string.digits
RANDOM_CHARACTERS = 40
SHOWN_CHARACTERS = 13


def draw_secret(mode: Literal["live", "test"]) -> str:
    """A new secret: 40 letters and digits, 238 bits, behind a prefix that secret scanners can find."""
    return f"avb_{mode}_" + "".join(secrets.choice(ALPHABET) for _ in range(RANDOM_CHARACTERS))


def shown_prefix(secret: str) -> str:
    """What people recognise a key by: too little to guess the rest from."""
    return secret[:SHOWN_CHARACTERS]


def hash_secret(secret: str) -> str:
    """SHA-256, in hex. Secrets are random and long, so a slow password hash would add delay but no safety."""
    return hashlib.sha256(secret.encode()).hexdigest()
