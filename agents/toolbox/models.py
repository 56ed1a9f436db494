"""A tenant's tools, the MCP servers it uses, and the credentials of both."""

import uuid
from typing import Any

from django.core.validators import MaxLengthValidator, MaxValueValidator, MinValueValidator, RegexValidator
from django.db import models

from tenants.encryption.fields import EncryptedJSONField

NAME = RegexValidator(r"^[a-zA-Z0-9_-]{1,64}\Z", "Use 1 to 64 letters, digits, '-' and '_'.")
LABEL = RegexValidator(r"^[A-Za-z0-9][A-Za-z0-9_-]{0,62}\Z", "Use 1 to 63 letters, digits, '-' and '_'.")
DESCRIPTION_CHARACTERS = 1_024
LONGEST_MS = 30_000
MOST_CALLS_PER_MINUTE = 10_000


class CredentialKind(models.TextChoices):
    API_KEY = "api_key", "API key in a header or the query"
    BEARER = "bearer", "bearer token"
    BASIC = "basic", "user and password"
    OAUTH2 = "oauth2_client_credentials", "OAuth 2.0 client credentials"
    JWT = "jwt", "JWT signed for each call"


def no_parameters() -> dict[str, Any]:
    return {"type": "object", "properties": {}, "required": []}


class Timed(models.Model):
    """How long a call of it may take and how often it is called, over all of the tenant's calls."""

    timeout_ms = models.PositiveIntegerField(
        default=10_000,
        validators=[MinValueValidator(100), MaxValueValidator(LONGEST_MS)],
        help_text="After so many milliseconds the call has failed.",
    )
    calls_per_minute = models.PositiveIntegerField(
        null=True,
        blank=True,
        validators=[MinValueValidator(1), MaxValueValidator(MOST_CALLS_PER_MINUTE)],
        help_text="How often its integration is called in a minute; null for no limit of its own.",
    )
    is_enabled = models.BooleanField(
        default=True, help_text="Off: no agent can be published with it, and calls that begin from now on lack it."
    )
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        abstract = True


class Credential(models.Model):
    """``config`` is what may be seen and ``secret`` what may not, both as ``agents.toolbox.credentials`` has them for
    each kind."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    name = models.CharField(max_length=64, unique=True, validators=[NAME], help_text="How tools name it.")
    kind = models.CharField(max_length=32, choices=CredentialKind)
    config = models.JSONField(default=dict, blank=True, help_text="What may be seen of it, by its kind.")
    secret = EncryptedJSONField()
    hosts = models.JSONField(
        default=list,
        blank=True,
        help_text="Where tools and MCP servers may send it: api.example.com, api.example.com:8443 or *.example.com, "
        "which is one level below; a host without a port is asked at 443. Empty for anywhere.",
    )
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name


class Tool(Timed):
    """An HTTP request that a model can have sent."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    name = models.CharField(max_length=64, unique=True, validators=[NAME], help_text="What a model calls.")
    description = models.TextField(
        blank=True,
        validators=[MaxLengthValidator(DESCRIPTION_CHARACTERS)],
        help_text="Tells the model what it does and when to use it.",
    )
    parameters = models.JSONField(
        default=no_parameters, help_text="What the model gives: a JSON Schema of type object."
    )
    request = models.JSONField(help_text="method, url, query, headers and body, with {{places}} for values.")
    response = models.JSONField(
        default=dict, blank=True, help_text="What the model reads of the answer: select, fields, max_characters."
    )
    integration = models.CharField(
        max_length=64,
        blank=True,
        validators=[NAME],
        help_text="Tools of one integration share their limit and their breaker; empty for the tool's own name.",
    )
    credential = models.ForeignKey(Credential, models.PROTECT, null=True, blank=True, related_name="tools")

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name


class McpServer(Timed):
    """A remote MCP server over streamable HTTP. ``allowed_tools`` and ``require_approval`` have OpenAI's shapes."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    label = models.CharField(max_length=63, unique=True, validators=[LABEL], help_text="How agents name it.")
    url = models.CharField(max_length=2_000)
    headers = EncryptedJSONField(default=dict)
    credential = models.ForeignKey(Credential, models.PROTECT, null=True, blank=True, related_name="mcp_servers")
    allowed_tools = models.JSONField(
        null=True, blank=True, default=None, help_text="Names, or {read_only, tool_names}; null for all of its tools."
    )
    require_approval = models.JSONField(
        default=None, null=True, blank=True, help_text="always, never, or {always, never} with filters; null: always."
    )

    class Meta:
        ordering = ["label"]
        verbose_name = "MCP server"

    def __str__(self) -> str:
        return self.label
