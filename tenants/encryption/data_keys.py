"""The data keys of tenants as this process holds them: unwrapped, in memory, a bounded number for a bounded time."""

import threading
import time
from collections import OrderedDict
from dataclasses import dataclass, field
from hashlib import sha256

from django.conf import settings
from django.db import connection
from prometheus_client import Counter

from tenants.encryption import accounting
from tenants.encryption.errors import EncryptionError, WrongKey
from tenants.encryption.keyring import current_master_key, master_key_of
from tenants.encryption.master import new_key
from tenants.encryption.models import KeyState

FINGERPRINT_BYTES = 4

UNWRAPS = Counter("agentvoicebox_data_key_unwraps_total", "Data keys opened by a master key", ["outcome"])

FIND = """
SELECT version, wrapped, master_key_id, made_in = pg_current_xact_id_if_assigned()::text::bigint
FROM public.encryption_datakey WHERE tenant = %s AND {which}
"""
# Whoever comes second waits for the first one's transaction, and then finds its key.
MAKE = """
INSERT INTO public.encryption_datakey (tenant, version, wrapped, master_key_id, state, created_at, made_in)
VALUES (%s, %s, %s, %s, %s, now(), pg_current_xact_id()::text::bigint) ON CONFLICT DO NOTHING
"""


@dataclass(frozen=True, slots=True)
class OpenKey:
    version: int
    key: bytes = field(repr=False)

    @property
    def fingerprint(self) -> bytes:
        """Tells this key from another tenant's of the same version."""
        return sha256(b"avb data key" + self.key).digest()[:FINGERPRINT_BYTES]


class KeyCache:
    """Least recently used out; nothing is kept for longer than ``settings.DATA_KEY_CACHE_S``.

    Under ``None`` instead of a version: the tenant's active key.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: OrderedDict[tuple[str, int | None], tuple[float, OpenKey]] = OrderedDict()

    def find(self, tenant: str, version: int | None) -> OpenKey | None:
        with self._lock:
            kept = self._kept.get((tenant, version))
            if kept is None:
                return None
            if kept[0] <= time.monotonic():
                del self._kept[tenant, version]
                return None
            self._kept.move_to_end((tenant, version))
            return kept[1]

    def keep(self, tenant: str, version: int | None, key: OpenKey) -> None:
        with self._lock:
            self._kept[tenant, version] = (time.monotonic() + settings.DATA_KEY_CACHE_S, key)
            self._kept.move_to_end((tenant, version))
            while len(self._kept) > settings.DATA_KEY_CACHE_KEYS:
                self._kept.popitem(last=False)

    def forget(self, tenant: str) -> None:
        with self._lock:
            for identity in [identity for identity in self._kept if identity[0] == tenant]:
                del self._kept[identity]

    def clear(self) -> None:
        with self._lock:
            self._kept.clear()

    def __len__(self) -> int:
        return len(self._kept)


cache = KeyCache()


def active_key(tenant: str) -> OpenKey:
    """What seals now; made when the tenant has none. Raises EncryptionError."""
    if kept := cache.find(tenant, None):
        return kept
    found = _load(tenant, None)
    if found is None:
        make_key(tenant, 1)
        found = _load(tenant, None)
    if found is None:
        raise WrongKey(f"All data keys of {tenant} are retired; make a new one: ./avb encryption rotate-data {tenant}")
    return found


def key_of_version(tenant: str, version: int) -> OpenKey:
    """Raises WrongKey when the tenant has no such key, and what unwrapping raises."""
    found = cache.find(tenant, version) or _load(tenant, version)
    if found is None:
        raise WrongKey(f"{tenant} has no data key of version {version}, which this was sealed by.")
    return found


def make_key(tenant: str, version: int) -> None:
    """A new active key; nothing when another transaction was faster."""
    wrapped, master_key_id = current_master_key().wrap(new_key(), wrapping_context(tenant, version))
    with connection.cursor() as cursor:
        cursor.execute(MAKE, [tenant, version, wrapped, master_key_id, KeyState.ACTIVE])


def wrapping_context(tenant: str, version: int) -> bytes:
    """What a wrapped key is bound to: no other tenant's row opens with it."""
    return b"\0".join((b"avb data key", tenant.encode(), str(version).encode()))


def _load(tenant: str, version: int | None) -> OpenKey | None:
    which, values = ("state = %s", [KeyState.ACTIVE]) if version is None else ("version = %s", [version])
    with connection.cursor() as cursor:
        cursor.execute(FIND.format(which=which), [tenant, *values])
        row = cursor.fetchone()
    if row is None:
        return None
    number, wrapped, master_key_id, is_uncertain = row
    opened = OpenKey(number, _unwrap(tenant, number, bytes(wrapped), master_key_id))
    if not is_uncertain:
        # A key of this very transaction may be rolled back: kept, it would seal what nobody can open.
        cache.keep(tenant, number, opened)
        if version is None:
            cache.keep(tenant, None, opened)
    return opened


def _unwrap(tenant: str, version: int, wrapped: bytes, master_key_id: str) -> bytes:
    try:
        key = master_key_of(master_key_id).unwrap(wrapped, wrapping_context(tenant, version))
    except EncryptionError as error:
        UNWRAPS.labels(error.reason).inc()
        accounting.count_refusal(tenant, version, error)
        raise
    UNWRAPS.labels("opened").inc()
    accounting.count_unwrap(tenant, version)
    return key
