"""What a tenant has redacted in its transcripts and recordings. Runs inside the tenant's schema."""

from collections.abc import Collection

from django.db import connection, transaction

from agents.guard.detectors import KINDS
from agents.spec import Redaction
from realtime.privacy.models import RedactionPolicy
from tenants.audit.operations import changes, record


class PolicyInvalid(ValueError):
    """There is no such kind."""

    def __init__(self, kind: str) -> None:
        self.message = f"There is no kind {kind[:64]!r}; there are {', '.join(KINDS)}."
        super().__init__(self.message)


def read_redaction() -> Redaction:
    """What holds for a call that begins now."""
    row = RedactionPolicy.objects.filter(pk=1).values_list("kinds", "silence_recordings").first()
    if row is None:
        return Redaction()
    # A kind that another version knew is nothing that this one can find.
    return Redaction(frozenset(row[0]) & KINDS.keys(), silence=row[1])


def find_policy() -> RedactionPolicy:
    """What it is before anybody set it needs no row."""
    return RedactionPolicy.objects.filter(pk=1).first() or RedactionPolicy()


@transaction.atomic
def change_redaction(
    *, kinds: Collection[str] | None = None, silence_recordings: bool | None = None
) -> RedactionPolicy:
    """Holds for calls that begin from now on; None leaves what is. Raises PolicyInvalid."""
    if unknown := next((kind for kind in kinds or () if kind not in KINDS), None):
        raise PolicyInvalid(unknown)
    RedactionPolicy.objects.get_or_create(pk=1)
    policy = RedactionPolicy.objects.select_for_update().get(pk=1)
    before = _shown(policy)
    if kinds is not None:
        policy.kinds = [kind for kind in KINDS if kind in kinds]
    if silence_recordings is not None:
        policy.silence_recordings = silence_recordings
    policy.save()
    old, new = changes(before, _shown(policy))
    if new:
        record(
            action="redaction_policy.changed",
            target="redaction_policy",
            before=old,
            after=new,
            tenant=connection.schema_name,
        )
    return policy


def _shown(policy: RedactionPolicy) -> dict[str, object]:
    return {"kinds": list(policy.kinds), "silence_recordings": policy.silence_recordings}
