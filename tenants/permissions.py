"""Who may do what: the one table that REST, the console, the admin and the sockets ask.

A **scope** names one thing that may be done. An API key or an OAuth client holds scopes; a person has the scopes of
their role in the tenant. Scopes that begin with ``platform:`` belong to platform operators alone and open no
tenant's rows.
"""

from django.db.models import TextChoices


class Scope(TextChoices):
    REALTIME = "realtime", "hold live calls"
    SPEECH = "speech", "turn text to speech and speech to text"
    AGENTS_READ = "agents:read", "read agents"
    AGENTS_WRITE = "agents:write", "change agents"
    CONVERSATIONS_READ = "conversations:read", "read conversations"
    CONVERSATIONS_WRITE = "conversations:write", "tag, hold and delete conversations"
    RECORDINGS_READ = "recordings:read", "listen to recordings"
    MEMBERS_READ = "members:read", "see who belongs to the tenant"
    MEMBERS_WRITE = "members:write", "invite people, change roles, remove people"
    KEYS_READ = "keys:read", "see API keys and OAuth clients, never their secrets"
    KEYS_WRITE = "keys:write", "make, rotate and revoke API keys and OAuth clients"
    LIMITS_READ = "limits:read", "see limits and what is left of them"
    LIMITS_WRITE = "limits:write", "lower limits of keys and end users"
    USAGE_READ = "usage:read", "see usage and cost"
    USAGE_WRITE = "usage:write", "set budgets"
    AUDIT_READ = "audit:read", "read and export the audit log"
    PRIVACY_WRITE = "privacy:write", "export and erase what is kept of an end user"
    SETTINGS_READ = "settings:read", "see the tenant's settings"
    SETTINGS_WRITE = "settings:write", "change the tenant's settings"
    SSO_WRITE = "sso:write", "change single sign-on, which decides who can sign in as whom"
    PLATFORM_TENANTS = "platform:tenants", "create, suspend and delete tenants"
    PLATFORM_PLANS = "platform:plans", "change plans, limits and prices"
    PLATFORM_AUDIT = "platform:audit", "read the platform's audit log"


PLATFORM_SCOPES = frozenset(scope for scope in Scope if scope.startswith("platform:"))
TENANT_SCOPES = frozenset(Scope) - PLATFORM_SCOPES


class Role(TextChoices):
    OWNER = "owner"
    ADMIN = "admin"
    DEVELOPER = "developer"
    SUPPORT = "support"
    VIEWER = "viewer"


_VIEWER = {Scope.AGENTS_READ, Scope.LIMITS_READ, Scope.USAGE_READ, Scope.SETTINGS_READ, Scope.MEMBERS_READ}
_SUPPORT = _VIEWER | {Scope.CONVERSATIONS_READ, Scope.CONVERSATIONS_WRITE, Scope.RECORDINGS_READ}
_DEVELOPER = _SUPPORT | {
    Scope.REALTIME, Scope.SPEECH, Scope.AGENTS_WRITE, Scope.KEYS_READ, Scope.KEYS_WRITE,
}  # fmt: skip
_ADMIN = _DEVELOPER | {
    Scope.MEMBERS_WRITE, Scope.LIMITS_WRITE, Scope.USAGE_WRITE, Scope.AUDIT_READ, Scope.PRIVACY_WRITE,
    Scope.SETTINGS_WRITE,
}  # fmt: skip

ROLE_SCOPES: dict[Role, frozenset[Scope]] = {
    Role.OWNER: TENANT_SCOPES,
    Role.ADMIN: frozenset(_ADMIN),
    Role.DEVELOPER: frozenset(_DEVELOPER),
    Role.SUPPORT: frozenset(_SUPPORT),
    Role.VIEWER: frozenset(_VIEWER),
}
"""An admin may do what an owner may, but for single sign-on: whoever sets a tenant's identity provider can sign in as
anybody there. And only an owner makes owners and takes owners away (``tenants.people.operations``)."""
