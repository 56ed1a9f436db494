"""What was done, by whom: append-only, chained by hash. The platform's log is in the shared schema, each tenant's in
its own."""

from django.db import models


class Entry(models.Model):
    """One act. ``hash`` covers every other field and the hash of the entry before, so that nothing can be taken out or
    changed unseen (``tenants.audit.chain``)."""

    seq = models.BigIntegerField(primary_key=True)
    at = models.DateTimeField()
    action = models.TextField(help_text="What was done, such as api_key.revoked.")
    target = models.TextField(blank=True, help_text="What it was done to, such as key_… or an agent's slug.")
    actor_kind = models.CharField(max_length=16)
    actor_id = models.TextField()
    actor_name = models.TextField()
    address = models.TextField(blank=True, help_text="The IP address it was done from.")
    before = models.JSONField(null=True)
    after = models.JSONField(null=True)
    previous_hash = models.CharField(max_length=64)
    hash = models.CharField(max_length=64)

    class Meta:
        ordering = ["-seq"]
        verbose_name_plural = "entries"
        indexes = [
            models.Index(fields=["action", "-seq"], name="audit_by_action"),
            models.Index(fields=["actor_id", "-seq"], name="audit_by_actor"),
            models.Index(fields=["target", "-seq"], name="audit_by_target"),
            models.Index(fields=["-at"], name="audit_by_time"),
            models.Index(fields=["address", "-seq"], name="audit_by_address", condition=~models.Q(address="")),
        ]

    def __str__(self) -> str:
        return f"{self.seq} {self.action}"
