"""What django-allauth tells of sign-ins and authenticators, into the audit log.

In the log of the tenant whose host it happened on, or whose single sign-on it was; else in the platform's. An e-mail
address that somebody merely typed is kept as a keyed hash.
"""

from typing import Any

from allauth.account import signals as account
from allauth.mfa import signals as mfa
from allauth.mfa.models import Authenticator
from django.contrib.auth.signals import user_logged_out
from django.dispatch import receiver
from django.http import HttpRequest

from tenants.addresses import request_address
from tenants.audit.operations import record
from tenants.models import SingleSignOn, User
from tenants.people.queries import find_sign_on, hide_email
from tenants.people.standing import host_tenant
from tenants.principal import Principal


def _record(
    request: HttpRequest, user: User | None, action: str, after: dict[str, Any] | None = None,
    connection: SingleSignOn | None = None, target: str = "",
) -> None:  # fmt: skip
    tenant = connection.tenant if connection else host_tenant(request)
    schema = tenant.schema_name if tenant else ""
    address = request_address(request)
    if user is not None and user.pk:
        actor = Principal("person", str(user.pk), user.name or f"person {user.pk}", schema, address=address)
    else:
        actor = Principal("person", "", "unknown", schema, address=address)
    record(action=action, target=target or actor.id, after=after, tenant=schema, actor=actor)


def note_sign_in_failed(
    request: HttpRequest, email: str, method: str, connection: SingleSignOn | None = None
) -> None:  # fmt: skip
    """``email`` is what was typed or claimed, empty when nothing was."""
    _record(request, None, "sign_in.failed", {"method": method}, connection, target=hide_email(email) if email else "")


@receiver(account.user_logged_in)
def note_sign_in(request: HttpRequest, user: User, sociallogin: Any = None, **_: Any) -> None:
    connection = find_sign_on(sociallogin.account.provider) if sociallogin else None
    method = "single_sign_on" if sociallogin else "password_or_passkey"
    _record(request, user, "sign_in.succeeded", {"method": method}, connection)


@receiver(user_logged_out)
def note_sign_out(request: HttpRequest, user: User | None, **_: Any) -> None:
    if user is not None:
        _record(request, user, "sign_out.done")


@receiver(mfa.authentication_failed)
def note_code_refused(request: HttpRequest, user: User, **_: Any) -> None:
    _record(request, user, "sign_in.failed", {"method": "second_factor"})


@receiver(mfa.authenticator_added)
def note_authenticator_added(request: HttpRequest, user: User, authenticator: Authenticator, **_: Any) -> None:
    _record(request, user, "second_factor.added", {"type": str(authenticator.type)})


@receiver(mfa.authenticator_removed)
def note_authenticator_removed(request: HttpRequest, user: User, authenticator: Authenticator, **_: Any) -> None:
    _record(request, user, "second_factor.removed", {"type": str(authenticator.type)})


@receiver(mfa.authenticator_reset)
def note_authenticator_reset(request: HttpRequest, user: User, authenticator: Authenticator, **_: Any) -> None:
    _record(request, user, "second_factor.reset", {"type": str(authenticator.type)})


@receiver(account.password_changed)
@receiver(account.password_set)
def note_password_changed(request: HttpRequest, user: User, **_: Any) -> None:
    _record(request, user, "password.changed")


@receiver(account.password_reset)
def note_password_reset(request: HttpRequest, user: User, **_: Any) -> None:
    _record(request, user, "password.reset")


@receiver(account.email_changed)
def note_email_changed(request: HttpRequest, user: User, **_: Any) -> None:
    _record(request, user, "email.changed")


@receiver(account.user_signed_up)
def note_sign_up(request: HttpRequest, user: User, **_: Any) -> None:
    _record(request, user, "person.signed_up")
