"""What was said on a call. Rows are written by ``operations.apply_events`` alone."""

from django.db import models

NEVER = -1
"""The sequence number of what has not been seen yet: every event's is higher."""

# Columns with ``db_default`` came later than their table: statements of an older release do not name them.


class Conversation(models.Model):
    """One call. Until its ``call.started`` arrives the row holds only what other events told."""

    id = models.TextField(primary_key=True, help_text="The session's id, sess_…")
    conversation_id = models.TextField(blank=True)
    agent = models.TextField(blank=True, help_text="The agent's slug at the time of the call.")
    channel = models.TextField(blank=True)
    key_id = models.TextField(blank=True)
    end_user = models.TextField(blank=True)
    model = models.TextField(blank=True)
    agent_version = models.PositiveIntegerField(db_default=0, help_text="The agent's version; 0: no published one.")
    trial = models.TextField(blank=True, db_default="", help_text="The A/B trial that chose the version.")
    started_at = models.DateTimeField()
    ended_at = models.DateTimeField(null=True)
    end_reason = models.TextField(blank=True)
    duration_s = models.FloatField(null=True)
    item_count = models.PositiveIntegerField(default=0)
    started_seq = models.BigIntegerField(default=NEVER)
    ended_seq = models.BigIntegerField(default=NEVER)

    class Meta:
        ordering = ["-started_at", "-id"]
        indexes = [
            models.Index(fields=["-started_at", "-id"], name="conversation_by_time"),
            models.Index(fields=["agent", "-started_at"], name="conversation_by_agent"),
            models.Index(
                fields=["agent", "agent_version", "-started_at"],
                name="conversation_by_version",
                condition=~models.Q(agent_version=0),
            ),
            models.Index(fields=["trial", "-started_at"], name="conversation_by_trial", condition=~models.Q(trial="")),
            models.Index(fields=["channel", "-started_at"], name="conversation_by_channel"),
            models.Index(
                fields=["end_user", "-started_at"], name="conversation_by_end_user", condition=~models.Q(end_user="")
            ),
        ]

    def __str__(self) -> str:
        return self.id


class Item(models.Model):
    """One item of a call as it was last shown. ``deleted_seq`` above ``seq`` means: taken out of the conversation."""

    conversation = models.ForeignKey(Conversation, models.CASCADE, related_name="items")
    item_id = models.TextField()
    seq = models.BigIntegerField(default=NEVER)
    first_seq = models.BigIntegerField(null=True)
    deleted_seq = models.BigIntegerField(default=NEVER)
    previous_item_id = models.TextField(null=True)  # noqa: DJ001  (None: at the start)
    type = models.TextField(blank=True)
    role = models.TextField(blank=True)
    status = models.TextField(blank=True)
    content = models.JSONField(default=dict, help_text="The whole item as the protocol shows it, without audio.")
    text = models.TextField(blank=True, help_text="What was said or written, for reading and search.")
    response_id = models.TextField(blank=True)
    audio_ms = models.PositiveIntegerField(default=0)
    timings_ms = models.JSONField(default=dict)
    agent = models.TextField(blank=True, db_default="", help_text="Who made the item, or was there when it was said.")
    agent_version = models.PositiveIntegerField(db_default=0)
    receipt = models.JSONField(null=True, help_text="Of a tool call: asked, sent, answered, how long, by whom.")
    receipt_seq = models.BigIntegerField(db_default=NEVER)
    created_at = models.DateTimeField(null=True, help_text="Empty when only its deletion has arrived so far.")
    updated_at = models.DateTimeField(null=True)

    class Meta:
        ordering = ["first_seq", "id"]
        constraints = [models.UniqueConstraint(fields=["conversation", "item_id"], name="one_row_per_item")]
        indexes = [models.Index(fields=["conversation", "first_seq"], name="items_in_order")]

    def __str__(self) -> str:
        return self.item_id
