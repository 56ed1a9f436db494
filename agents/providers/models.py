"""A tenant's own ways to language models."""

import uuid

from django.core.validators import RegexValidator
from django.db import models

from agents.providers.kinds import Kind, check_base_url
from tenants.encryption.fields import EncryptedJSONField


class Provider(models.Model):
    """Agents name it as ``provider/model``. One of a platform provider's name takes its place in this tenant."""

    # Admin's log is shared between tenants and refers to rows by id alone, so ids never repeat across schemas.
    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    name = models.CharField(
        max_length=63,
        unique=True,
        validators=[
            RegexValidator(
                r"^[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\Z",
                "Use 1 to 63 lower-case letters, digits and hyphens, with a letter or digit at both ends.",
            )
        ],
        help_text="How agents name it: provider/model.",
    )
    kind = models.CharField(max_length=32, choices=Kind.choices, help_text="Which API it speaks.")
    base_url = models.CharField(
        max_length=500,
        blank=True,
        validators=[check_base_url],
        help_text="Where it is asked, with its /v1; empty for the kind's own address.",
    )
    credentials = EncryptedJSONField(default=dict)
    credentials_set = models.JSONField(
        default=list, editable=False, help_text="The names of its credentials: lists open none."
    )
    model = models.CharField(max_length=200, blank=True, help_text="Answers where an agent names the provider alone.")
    sees = models.BooleanField(default=True, help_text="Its models take images.")
    is_enabled = models.BooleanField(default=True, help_text="Off: it is not asked, and the next of a chain is.")
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name
