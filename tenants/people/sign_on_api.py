"""``/api/v1/sso/``: how the tenant's people sign in by its own OpenID Connect provider.

Whoever sets the provider decides who can sign in as whom, owners included; so this is the owners' alone.
"""

from django.http import Http404
from django.urls import reverse
from drf_spectacular.utils import extend_schema
from rest_framework import status
from rest_framework.request import Request
from rest_framework.response import Response

from tenants.api.pages import answer_page
from tenants.api.shapes import PageQuery
from tenants.models import EmailDomain, SingleSignOn
from tenants.people import sign_on
from tenants.people.doors import attempt, own_tenant, read_body
from tenants.people.serializers import (
    EmailDomainSerializer,
    EmptySerializer,
    NewEmailDomainSerializer,
    SingleSignOnChangeSerializer,
    SingleSignOnSerializer,
)
from tenants.permissions import Scope
from tenants.rest import Pages, TenantAPIView


class OwnSingleSignOn(TenantAPIView):
    read_scope = Scope.SETTINGS_READ
    write_scope = Scope.SSO_WRITE
    serializer_class = SingleSignOnSerializer

    def find(self) -> SingleSignOn:
        found = SingleSignOn.objects.select_related("tenant").filter(tenant__schema_name=self.principal.tenant).first()
        if found is None:
            raise Http404("No single sign-on is set; PUT makes one.")
        return found

    def show(self, found: SingleSignOn) -> Response:
        callback = reverse("openid_connect_callback", args=[found.public_id])
        found.redirect_uri = self.request.build_absolute_uri(callback)
        found.sign_in_url = self.request.build_absolute_uri(reverse("people_sign_on", args=[found.tenant.slug]))
        return Response(SingleSignOnSerializer(found).data)

    @extend_schema(operation_id="get_single_sign_on")
    def get(self, request: Request) -> Response:
        """The provider, without its secret, and what has to be registered there."""
        self.refuse_unknown(set())
        return self.show(self.find())

    @extend_schema(operation_id="set_single_sign_on", request=SingleSignOnChangeSerializer)
    def put(self, request: Request) -> Response:
        """Set the provider. With another ``issuer`` it is another one: sessions that the old one opened end, and
        ``redirect_uri`` changes. Without ``client_secret`` the present one stays."""
        fields = read_body(request, SingleSignOnChangeSerializer)
        fields.setdefault("client_secret", None)
        attempt(sign_on.configure, tenant=own_tenant(), **fields)
        return self.show(self.find())

    @extend_schema(operation_id="remove_single_sign_on", responses={204: None})
    def delete(self, request: Request) -> Response:
        """Sessions that it opened end. People stay members; without a password they need to reset it."""
        sign_on.remove(connection=self.find())
        return Response(status=status.HTTP_204_NO_CONTENT)


class EmailDomainPages(Pages):
    ordering = ("domain", "pk")


class EmailDomainView(TenantAPIView):
    read_scope = Scope.SETTINGS_READ
    write_scope = Scope.SSO_WRITE
    serializer_class = EmailDomainSerializer

    def find(self, domain: str) -> EmailDomain:
        own = EmailDomain.objects.select_related("tenant").filter(tenant__schema_name=self.principal.tenant)
        found = own.filter(domain=domain.lower()).first()
        if found is None:
            raise Http404(f"There is no e-mail domain {domain!r}.")
        return found


class EmailDomains(EmailDomainView):
    pagination_class = EmailDomainPages

    @extend_schema(
        operation_id="list_email_domains", parameters=[PageQuery], responses=EmailDomainSerializer(many=True)
    )
    def get(self, request: Request) -> Response:
        """Domains whose people the provider may vouch for, once they are verified."""
        self.read_query(PageQuery)
        own = EmailDomain.objects.filter(tenant__schema_name=self.principal.tenant)
        return answer_page(self, own, EmailDomainSerializer)

    @extend_schema(
        operation_id="add_email_domain", request=NewEmailDomainSerializer, responses={201: EmailDomainSerializer}
    )
    def post(self, request: Request) -> Response:
        """Set the TXT record that the answer shows, then verify the domain."""
        fields = read_body(request, NewEmailDomainSerializer)
        added = attempt(sign_on.add_domain, tenant=own_tenant(), **fields)
        return Response(EmailDomainSerializer(added).data, status=status.HTTP_201_CREATED)


class OneEmailDomain(EmailDomainView):
    @extend_schema(operation_id="get_email_domain")
    def get(self, request: Request, domain: str) -> Response:
        self.refuse_unknown(set())
        return Response(EmailDomainSerializer(self.find(domain)).data)

    @extend_schema(operation_id="remove_email_domain", responses={204: None})
    def delete(self, request: Request, domain: str) -> Response:
        """Its people stay members, but the provider does not vouch for them any more."""
        sign_on.remove_domain(domain=self.find(domain))
        return Response(status=status.HTTP_204_NO_CONTENT)


class Verification(EmailDomainView):
    @extend_schema(operation_id="verify_email_domain", request=EmptySerializer)
    def post(self, request: Request, domain: str) -> Response:
        """Looks for the TXT record in the DNS."""
        read_body(request, EmptySerializer)
        proven = attempt(sign_on.prove_domain, domain=self.find(domain))
        return Response(EmailDomainSerializer(proven).data)
