"""What django-allauth asks of this product."""

import base64
from typing import Any

from allauth.account.adapter import DefaultAccountAdapter
from allauth.core.exceptions import ImmediateHttpResponse
from allauth.mfa.adapter import DefaultMFAAdapter
from allauth.socialaccount.adapter import DefaultSocialAccountAdapter
from allauth.socialaccount.models import SocialApp, SocialLogin
from django.conf import settings
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest
from django.shortcuts import render
from django_tenants.utils import get_public_schema_name

from tenants.addresses import request_address
from tenants.encryption.sealing import seal, unseal
from tenants.people import sign_on
from tenants.people.connecting import PublicSession
from tenants.people.queries import find_sign_on
from tenants.people.receivers import note_sign_in_failed
from tenants.people.standing import host_tenant

SUBJECT_CHARACTERS = 191
MFA_PURPOSE = "people.mfa.secret"


class AccountAdapter(DefaultAccountAdapter):
    def is_open_for_signup(self, request: HttpRequest) -> bool:
        return settings.OPEN_SIGNUP

    def get_client_ip(self, request: HttpRequest) -> str:
        return request_address(request)

    def authentication_failed(self, request: HttpRequest, **credentials: Any) -> None:
        note_sign_in_failed(request, credentials.get("email") or "", "password")


class MfaAdapter(DefaultMFAAdapter):
    """Secrets of authenticators are people's, who belong to no single tenant: sealed under the platform's own key."""

    def encrypt(self, text: str) -> str:
        return base64.b64encode(seal(get_public_schema_name(), text.encode(), purpose=MFA_PURPOSE)).decode()

    def decrypt(self, encrypted_text: str) -> str:
        sealed = base64.b64decode(encrypted_text)
        return unseal(get_public_schema_name(), sealed, purpose=MFA_PURPOSE).decode()


class SingleSignOnAdapter(DefaultSocialAccountAdapter):
    """A tenant's identity provider, from its configuration to the person that it vouches for.

    Nothing is left to allauth's own rules of who may sign up or whom an e-mail address connects to: ``sign_on.admit``
    decides.
    """

    def list_apps(self, request: HttpRequest, provider: str | None = None, client_id: str | None = None) -> list[Any]:
        connection = find_sign_on(provider) if provider else None
        own = host_tenant(request)
        if connection is None or (own is not None and own.pk != connection.tenant_id):
            return []
        return [
            SocialApp(
                provider="openid_connect",
                provider_id=connection.public_id,
                name=connection.tenant.name[:40],
                client_id=connection.client_id,
                secret=sign_on.open_secret(connection),
                settings={"server_url": connection.issuer, "oauth_pkce_enabled": True},
            )
        ]

    def get_requests_session(self) -> PublicSession:
        return PublicSession(settings.SSO_TIMEOUT_S)

    def populate_user(self, request: HttpRequest, sociallogin: SocialLogin, data: dict[str, Any]) -> Any:
        """Before anything is looked up: what cannot be stored as a subject is none. OpenID Connect allows 255
        characters, and allauth's column holds 191."""
        subject = sociallogin.account.uid
        if not subject.isprintable() or not 0 < len(subject) <= SUBJECT_CHARACTERS:
            raise PermissionDenied
        return sociallogin.user

    def authenticate_by_email(self, sociallogin: SocialLogin) -> None:
        return None

    def pre_social_login(self, request: HttpRequest, sociallogin: SocialLogin) -> None:
        connection = find_sign_on(sociallogin.account.provider)
        try:
            if connection is None or sociallogin.state.get("process") != "login":
                raise sign_on.SignOnRefused("This single sign-on is not available.")
            claims = sociallogin.account.extra_data
            account = sign_on.admit(connection=connection, subject=sociallogin.account.uid, claims=claims)
        except sign_on.SignOnRefused as refusal:
            note_sign_in_failed(request, refusal.email, "single_sign_on", connection)
            page = render(request, "socialaccount/refused.html", {"refusal": refusal}, status=403)
            raise ImmediateHttpResponse(page) from refusal
        sociallogin.account, sociallogin.user = account, account.user
