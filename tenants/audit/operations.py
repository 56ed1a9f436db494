"""Writing the audit log. There is no way to change or remove an entry, here or in the database."""

from typing import Any

from django.db import connection, transaction
from django.utils import timezone
from django_tenants.utils import get_public_schema_name, schema_context

from tenants.audit import chain
from tenants.audit.models import Entry
from tenants.principal import Principal, acting


def record(
    *,
    action: str,
    target: str = "",
    before: dict[str, Any] | None = None,
    after: dict[str, Any] | None = None,
    tenant: str = "",
    actor: Principal | None = None,
) -> Entry:
    """One act, inside the transaction that does it: what is rolled back was not done.

    ``tenant`` is the schema whose log it belongs in, empty for the platform's own. ``before`` and ``after`` hold JSON
    values and never a secret. Call it last: until the transaction ends, others who write to the same log wait.
    """
    actor = actor or acting()
    schema = tenant or get_public_schema_name()
    with transaction.atomic(), schema_context(schema):
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", [f"audit:{schema}"])
        last = Entry.objects.only("seq", "hash").order_by("-seq").first()
        entry = Entry(
            seq=last.seq + 1 if last else 1,
            at=timezone.now(),
            action=action,
            target=target,
            actor_kind=actor.kind,
            actor_id=actor.id,
            actor_name=actor.name,
            address=actor.address,
            before=before,
            after=after,
            previous_hash=last.hash if last else chain.FIRST,
        )
        entry.hash = chain.digest(entry)
        entry.save(force_insert=True)
    return entry
