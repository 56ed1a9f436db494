"""Data keys of tenants, each wrapped by a master key. They are rows of the public schema."""

from django.db import models
from django.db.models import Q


class KeyState(models.TextChoices):
    ACTIVE = "active", "seals and unseals"
    RETIRED = "retired", "unseals what it has sealed"


class DataKey(models.Model):
    """One version of a tenant's key. It is never replaced: a rotation adds a version, and a new master key wraps the
    same key anew."""

    tenant = models.TextField(help_text="The tenant's schema name; 'public' for what belongs to the platform itself.")
    version = models.PositiveIntegerField()
    wrapped = models.BinaryField()
    master_key_id = models.TextField(help_text="The master key that it is wrapped by.")
    state = models.CharField(max_length=16, choices=KeyState, default=KeyState.ACTIVE)
    created_at = models.DateTimeField(auto_now_add=True)
    made_in = models.BigIntegerField(
        editable=False, help_text="The transaction that made it: inside of it, the key is not certain to stay."
    )

    class Meta:
        ordering = ["tenant", "version"]
        constraints = [
            models.UniqueConstraint(fields=["tenant", "version"], name="one_data_key_per_version"),
            models.UniqueConstraint(fields=["tenant"], condition=Q(state="active"), name="one_active_data_key"),
        ]

    def __str__(self) -> str:
        return f"{self.tenant} {self.version} ({self.state})"
