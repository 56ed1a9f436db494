"""What can be done to OAuth clients. Each function is one transaction; refusals are named exceptions."""

import secrets
from collections.abc import Iterable
from datetime import timedelta

from django.conf import settings
from django.db import transaction
from django.db.models import Q, QuerySet
from django.utils import timezone

from tenants.access import announce
from tenants.audit.operations import record
from tenants.ended import AccessEnded
from tenants.errors import TenancyError
from tenants.keys.bounds import require_unbound
from tenants.keys.secret import ALPHABET, hash_secret
from tenants.models import OAuthClient, Tenant
from tenants.permissions import TENANT_SCOPES, Scope

SECRET_PREFIX = "avb_client_"  # noqa: S105  (what every secret begins with)
RANDOM_CHARACTERS = 40


class ClientScopesRefused(TenancyError):
    """A client can only hold scopes that exist, and that whoever gives them holds."""


class ClientsExhausted(TenancyError):
    """The tenant has as many clients as it may."""


class ClientGone(TenancyError):
    """The client was revoked; there is nothing left to change."""


def clients(schema: str) -> QuerySet[OAuthClient]:
    return OAuthClient.objects.filter(tenant__schema_name=schema).select_related("tenant")


@transaction.atomic
def create_client(
    *, tenant: Tenant, name: str, scopes: Iterable[str], held: frozenset[str] = TENANT_SCOPES
) -> tuple[OAuthClient, str]:
    """The client and its secret, which is shown this once. ``held``: the scopes of whoever gives them.

    Raises ClientScopesRefused, KeyBound or ClientsExhausted.
    """
    require_unbound()
    Tenant.objects.select_for_update().get(pk=tenant.pk)
    if OAuthClient.objects.filter(tenant=tenant, revoked_at=None).count() >= settings.OAUTH_CLIENTS:
        raise ClientsExhausted(f"A tenant has at most {settings.OAUTH_CLIENTS} clients; revoke one first.", "name")
    secret = _draw_secret()
    client = OAuthClient.objects.create(
        tenant=tenant,
        client_id="client_" + secrets.token_hex(12),
        name=name,
        scopes=_check_scopes(scopes, held),
        secret_hash=hash_secret(secret),
    )
    record(
        action="oauth_client.created", target=client.client_id, after={"name": name, "scopes": client.scopes},
        tenant=tenant.schema_name,
    )  # fmt: skip
    return client, secret


@transaction.atomic
def update_client(
    *, client: OAuthClient, name: str | None = None, scopes: Iterable[str] | None = None,
    held: frozenset[str] = TENANT_SCOPES,
) -> OAuthClient:  # fmt: skip
    """Tokens that are out lose the scopes that the client loses. Raises ClientScopesRefused, KeyBound or ClientGone."""
    client = _lock(client)
    before = {"name": client.name, "scopes": client.scopes}
    if scopes is not None:
        require_unbound()
        client.scopes = _check_scopes(scopes, held)
    client.name = client.name if name is None else name
    client.save(update_fields=["name", "scopes"])
    after = {"name": client.name, "scopes": client.scopes}
    record(
        action="oauth_client.updated", target=client.client_id, before=before, after=after,
        tenant=client.tenant.schema_name,
    )  # fmt: skip
    if Scope.REALTIME in set(before["scopes"]) - set(client.scopes):
        # REST asks at every request; a call asked once.
        announce(AccessEnded(tenant=client.tenant.schema_name, key_id=client.client_id, reason="oauth_client_revoked"))
    return client


@transaction.atomic
def rotate_client(*, client: OAuthClient, overlap_s: int, held: frozenset[str]) -> tuple[OAuthClient, str]:
    """A new secret; the old one goes on for ``overlap_s``. A rotation shows a secret that opens all the client's
    scopes, so whoever asks must hold them. Raises ClientScopesRefused, KeyBound or ClientGone."""
    require_unbound()
    client = _lock(client)
    _check_scopes(client.scopes, held)
    secret, now = _draw_secret(), timezone.now()
    client.previous_secret_hash = client.secret_hash if overlap_s else ""
    client.previous_expires_at = now + timedelta(seconds=overlap_s) if overlap_s else None
    client.secret_hash, client.rotated_at = hash_secret(secret), now
    client.save(update_fields=["previous_secret_hash", "previous_expires_at", "secret_hash", "rotated_at"])
    record(
        action="oauth_client.rotated", target=client.client_id, after={"overlap_s": overlap_s},
        tenant=client.tenant.schema_name,
    )  # fmt: skip
    return client, secret


@transaction.atomic
def revoke_client(*, client: OAuthClient) -> OAuthClient:
    """From now on neither its secret nor its tokens open anything, and its calls end. Twice keeps the first time."""
    client = OAuthClient.objects.select_for_update(of=("self",)).select_related("tenant").get(pk=client.pk)
    if client.revoked_at is None:
        client.revoked_at = timezone.now()
        client.save(update_fields=["revoked_at"])
        record(action="oauth_client.revoked", target=client.client_id, tenant=client.tenant.schema_name)
        announce(AccessEnded(tenant=client.tenant.schema_name, key_id=client.client_id, reason="oauth_client_revoked"))
    return client


def find_client_by_secret(client_id: str, secret: str) -> OAuthClient | None:
    """The client that the pair proves, its tenant loaded; none that was revoked."""
    if not client_id.isprintable():  # PostgreSQL takes no NUL, and no client is named so
        return None
    client = OAuthClient.objects.select_related("tenant").filter(client_id=client_id, revoked_at=None).first()
    if client is None:
        return None
    given = hash_secret(secret)
    good = secrets.compare_digest(given, client.secret_hash)
    if client.previous_expires_at and client.previous_expires_at > timezone.now():
        good |= secrets.compare_digest(given, client.previous_secret_hash)
    return client if good else None


def touch_client(*, client: OAuthClient) -> None:
    """Note that it fetched a token, at most once per ``AVB_API_KEY_TOUCH_INTERVAL_S``."""
    now = timezone.now()
    stale = now - timedelta(seconds=settings.API_KEY_TOUCH_INTERVAL_S)
    unused = Q(last_used_at=None) | Q(last_used_at__lte=stale)
    OAuthClient.objects.filter(unused, pk=client.pk).update(last_used_at=now)


def _lock(client: OAuthClient) -> OAuthClient:
    client = OAuthClient.objects.select_for_update(of=("self",)).select_related("tenant").get(pk=client.pk)
    if client.revoked_at:
        raise ClientGone("The client was revoked; make a new one.", "client_id")
    return client


def _check_scopes(scopes: Iterable[str], held: frozenset[str]) -> list[str]:
    wanted = set(scopes)
    if unknown := sorted(wanted - TENANT_SCOPES):
        words = f"There is no scope {unknown[0][:100]!r}; there are {', '.join(sorted(TENANT_SCOPES))}."
        raise ClientScopesRefused(words, "scopes")
    if beyond := sorted(wanted - held):
        raise ClientScopesRefused(f"You do not hold the scope {beyond[0]!r}, so you cannot give it.", "scopes")
    return sorted(wanted)


def _draw_secret() -> str:
    return SECRET_PREFIX + "".join(secrets.choice(ALPHABET) for _ in range(RANDOM_CHARACTERS))
