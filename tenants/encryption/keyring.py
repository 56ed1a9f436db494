"""The configured master keys: the current one wraps, the previous ones open what they wrapped."""

import time
from functools import cache

from django.conf import settings

from tenants.encryption.errors import MasterKeyMissing
from tenants.encryption.master import MasterKey, open_master_key

REFRESH_S = 30.0


@cache
def _opened(written: str) -> MasterKey:
    return open_master_key(written)


def current_master_key() -> MasterKey:
    """Raises MasterKeyMissing, MasterKeyInvalid, KeySourceUnavailable; what failed is tried again the next time."""
    if not settings.MASTER_KEY:
        raise MasterKeyMissing("Set AVB_MASTER_KEY: without a master key nothing can be sealed or unsealed.")
    return _opened(settings.MASTER_KEY)


def master_key_of(master_key_id: str) -> MasterKey:
    """The configured key that opens what the named one wrapped. Raises MasterKeyMissing and what opening raises."""
    if found := _find(master_key_id):
        return found
    if _refreshes.is_due():
        # A newer key may lie at the same place.
        forget_master_keys()
        if found := _find(master_key_id):
            return found
    raise MasterKeyMissing(
        f"A data key is wrapped by the master key {master_key_id}, which is not configured. Set AVB_MASTER_KEY to it, "
        "or name it in AVB_MASTER_KEY_PREVIOUS beside the new one."
    )


def _find(master_key_id: str) -> MasterKey | None:
    for written in (settings.MASTER_KEY, *settings.MASTER_KEYS_PREVIOUS):
        if written and _opened(written).opens(master_key_id):
            return _opened(written)
    return None


class _Refreshes:
    """How often the sources are read again for a key that is not there."""

    def __init__(self) -> None:
        self._next_at = 0.0

    def is_due(self) -> bool:
        now = time.monotonic()
        if now < self._next_at:
            return False
        self._next_at = now + REFRESH_S
        return True


_refreshes = _Refreshes()


def forget_master_keys() -> None:
    """Read the sources again at the next use."""
    _opened.cache_clear()
