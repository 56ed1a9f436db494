"""Legal holds: what is held is neither expired nor erased. Runs inside the tenant's schema."""

from collections.abc import Iterable
from uuid import UUID

from django.db import connection, transaction
from django.db.models import Exists, OuterRef, Q, QuerySet

from realtime.archive.models import Conversation
from realtime.privacy.models import LegalHold
from realtime.privacy.subjects import check_end_user, subject_of
from tenants.audit.operations import record

REASON_CHARACTERS = 500


class HoldRefused(ValueError):
    """It cannot be held so; ``param`` is the argument at fault."""

    def __init__(self, message: str, param: str, code: str) -> None:
        super().__init__(message)
        self.message, self.param, self.code = message, param, code


class HoldUnknown(Exception):
    """There is no such legal hold."""


class HeldBack(Exception):
    """A legal hold forbids it."""

    def __init__(self, holds: list[LegalHold]) -> None:
        reasons = "; ".join(f"hold {hold.pk}: {hold.reason}" for hold in holds[:5])
        self.message = f"A legal hold forbids it: {reasons}. Release it first."
        super().__init__(self.message)


@transaction.atomic
def hold_conversation(*, session_id: str, reason: str) -> LegalHold:
    """Keep this conversation, and its recording. Held already: the reason is replaced. Raises HoldRefused."""
    reason = _checked(reason)
    serialise_with_deletion()
    hold, is_new = LegalHold.objects.update_or_create(session_id=session_id, end_user="", defaults={"reason": reason})
    _record("legal_hold.placed" if is_new else "legal_hold.changed", hold, session_id)
    return hold


@transaction.atomic
def hold_end_user(*, end_user: str, reason: str) -> LegalHold:
    """Keep everything of this end user, what is yet to come included. Raises HoldRefused, EndUserInvalid."""
    reason = _checked(reason)
    check_end_user(end_user)
    serialise_with_deletion()
    hold, is_new = LegalHold.objects.update_or_create(session_id="", end_user=end_user, defaults={"reason": reason})
    _record("legal_hold.placed" if is_new else "legal_hold.changed", hold, subject_of(end_user))
    return hold


@transaction.atomic
def release_conversation(*, session_id: str) -> None:
    """Raises HoldUnknown."""
    _release(LegalHold.objects.filter(session_id=session_id).exclude(session_id=""), session_id)


@transaction.atomic
def release_hold(*, hold_id: UUID) -> None:
    """Of an end user. Raises HoldUnknown."""
    found = LegalHold.objects.filter(pk=hold_id).exclude(end_user="")
    hold = found.first()
    _release(found, subject_of(hold.end_user) if hold else "")


def held(conversations: QuerySet[Conversation]) -> QuerySet[Conversation]:
    """Those under a hold, their own or their end user's."""
    own = LegalHold.objects.filter(session_id=OuterRef("pk"))
    persons = LegalHold.objects.filter(end_user=OuterRef("end_user")).exclude(end_user="")
    return conversations.filter(Q(Exists(own)) | Q(Exists(persons)))


def holds_on(end_user: str) -> list[LegalHold]:
    """Whatever keeps something of this end user."""
    theirs = Conversation.objects.filter(end_user=end_user).values("pk")
    return list(LegalHold.objects.filter(Q(end_user=end_user) | Q(session_id__in=theirs)))


def held_sessions(session_ids: Iterable[str]) -> set[str]:
    return set(LegalHold.objects.filter(session_id__in=list(session_ids)).values_list("session_id", flat=True))


def serialise_with_deletion() -> None:
    """Until the transaction ends: nothing is deleted while it is being held, and the other way round."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", [f"holds:{connection.schema_name}"])


def _release(found: QuerySet[LegalHold], target: str) -> None:
    hold = found.select_for_update().first()
    if hold is None:
        raise HoldUnknown
    hold.delete()
    record(action="legal_hold.released", target=target, before={"reason": hold.reason}, tenant=connection.schema_name)


def _record(action: str, hold: LegalHold, target: str) -> None:
    # The audit outlives an erasure: it names the subject, not the person.
    record(
        action=action, target=target, after={"hold": str(hold.pk), "reason": hold.reason}, tenant=connection.schema_name
    )


def _checked(reason: str) -> str:
    reason = reason.strip()
    if not 1 <= len(reason) <= REASON_CHARACTERS or "\0" in reason:
        raise HoldRefused(f"Say why, in 1 to {REASON_CHARACTERS} characters.", "reason", "reason_missing")
    return reason
