"""What still arrives of erased calls is dropped on its way into the archive. Runs inside the tenant's schema and the
transaction that stores the events."""

from collections.abc import Iterable
from datetime import UTC, datetime

import msgspec
from django.db import connection
from django.db.models import Max

from agents.trials.outcomes import forget_sessions
from realtime.archive.events import AnyArchiveEvent, CallStarted, UsageMetered
from realtime.privacy.models import ErasedCall, Erasure, JobState
from realtime.privacy.subjects import subjects_of


def drop_erased(events: Iterable[AnyArchiveEvent]) -> list[AnyArchiveEvent]:
    """The events without those of erased calls; usage stays, without the person.

    A call that an erased person began before the erasure was asked for is found here by its first event; what of it was
    stored before that event goes now.
    """
    events = list(events)
    if not events or not Erasure.objects.exists():
        return events
    forgotten = _forgotten({event.end_user for event in events if isinstance(event, CallStarted | UsageMetered)})
    begun = {event.session_id for event in events if isinstance(event, CallStarted) and _is_before(event, forgotten)}
    if begun:
        erase_rows(begun)
    sessions = {event.session_id for event in events}
    erased = begun | set(ErasedCall.objects.filter(pk__in=sessions).values_list("pk", flat=True))
    kept: list[AnyArchiveEvent] = []
    for event in events:
        if isinstance(event, UsageMetered):
            is_erased = event.session_id in erased or _is_before(event, forgotten)
            kept.append(msgspec.structs.replace(event, end_user="") if is_erased else event)
        elif event.session_id not in erased:
            kept.append(event)
    return kept


def erase_rows(sessions: set[str]) -> None:
    """Conversations, items and outcomes; the recordings, whose objects take longer, go with
    ``remove_late_recordings``."""
    ErasedCall.objects.bulk_create([ErasedCall(session_id=session) for session in sessions], ignore_conflicts=True)
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM archive_item WHERE conversation_id = ANY(%s)", [list(sessions)])
        cursor.execute("DELETE FROM archive_conversation WHERE id = ANY(%s)", [list(sessions)])
    forget_sessions(sessions)


def is_erased(session_id: str) -> bool:
    """For whoever stores something of a call by another way."""
    return ErasedCall.objects.filter(pk=session_id).exists()


def _forgotten(people: set[str]) -> dict[str, datetime]:
    """End user → until when what they did is forgotten."""
    people = people - {""}
    if not people:
        return {}
    subjects = {subject: person for person, subject in subjects_of(people).items()}
    found = Erasure.objects.filter(subject__in=subjects).exclude(state__in=(JobState.REFUSED, JobState.FAILED))
    latest = found.order_by().values_list("subject").annotate(Max("requested_at"))
    return {subjects[subject]: at for subject, at in latest}


def _is_before(event: CallStarted | UsageMetered, forgotten: dict[str, datetime]) -> bool:
    until = forgotten.get(event.end_user)
    return until is not None and datetime.fromtimestamp(event.at, UTC) <= until
