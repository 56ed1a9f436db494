"""Conversations, items and recordings past their time are removed, a batch at a time. Runs inside the tenant's
schema."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from django.conf import settings
from django.db import connection, transaction
from django.db.models import QuerySet

from agents.trials.outcomes import forget_sessions
from realtime.archive.models import Conversation, Item
from realtime.privacy.cold import remove_frozen
from realtime.privacy.holds import held, held_sessions, serialise_with_deletion
from realtime.privacy.models import ErasedCall
from realtime.recordings.models import Recording
from realtime.recordings.operations import delete_recordings
from tenants.audit.operations import record
from tenants.models import Tenant

BATCH_ITEMS = 20_000
"""Items that are removed in one transaction, but for a conversation that alone has more."""


@dataclass(frozen=True, slots=True)
class Removed:
    conversations: int = 0
    items: int = 0
    recordings: int = 0

    def __bool__(self) -> bool:
        return bool(self.conversations or self.recordings)


def retention_days(tenant: Tenant) -> int:
    return tenant.retention_days or settings.RETENTION_DAYS


@transaction.atomic
def expire_batch(*, days: int, now: datetime) -> Removed:
    """At most ``settings.RETENTION_BATCH_ROWS`` conversations that began before ``now`` less ``days``, the oldest
    first, but none that is held. Nothing: all of it is done. Raises StorageUnavailable: then all of the batch is there.
    """
    before = now - timedelta(days=days)
    serialise_with_deletion()
    aged = Conversation.objects.filter(started_at__lt=before)
    aged = aged.exclude(pk__in=held(aged).values("pk")).order_by("started_at", "pk")
    sessions = next_batch(aged)
    removed = remove_conversations(sessions) if sessions else _expire_lone_recordings(before)
    if removed:
        record(
            action="conversations.expired",
            target=f"{days} days",
            after={
                "conversations": removed.conversations, "items": removed.items, "recordings": removed.recordings,
                "before": before.isoformat(),
            },
            tenant=connection.schema_name,
        )  # fmt: skip
    return removed


def next_batch(conversations: QuerySet[Conversation]) -> list[str]:
    """The ids of the first of them, as many as one transaction bears; at least one when there is any."""
    sessions, items = [], 0
    for session_id, count in conversations.values_list("pk", "item_count")[: settings.RETENTION_BATCH_ROWS]:
        items += count
        if sessions and items > BATCH_ITEMS:
            break
        sessions.append(session_id)
    return sessions


def remove_conversations(sessions: list[str]) -> Removed:
    """With items, outcomes and recordings, inside the caller's transaction. Raises StorageUnavailable."""
    deleted = delete_recordings(session_ids=sessions)
    frozen = remove_frozen(sessions)
    forget_sessions(sessions)
    items, _ = Item.objects.filter(conversation__in=sessions).delete()
    conversations, _ = Conversation.objects.filter(pk__in=sessions).delete()
    return Removed(conversations, items + frozen, deleted.recordings)


@transaction.atomic
def remove_late_recordings() -> int:
    """Recordings that came from a gateway's spool after their call was erased; how many."""
    erased = ErasedCall.objects.values("pk")
    sessions = list(
        Recording.objects.filter(pk__in=erased).values_list("pk", flat=True)[: settings.RETENTION_BATCH_ROWS]
    )
    return delete_recordings(session_ids=sessions).recordings


def _expire_lone_recordings(before: datetime) -> Removed:
    """Those whose conversation never reached the archive, or went without them."""
    known = Conversation.objects.values("pk")
    aged = Recording.objects.filter(started_at__lt=before).exclude(pk__in=known).order_by("started_at")
    sessions = set(aged.values_list("pk", flat=True)[: settings.RETENTION_BATCH_ROWS])
    return Removed(recordings=delete_recordings(session_ids=sessions - held_sessions(sessions)).recordings)
