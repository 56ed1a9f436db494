"""How the people of a tenant may sign in, and the programs that act for it by OAuth. Rows of the public schema."""

from django.db import models

from tenants.permissions import Role


class SingleSignOn(models.Model):
    """A tenant's own OpenID Connect provider."""

    tenant = models.OneToOneField("tenants.Tenant", models.CASCADE, related_name="single_sign_on")
    public_id = models.CharField(max_length=32, unique=True, editable=False)
    issuer = models.URLField(max_length=500)
    client_id = models.CharField(max_length=191)
    sealed_secret = models.BinaryField(editable=False)
    default_role = models.CharField(max_length=16, choices=Role, default=Role.VIEWER)
    required = models.BooleanField(default=False, help_text="Everybody but owners has to sign in this way.")
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)

    def __str__(self) -> str:
        return f"single sign-on of {self.tenant_id} at {self.issuer}"


class EmailDomain(models.Model):
    """An e-mail domain whose people a tenant's provider may vouch for, once the domain is proven to be the tenant's."""

    tenant = models.ForeignKey("tenants.Tenant", models.CASCADE, related_name="email_domains")
    domain = models.CharField(max_length=253)
    token = models.CharField(max_length=64, editable=False)
    created_at = models.DateTimeField(auto_now_add=True)
    verified_at = models.DateTimeField(null=True, editable=False)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["tenant", "domain"], name="email_domain_once_per_tenant")]

    def __str__(self) -> str:
        return f"{self.domain} of {self.tenant_id}"


class OAuthClient(models.Model):
    """A program of a tenant that fetches access tokens by its client credentials. Secrets are kept as hashes."""

    tenant = models.ForeignKey("tenants.Tenant", models.CASCADE, related_name="oauth_clients")
    client_id = models.CharField(max_length=40, unique=True, editable=False)
    name = models.CharField(max_length=200)
    scopes = models.JSONField(default=list)
    secret_hash = models.CharField(max_length=64, editable=False)
    previous_secret_hash = models.CharField(max_length=64, blank=True, editable=False)
    previous_expires_at = models.DateTimeField(null=True, editable=False)
    created_at = models.DateTimeField(auto_now_add=True)
    rotated_at = models.DateTimeField(null=True, editable=False)
    last_used_at = models.DateTimeField(null=True, editable=False)
    revoked_at = models.DateTimeField(null=True, editable=False)

    class Meta:
        verbose_name = "OAuth client"

    def __str__(self) -> str:
        return f"{self.name} ({self.client_id})"


class SigningKey(models.Model):
    """Signs access tokens while it is the newest one, and proves them until ``expires_at``. ES256."""

    kid = models.CharField(max_length=43, unique=True, editable=False)
    sealed_private_key = models.BinaryField(editable=False)
    public_jwk = models.JSONField(editable=False)
    created_at = models.DateTimeField(auto_now_add=True)
    expires_at = models.DateTimeField(null=True, editable=False)

    def __str__(self) -> str:
        return self.kid
