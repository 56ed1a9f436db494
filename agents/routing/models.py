"""Which agent takes a call that names none: the tenant's rules, in their order."""

import uuid

from django.db import models


class RoutingRule(models.Model):
    """``conditions`` as ``agents.routing.matching.read_conditions`` reads them; ``agent`` is a slug."""

    # Admin's log is shared between tenants and refers to rows by id alone, so ids never repeat across schemas.
    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    position = models.PositiveIntegerField(help_text="Rules are read from 0 on; the first that holds wins.")
    name = models.CharField(max_length=200)
    is_enabled = models.BooleanField(default=True)
    agent = models.CharField(max_length=63, help_text="The agent who takes the call, by its slug.")
    conditions = models.JSONField(
        default=dict, blank=True, help_text="All must hold: channels, hours, attributes, languages, intent."
    )
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        ordering = ["position"]
        constraints = [
            models.UniqueConstraint(
                fields=["position"], name="one_routing_rule_per_position", deferrable=models.Deferrable.DEFERRED
            )
        ]

    def __str__(self) -> str:
        return self.name
