"""Which slugs can name a tenant. The slug becomes a schema of PostgreSQL, and the second word of every Redis key."""

import re

from django.core.exceptions import ValidationError
from django.db import connection

from tenants.errors import TenancyError
from tenants.models import SLUG

RESERVED_SCHEMA = re.compile(r"pg_|public$|information_schema$")
SHARED_WORDS = frozenset({
    "access", "address", "archive", "breaker", "cache", "cancellations", "client_secret", "data_keys", "key", "keys",
    "layer", "limits", "platform", "replies", "sessions", "tenants", "usage", "worker", "workers",
})  # fmt: skip
"""What follows ``avb:`` in Redis keys that belong to no tenant: a tenant of that name would own them all."""


class SlugRefused(TenancyError):
    """The slug is taken, reserved or malformed."""

    code = "slug_refused"


def schema_of(slug: str) -> str:
    """The schema of a tenant of this slug. Raises SlugRefused."""
    try:
        SLUG(slug)
    except ValidationError as error:
        raise SlugRefused(f"{slug!r} cannot name a tenant. {error.messages[0]}", "slug") from error
    schema_name = slug.replace("-", "_")
    if RESERVED_SCHEMA.match(schema_name) or schema_name in SHARED_WORDS:
        raise SlugRefused(f"{slug!r} is reserved; choose another name.", "slug")
    return schema_name


def hold_names() -> None:
    """Until the transaction ends, nobody else gives out slugs and host names: what is free now stays free."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(hashtextextended('lifecycle names', 0))")
