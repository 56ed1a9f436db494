"""What can hold something of a tenant, and how it goes. ``TENANT_ERASERS`` names one class per place.

They run in the order of the setting. An eraser that reads the tenant's schema stands before ``Schema``; ``RedisKeys``
comes last, since whoever still works for the tenant writes there.
"""

from collections.abc import Iterator
from functools import cached_property
from itertools import chain
from typing import Any, Protocol

import redis
from django.conf import settings
from django.db import connection
from django.utils.module_loading import import_string
from django_tenants.utils import schema_exists

from tenants.keys.credential import credential_key
from tenants.models import Tenant

BATCH_KEYS = 500
SECRETS_PAGE = 500


class Eraser(Protocol):
    """One place. Both methods may be called any number of times, and start in the public schema."""

    name: str

    def count(self, tenant: Tenant) -> dict[str, int]:
        """How many of each kind are there now; no entry, or 0, where there is none."""

    def erase(self, tenant: Tenant) -> None:
        """Take everything away. What an earlier call has taken already is no error."""


def erasers() -> list[Eraser]:
    """Those of the setting, in its order."""
    return [import_string(path)() for path in settings.TENANT_ERASERS]


class Schema:
    """The tenant's schema in PostgreSQL, with every table in it."""

    name = "schema"

    def count(self, tenant: Tenant) -> dict[str, int]:
        if not schema_exists(tenant.schema_name):
            return {}
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT tablename FROM pg_tables WHERE schemaname = %s ORDER BY tablename", [tenant.schema_name]
            )
            tables = [name for (name,) in cursor.fetchall()]
            rows = 0
            for table in tables:
                cursor.execute(f"SELECT count(*) FROM {self._quoted(tenant)}.{connection.ops.quote_name(table)}")  # noqa: S608
                rows += cursor.fetchone()[0]
        return {"schemas": 1, "tables": len(tables), "rows": rows}

    def erase(self, tenant: Tenant) -> None:
        with connection.cursor() as cursor:
            cursor.execute(f"DROP SCHEMA IF EXISTS {self._quoted(tenant)} CASCADE")

    def _quoted(self, tenant: Tenant) -> str:
        return str(connection.ops.quote_name(tenant.schema_name))


class RedisKeys:
    """Every key ``avb:{schema}:*``, what lies under the hash of its keys and of their client secrets, and its name in
    each ``avb:*:tenants``.

    Client secrets lie under their hash alone; the sorted sets of live secrets tell which they are, so they go first.
    """

    name = "redis"

    @cached_property
    def _redis(self) -> Any:
        return redis.Redis.from_url(settings.REDIS_URL, socket_timeout=5, socket_connect_timeout=2)

    def count(self, tenant: Tenant) -> dict[str, int]:
        return {
            "keys": len({key for keys in self._batches(f"avb:{tenant.schema_name}:*") for key in keys}),
            "client_secrets": sum(self._redis.exists(*secrets) for secrets in self._secrets(tenant.schema_name)),
            "credentials": sum(self._redis.exists(*keys) for keys in self._credentials(tenant)),
            "memberships": sum(tenant.schema_name in names for _, _, names in self._sets()),
        }

    def erase(self, tenant: Tenant) -> None:
        for keys in self._credentials(tenant):
            self._redis.unlink(*keys)
        self.erase_name(tenant.schema_name)

    def erase_name(self, schema_name: str) -> None:
        """What lies under the name alone: also where there is no tenant of that name any more."""
        for keys in chain(self._secrets(schema_name), self._batches(f"avb:{schema_name}:*")):
            self._redis.unlink(*keys)
        for key, kind, _ in self._sets():
            (self._redis.zrem if kind == b"zset" else self._redis.srem)(key, schema_name)

    def names(self) -> set[str]:
        """Every tenant that is in a shared set."""
        return {name for _, _, names in self._sets() for name in names}

    def _batches(self, pattern: str) -> Iterator[list[bytes]]:
        """Keys that match, in bounded batches; a key may come twice."""
        batch: list[bytes] = []
        for key in self._redis.scan_iter(match=pattern, count=BATCH_KEYS):
            batch.append(key)
            if len(batch) == BATCH_KEYS:
                yield batch
                batch = []
        if batch:
            yield batch

    def _secrets(self, schema_name: str) -> Iterator[list[bytes]]:
        for keys in self._batches(f"avb:{schema_name}:client_secrets:*"):
            for key in keys:
                for start in range(0, self._redis.zcard(key), SECRETS_PAGE):
                    hashes = self._redis.zrange(key, start, start + SECRETS_PAGE - 1)
                    if hashes:
                        yield [b"avb:client_secret:" + secret for secret in hashes]

    def _credentials(self, tenant: Tenant) -> Iterator[list[str]]:
        """What gateways keep at hand of the tenant's API keys."""
        hashes = list(tenant.api_keys.values_list("secret_hash", flat=True))
        for start in range(0, len(hashes), BATCH_KEYS):
            yield [credential_key(secret_hash) for secret_hash in hashes[start : start + BATCH_KEYS]]

    def _sets(self) -> list[tuple[bytes, bytes, set[str]]]:
        """The sets that tenants share, by convention called ``avb:…:tenants``: each with its kind, and who is in it."""
        found = {}
        for keys in self._batches("avb:*:tenants"):
            for key in keys:
                kind = self._redis.type(key)
                if kind in (b"set", b"zset"):
                    members = self._redis.smembers(key) if kind == b"set" else self._redis.zrange(key, 0, -1)
                    found[key] = (key, kind, {member.decode() for member in members})
        return list(found.values())
