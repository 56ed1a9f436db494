"""Legal holds, and the exports and erasures of end users. Rows live in the tenant's schema.

An erased person is known by a keyed hash alone (``subjects``); who it was is in sealed fields, and there only while a
job needs it.
"""

import secrets
import uuid

from django.db import models
from django.db.models import Q

from realtime.archive.models import Conversation
from tenants.encryption.fields import EncryptedTextField


class LegalHold(models.Model):
    """Keeps one conversation, or everything of one end user, from retention and erasure."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    session_id = models.TextField(blank=True, help_text="The conversation's id, sess_…; empty: an end user's hold.")
    end_user = models.TextField(blank=True)
    reason = models.TextField()
    placed_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["-placed_at", "-id"]
        constraints = [
            models.CheckConstraint(
                condition=Q(session_id="") ^ Q(end_user=""), name="hold_of_a_conversation_or_of_an_end_user"
            ),
            models.UniqueConstraint(
                fields=["session_id"], condition=~Q(session_id=""), name="one_hold_per_conversation"
            ),
            models.UniqueConstraint(fields=["end_user"], condition=~Q(end_user=""), name="one_hold_per_end_user"),
        ]

    def __str__(self) -> str:
        return str(self.id)


class JobState(models.TextChoices):
    WAITING = "waiting", "not begun"
    RUNNING = "running", "under way"
    CALLS = "waiting_for_calls", "all is done but for calls in progress"
    READY = "ready", "done"
    REFUSED = "refused", "a legal hold forbids it"
    FAILED = "failed", "given up"
    EXPIRED = "expired", "removed, its time is over"


OPEN = (JobState.WAITING, JobState.RUNNING, JobState.CALLS)


class Job(models.Model):
    """Work on one end user. Whoever works on it holds its lease; without one it is anybody's to go on with."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    subject = models.CharField(max_length=40, help_text="A keyed hash of the end user.")
    end_user = EncryptedTextField(help_text="Empty as soon as it is not needed any more.")
    state = models.CharField(max_length=20, choices=JobState, default=JobState.WAITING)
    requested_at = models.DateTimeField()
    ended_at = models.DateTimeField(null=True)
    lease_until = models.DateTimeField(null=True)
    attempts = models.PositiveIntegerField(default=0)
    fault = models.TextField(blank=True, help_text="The kind of fault of the last attempt.")
    counts = models.JSONField(default=dict, help_text="How much of each kind was exported or removed.")

    class Meta:
        abstract = True
        ordering = ["-requested_at", "-id"]

    def __str__(self) -> str:
        return str(self.id)


class Export(Job):
    """Everything that is kept of an end user, as a sealed ZIP file in parts."""

    done = models.PositiveIntegerField(default=0, help_text="Conversations that are in it.")
    total = models.PositiveIntegerField(default=0, help_text="Conversations that there are.")
    parts = models.PositiveIntegerField(default=0)
    bytes = models.BigIntegerField(default=0, help_text="Of the ZIP file.")
    expires_at = models.DateTimeField(null=True)

    class Meta(Job.Meta):
        indexes = [models.Index(fields=["subject"], name="export_by_subject")]


class Erasure(Job):
    """Also the tombstone: calls of this subject that began by ``requested_at`` are not stored any more."""

    refusal = models.TextField(blank=True)

    class Meta(Job.Meta):
        indexes = [models.Index(fields=["subject", "-requested_at"], name="erasure_by_subject")]


class ErasedCall(models.Model):
    """A call that was erased: what still arrives of it is dropped."""

    session_id = models.TextField(primary_key=True)
    erased_at = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        return self.session_id


class FrozenItems(models.Model):
    """Where the items of an old conversation lie when the database does not hold them (``cold``)."""

    conversation = models.OneToOneField(Conversation, models.PROTECT, primary_key=True, related_name="frozen")
    items = models.PositiveIntegerField()
    object_key = models.TextField()
    sha256 = models.CharField(max_length=64, help_text="Of the JSON lines.")
    bytes = models.BigIntegerField(help_text="Of the sealed object.")
    key_version = models.PositiveIntegerField(help_text="Of the data key that seals it.")
    frozen_at = models.DateTimeField(auto_now=True)
    thawed_at = models.DateTimeField(null=True, help_text="Since when its items are in the database again.")

    def __str__(self) -> str:
        return str(self.pk)


class SubjectKey(models.Model):
    """The one row with the key of the hashes: without it nobody can try out names and numbers."""

    id = models.PositiveSmallIntegerField(primary_key=True, default=1, editable=False)
    key = EncryptedTextField(default=secrets.token_hex)

    class Meta:
        constraints = [models.CheckConstraint(condition=Q(id=1), name="one_subject_key")]

    def __str__(self) -> str:
        return "subject key"


class RedactionPolicy(models.Model):
    """The tenant's one row: which kinds of personal data (``agents.guard.detectors.KINDS``) transcripts do not hold,
    and whether recordings are silent there. Without a row nothing is redacted."""

    id = models.PositiveSmallIntegerField(primary_key=True, default=1, editable=False)
    kinds = models.JSONField(default=list, blank=True, help_text="What transcripts hold only the name of.")
    silence_recordings = models.BooleanField(default=True, help_text="Recordings are silent where it was said.")

    class Meta:
        verbose_name_plural = "redaction policy"
        constraints = [models.CheckConstraint(condition=Q(id=1), name="one_redaction_policy")]

    def __str__(self) -> str:
        return "redaction policy"
