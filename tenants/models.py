"""Who owns what: tenants with their schemas, their host names, their keys, and people with their memberships."""

from typing import Any, ClassVar

from django.contrib.auth.base_user import AbstractBaseUser, BaseUserManager
from django.contrib.auth.models import PermissionsMixin
from django.core.validators import RegexValidator
from django.db import models
from django.db.models.functions import Lower
from django_tenants.models import DomainMixin, TenantMixin

from tenants.permissions import Role

SLUG = RegexValidator(
    r"^[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\Z",
    "Use 1 to 63 lower-case letters, digits and hyphens, with a letter or digit at both ends.",
)


class Plan(models.Model):
    """What a tenant may use. ``limits`` has the names of ``tenants.limits``; what it does not name has the default."""

    slug = models.CharField(max_length=63, unique=True, validators=[SLUG])
    name = models.CharField(max_length=200)
    limits = models.JSONField(default=dict, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        return self.name


class TenantStatus(models.TextChoices):
    CREATING = "creating", "its schema is being made"
    ACTIVE = "active", "serves calls"
    SUSPENDED = "suspended", "opens nothing, keeps everything"
    DELETING = "deleting", "will be erased when its grace period ends"


class Tenant(TenantMixin):
    """One customer. Its rows live in the PostgreSQL schema ``schema_name``; Redis keys carry the same name."""

    slug = models.CharField(max_length=63, unique=True, validators=[SLUG])
    name = models.CharField(max_length=200)
    plan = models.ForeignKey(Plan, models.PROTECT, null=True, blank=True, related_name="tenants")
    status = models.CharField(max_length=16, choices=TenantStatus, default=TenantStatus.ACTIVE, editable=False)
    status_reason = models.TextField(blank=True, editable=False)
    status_changed_at = models.DateTimeField(null=True, editable=False)
    status_before = models.CharField(
        max_length=16, choices=TenantStatus, blank=True, editable=False, help_text="What a cancelled deletion restores."
    )
    delete_after = models.DateTimeField(null=True, editable=False, help_text="When a deletion's grace period ends.")
    work_step = models.TextField(
        blank=True, editable=False, help_text="What is being done to its schema, such as agents.0001_initial."
    )
    work_done = models.PositiveIntegerField(default=0, editable=False, help_text="Steps that are done.")
    work_total = models.PositiveIntegerField(default=0, editable=False, help_text="Steps that there are.")
    work_error = models.TextField(blank=True, editable=False, help_text="Why the work stands still.")
    work_at = models.DateTimeField(null=True, editable=False, help_text="When the work last went on.")
    erasure = models.JSONField(
        null=True, editable=False, help_text="What was there when its erasure began, counted by each eraser."
    )
    limits = models.JSONField(default=dict, blank=True, help_text="Overrides of the plan's limits.")
    cors_origins = models.JSONField(default=list, blank=True, help_text="Web origins that may call the REST API.")
    retention_days = models.PositiveIntegerField(
        null=True, blank=True, help_text="Days that conversations are kept; empty for the platform's default."
    )
    created_at = models.DateTimeField(auto_now_add=True)

    # ``tenants.lifecycle.building`` makes the schema, and what was begun can be seen and resumed.
    auto_create_schema = False

    def __str__(self) -> str:
        return self.name


class Domain(DomainMixin):
    """A host name that leads to a tenant's pages."""


class Users(BaseUserManager["User"]):
    def create_user(self, email: str, password: str | None = None, **extra: Any) -> "User":
        if "@" not in email:
            raise ValueError(f"An e-mail address has an @; got {email!r}.")
        user = self.model(email=email.lower(), **extra)
        user.set_password(password)
        user.save(using=self._db)
        # Whoever makes a person in this way answers for the address; who signs up is asked to prove it.
        user.emailaddress_set.create(email=user.email, verified=True, primary=True)
        return user

    def create_superuser(self, email: str, password: str | None = None, **extra: Any) -> "User":
        return self.create_user(email, password, is_superuser=True, **extra)

    def get_by_natural_key(self, username: str | None) -> "User":
        return self.get(email=(username or "").lower())


class User(AbstractBaseUser, PermissionsMixin):
    """A person, who may belong to several tenants. ``is_superuser`` means platform operator, and opens no tenant."""

    email = models.EmailField(unique=True)
    name = models.CharField(max_length=200, blank=True)
    is_active = models.BooleanField(default=True)
    date_joined = models.DateTimeField(auto_now_add=True)

    objects: ClassVar[Users] = Users()
    USERNAME_FIELD = "email"

    class Meta:
        constraints = [models.UniqueConstraint(Lower("email"), name="user_email_ignores_case")]

    def __str__(self) -> str:
        return self.email

    @property
    def is_staff(self) -> bool:
        return self.is_superuser


class Membership(models.Model):
    """A person's role in one tenant."""

    user = models.ForeignKey(User, models.CASCADE, related_name="memberships")
    tenant = models.ForeignKey(Tenant, models.CASCADE, related_name="memberships")
    role = models.CharField(max_length=16, choices=Role)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["user", "tenant"], name="one_membership_per_tenant")]

    def __str__(self) -> str:
        return f"{self.user_id} is {self.role} of {self.tenant_id}"


