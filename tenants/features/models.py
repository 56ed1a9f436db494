"""What operators have said about features."""

from django.db import models

from tenants.models import Tenant


class Setting(models.Model):
    """Whether a feature is on: for one tenant, or without a tenant for all that have no setting of their own."""

    feature = models.CharField(max_length=63)
    tenant = models.ForeignKey(Tenant, models.CASCADE, null=True, blank=True, related_name="features")
    is_enabled = models.BooleanField()
    set_by = models.TextField(editable=False)
    set_at = models.DateTimeField(editable=False)

    class Meta:
        ordering = ["feature", "tenant_id"]
        constraints = [
            models.UniqueConstraint(
                fields=["feature", "tenant"], name="one_setting_per_feature_and_tenant", nulls_distinct=False
            )
        ]

    def __str__(self) -> str:
        return f"{self.feature}: {'on' if self.is_enabled else 'off'}"
