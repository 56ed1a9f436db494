"""What was recorded of a call, and where it lies. Rows live in the tenant's schema."""

import secrets

from django.db import models

from realtime.archive.models import Conversation
from tenants.encryption.fields import EncryptedTextField


class RecordingState(models.TextChoices):
    """How far a recording came. The last five name why it ends before its call did."""

    RECORDING = "recording", "the call goes on; its first parts are stored"
    COMPLETE = "complete", "from the first to the last sample of the call"
    INTERRUPTED = "interrupted", "the gateway ended in mid-call"
    SPOOL_FULL = "spool_full", "AVB_RECORDING_SPOOL_MAX_BYTES was reached"
    DISK_FULL = "disk_full", "the disk of the spool was full"
    DISK_SLOW = "disk_slow", "the disk of the spool did not keep up"
    FAULT = "fault", "an unexpected error; the gateway's log has it"


class Recording(models.Model):
    """A call's recording: stereo, the caller on the left, what was heard of the agent on the right.

    Its audio is in parts of equal length (but for the last one), each an object of its own.
    """

    # The archive may get its row later. Whoever deletes a conversation deletes its recording first, and its objects.
    conversation = models.OneToOneField(
        Conversation, models.PROTECT, primary_key=True, db_constraint=False, related_name="recording"
    )
    state = models.CharField(max_length=16, choices=RecordingState, default=RecordingState.RECORDING)
    started_at = models.DateTimeField()
    sample_rate_hz = models.PositiveIntegerField()
    channels = models.PositiveSmallIntegerField()
    samples = models.BigIntegerField(default=0, help_text="Of each channel, in the parts that are stored.")
    part_samples = models.PositiveIntegerField(help_text="Of each part but the last.")
    bytes = models.BigIntegerField(default=0, help_text="Of the FLAC files, before they are sealed.")
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["-started_at", "-conversation_id"]
        indexes = [models.Index(fields=["-started_at", "-conversation_id"], name="recording_by_time")]

    def __str__(self) -> str:
        return str(self.pk)

    @property
    def duration_ms(self) -> int:
        return self.samples * 1000 // self.sample_rate_hz


class Part(models.Model):
    """One FLAC file. Parts with the same audio, of whichever recordings of the tenant, share one object."""

    recording = models.ForeignKey(Recording, models.CASCADE, related_name="parts")
    index = models.PositiveIntegerField()
    samples = models.PositiveIntegerField()
    bytes = models.PositiveIntegerField()
    sha256 = models.CharField(max_length=64, help_text="Of the FLAC file.")
    object_key = models.TextField()
    key_version = models.PositiveIntegerField(help_text="Of the data key that seals the object.")

    class Meta:
        ordering = ["index"]
        constraints = [models.UniqueConstraint(fields=["recording", "index"], name="one_part_per_place")]
        indexes = [models.Index(fields=["object_key"], name="part_by_object")]

    def __str__(self) -> str:
        return f"{self.recording_id} part {self.index}"


class Whose(models.TextChoices):
    AGENT = "agent", "each agent's own setting decides"
    ALL = "all", "every call is recorded"
    NONE = "none", "no call is recorded, whatever its agent says"


def new_address_key() -> str:
    return secrets.token_hex(32)


class Policy(models.Model):
    """The tenant's one row of settings. ``address_key`` makes a name of an audio's hash: nobody without it can tell
    from the name of an object what is in it, or that two tenants hold the same."""

    id = models.PositiveSmallIntegerField(primary_key=True, default=1, editable=False)
    record = models.CharField(max_length=8, choices=Whose, default=Whose.AGENT)
    address_key = EncryptedTextField(default=new_address_key, editable=False)

    class Meta:
        verbose_name_plural = "policies"
        constraints = [models.CheckConstraint(condition=models.Q(id=1), name="one_recording_policy")]

    def __str__(self) -> str:
        return f"record {self.record}"
