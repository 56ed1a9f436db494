"""Limits of single end users, in the tenant's own schema: who they are is the tenant's, and goes with it."""

from django.db import models


class EndUserLimits(models.Model):
    """``limits`` has the names of ``tenants.limits.names``; what it does not name is the tenant's."""

    public_id = models.CharField(max_length=32, unique=True, editable=False)
    end_user = models.TextField(unique=True)
    limits = models.JSONField(default=dict)
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        verbose_name = verbose_name_plural = "limits of an end user"

    def __str__(self) -> str:
        return self.public_id
