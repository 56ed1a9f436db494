"""Reading what is recorded. Runs inside the tenant's schema."""

from datetime import datetime

from django.db.models import QuerySet

from realtime.recordings.models import Policy, Recording, Whose


class RecordingUnknown(Exception):
    """The tenant has no recording of this call."""

    def __init__(self, session_id: str) -> None:
        super().__init__(f"There is no recording of {session_id!r}.")
        self.message = str(self)


def list_recordings(
    *,
    conversation: str | None = None,
    state: str | None = None,
    started_after: datetime | None = None,
    started_before: datetime | None = None,
) -> QuerySet[Recording]:
    """Newest first."""
    found = Recording.objects.all()
    if conversation is not None:
        found = found.filter(pk=conversation)
    if state is not None:
        found = found.filter(state=state)
    if started_after is not None:
        found = found.filter(started_at__gte=started_after)
    if started_before is not None:
        found = found.filter(started_at__lt=started_before)
    return found


def find_recording(session_id: str) -> Recording:
    """Raises RecordingUnknown."""
    # An address may hold a NUL character; PostgreSQL's text may not.
    recording = None if "\0" in session_id else Recording.objects.filter(pk=session_id).first()
    if recording is None:
        raise RecordingUnknown(session_id)
    return recording


def list_of_end_user(end_user: str) -> QuerySet[Recording]:
    """The recordings of this person's calls, oldest first."""
    return Recording.objects.filter(conversation__end_user=end_user).order_by("started_at", "pk")


def policy_record() -> str:
    """The tenant's policy; what it is before anybody set it needs no row."""
    return Policy.objects.filter(pk=1).values_list("record", flat=True).first() or Whose.AGENT


def records_call(agent_records: bool) -> bool:
    """Whether a call that begins now is recorded: the tenant's policy, then its agent."""
    policy = policy_record()
    return policy == Whose.ALL or (policy == Whose.AGENT and agent_records)
