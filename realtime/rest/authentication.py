"""Whose request it is: ``Authorization: Bearer`` with an API key, and nothing that a caller may choose beside it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from channels.db import database_sync_to_async
from django.conf import settings
from django.db import connection, transaction
from django.http import HttpRequest
from django_tenants.utils import get_public_schema_name, schema_context

from realtime.rest.errors import ApiError
from realtime.runtime.door import Refusal, mask
from realtime.runtime.door import find_key as find_bearer
from tenants.keys.operations import touch_key
from tenants.keys.queries import InvalidKey, KeyRefused, ScopeMissing, find_key, require_scope
from tenants.permissions import Scope

Read = TypeVar("Read")

NO_KEY = (
    "You didn't provide an API key. You need to provide your API key in an Authorization header using Bearer auth "
    "(i.e. Authorization: Bearer YOUR_KEY)."
)


@dataclass(frozen=True, slots=True)
class KeyHolder:
    """``tenant`` is the schema name, as in every Redis key; ``key_id`` is the key's public id."""

    tenant: str
    key_id: str


async def authenticate(request: HttpRequest, scope: Scope | None) -> KeyHolder:
    """Who holds the key that came with the request; None asks for no scope in particular. Raises ApiError."""
    headers = {name: request.headers[name] for name in ("authorization", "api-key") if name in request.headers}
    try:
        secret = find_bearer(headers, ())
    except Refusal as refusal:
        raise ApiError(401, NO_KEY) from refusal
    try:
        holder: KeyHolder = await database_sync_to_async(_find_holder)(secret, scope)
    except ScopeMissing as missing:
        words = f"You have insufficient permissions for this operation. Missing scopes: {scope}."
        raise ApiError(403, words, code=missing.code) from missing
    except KeyRefused as refusal:
        words = refusal.message if type(refusal) is not InvalidKey else f"Incorrect API key provided: {mask(secret)}."
        raise ApiError(401, words, code=refusal.code) from refusal
    return holder


async def read_in_tenant(holder: KeyHolder, read: Callable[[], Read]) -> Read:
    """What ``read`` gives inside the tenant's schema and one transaction."""
    found: Read = await database_sync_to_async(_read_in_tenant)(holder.tenant, read)
    return found


def _find_holder(secret: str, scope: Scope | None) -> KeyHolder:
    with schema_context(get_public_schema_name()), transaction.atomic():
        _limit_statements()
        key = find_key(secret)
        if scope is not None:
            require_scope(key, scope)
        touch_key(key=key)
        return KeyHolder(key.tenant.schema_name, key.public_id)


def _read_in_tenant(tenant: str, read: Callable[[], Read]) -> Read:
    with schema_context(tenant), transaction.atomic():
        _limit_statements()
        return read()


def _limit_statements() -> None:
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL statement_timeout = %s", [settings.POSTGRES_READ_TIMEOUT_MS])
