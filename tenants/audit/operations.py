"""Writing the audit log. There is no way to change or remove an entry, here or in the database.

A transaction that writes to a tenant's log and to the platform's writes to the platform's last: all take the logs'
locks in that order, so none waits for another in a circle. Nobody writes to the logs of two tenants at once.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from django.db import connection, transaction
from django.utils import timezone
from django_tenants.utils import get_public_schema_name, schema_context

from tenants.audit import chain
from tenants.audit.masking import mask
from tenants.audit.models import Entry
from tenants.principal import Principal, acting


@dataclass(frozen=True, slots=True)
class Act:
    """What was done, such as api_key.revoked; to what; and what changed by it."""

    action: str
    target: str = ""
    before: Mapping[str, Any] | None = None
    after: Mapping[str, Any] | None = None


def record(
    *,
    action: str,
    target: str = "",
    before: Mapping[str, Any] | None = None,
    after: Mapping[str, Any] | None = None,
    tenant: str = "",
    actor: Principal | None = None,
) -> Entry:
    """One act, inside the transaction that does it: what is rolled back was not done.

    ``tenant`` is the schema whose log it belongs in, empty for the platform's own. ``before`` and ``after`` hold what
    changed, and never a secret (``tenants.audit.masking`` is a net, no permission). Call it last: until the transaction
    ends, others who write to the same log wait.
    """
    (entry,) = record_all([Act(action, target, before, after)], tenant=tenant, actor=actor)
    return entry


def record_all(acts: Iterable[Act], *, tenant: str = "", actor: Principal | None = None) -> list[Entry]:
    """The same for several acts in their order, in as many queries as for one."""
    actor = actor or acting()
    schema = tenant or get_public_schema_name()
    entries: list[Entry] = []
    with transaction.atomic(), schema_context(schema):
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", [f"audit:{schema}"])
        last = Entry.objects.only("seq", "hash").order_by("-seq").first()
        for act in acts:
            entry = Entry(
                seq=last.seq + 1 if last else 1,
                at=timezone.now(),
                action=chain.to_text(act.action),
                target=chain.to_text(act.target),
                actor_kind=actor.kind,
                actor_id=chain.to_text(actor.id),
                actor_name=chain.to_text(actor.name),
                address=chain.to_text(actor.address),
                before=None if act.before is None else mask(chain.to_json(act.before)),
                after=None if act.after is None else mask(chain.to_json(act.after)),
                previous_hash=last.hash if last else chain.FIRST,
            )
            entry.hash = chain.digest(entry)
            entries.append(entry)
            last = entry
        Entry.objects.bulk_create(entries)
    return entries


def changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Of two states only what differs, for ``before`` and ``after``."""
    changed = [name for name in {**before, **after} if before.get(name) != after.get(name)]
    return {name: before.get(name) for name in changed}, {name: after.get(name) for name in changed}