class Invitation(models.Model):
    """A person is asked to join a tenant. Only the hash of the link's token is kept."""

    tenant = models.ForeignKey(Tenant, models.CASCADE, related_name="invitations")
    email = models.EmailField()
    role = models.CharField(max_length=16, choices=Role)
    token_hash = models.CharField(max_length=64, unique=True, editable=False)
    invited_by = models.ForeignKey(User, models.SET_NULL, null=True, related_name="+")
    created_at = models.DateTimeField(auto_now_add=True)
    expires_at = models.DateTimeField()
    accepted_at = models.DateTimeField(null=True, editable=False)
    revoked_at = models.DateTimeField(null=True, editable=False)
    mailed_at = models.DateTimeField(null=True, editable=False)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                Lower("email"), "tenant", name="one_open_invitation",
                condition=models.Q(accepted_at=None, revoked_at=None),
            )
        ]  # fmt: skip

    def __str__(self) -> str:
        return f"invitation {self.pk} to {self.tenant_id}"


class ApiKey(models.Model):
    """A key of one tenant. Only the hash of the secret is kept; ``prefix`` is what people recognise it by."""

    tenant = models.ForeignKey(Tenant, models.CASCADE, related_name="api_keys")
    public_id = models.CharField(max_length=32, unique=True, editable=False)
    name = models.CharField(max_length=200)
    prefix = models.CharField(max_length=20, editable=False)
    secret_hash = models.CharField(max_length=64, unique=True, editable=False)
    scopes = models.JSONField(default=list)
    agent = models.CharField(max_length=63, blank=True, help_text="The agent for callers who name none; by slug.")
    allowed_networks = models.JSONField(
        default=list, blank=True, help_text="IP addresses and networks that may use the key; none: all may."
    )
    limits = models.JSONField(default=dict, blank=True, help_text="Overrides of the tenant's limits, never above them.")
    replaced_by = models.ForeignKey(
        "self", models.SET_NULL, null=True, blank=True, editable=False, related_name="replaces"
    )
    created_at = models.DateTimeField(auto_now_add=True)
    last_used_at = models.DateTimeField(null=True, editable=False)
    expires_at = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True, editable=False)

    class Meta:
        verbose_name = "API key"

    def __str__(self) -> str:
        return f"{self.name} ({self.prefix}…)"


class PlatformKey(models.Model):
    """A key for programs that run the installation: it makes and deletes tenants, and opens nothing inside any."""

    public_id = models.CharField(max_length=32, unique=True, editable=False)
    name = models.CharField(max_length=200)
    prefix = models.CharField(max_length=20, editable=False)
    secret_hash = models.CharField(max_length=64, unique=True, editable=False)
    scopes = models.JSONField(default=list)
    created_at = models.DateTimeField(auto_now_add=True)
    last_used_at = models.DateTimeField(null=True, editable=False)
    expires_at = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True, editable=False)

    def __str__(self) -> str:
        return f"{self.name} ({self.prefix}…)"


# Django finds the models of an app here.
from tenants.people.models import EmailDomain, OAuthClient, SigningKey, SingleSignOn  # noqa: E402, F401
