from django.urls import path, register_converter
from django.urls.converters import StringConverter

from tenants.people import api, sign_on_api
from tenants.people.oauth import api as oauth


class DomainConverter(StringConverter):
    regex = r"[\w.-]+"


register_converter(DomainConverter, "domain")

urlpatterns = [
    path("me/", api.Me.as_view(), name="me"),
    path("me/leave/", api.Leave.as_view(), name="leave"),
    path("members/", api.Members.as_view(), name="members"),
    path("members/<int:person>/", api.OneMember.as_view(), name="member"),
    path("invitations/", api.Invitations.as_view(), name="invitations"),
    path("invitations/<int:invitation>/", api.OneInvitation.as_view(), name="invitation"),
    path("invitations/<int:invitation>/resend/", api.Resending.as_view(), name="invitation_resend"),
    path("tenants/<slug:slug>/invitations/", api.TenantInvitations.as_view(), name="tenant_invitations"),
    path("sso/", sign_on_api.OwnSingleSignOn.as_view(), name="sso"),
    path("sso/domains/", sign_on_api.EmailDomains.as_view(), name="email_domains"),
    path("sso/domains/<domain:domain>/", sign_on_api.OneEmailDomain.as_view(), name="email_domain"),
    path("sso/domains/<domain:domain>/verify/", sign_on_api.Verification.as_view(), name="email_domain_verify"),
    path("oauth-clients/", oauth.OAuthClients.as_view(), name="oauth_clients"),
    path("oauth-clients/<slug:client_id>/", oauth.OneOAuthClient.as_view(), name="oauth_client"),
    path("oauth-clients/<slug:client_id>/rotate/", oauth.Rotation.as_view(), name="oauth_client_rotate"),
]
