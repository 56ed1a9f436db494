"""``/api/v1/me/``, ``/api/v1/members/`` and ``/api/v1/invitations/``; ``/api/v1/tenants/{slug}/invitations/`` for
operators."""

from django.db import transaction
from django.http import Http404
from django.urls import reverse
from drf_spectacular.utils import extend_schema
from rest_framework import status
from rest_framework.exceptions import ErrorDetail
from rest_framework.permissions import BasePermission
from rest_framework.request import Request
from rest_framework.response import Response

from tenants.api.pages import answer_page
from tenants.api.shapes import PageQuery
from tenants.lifecycle.queries import TenantUnknown, find_tenant
from tenants.limits.throttle import require_room
from tenants.models import Invitation, Membership, Tenant
from tenants.people import invitations, operations, queries
from tenants.people.doors import Forbidden, asks_as_owner, attempt, own_tenant, read_body
from tenants.people.mail import mail_invitation
from tenants.people.serializers import (
    ChoiceSerializer,
    EmptySerializer,
    InvitationSerializer,
    MemberSerializer,
    MeSerializer,
    NewInvitationSerializer,
    RoleSerializer,
)
from tenants.people.standing import CHOSEN, Standing, StandingRefused, choose_tenant, find_standing
from tenants.permissions import Scope
from tenants.principal import Principal
from tenants.rest import Pages, PlatformAPIView, TenantAPIView


class SignedIn(BasePermission):
    """Whoever it is, with whatever scopes."""

    def has_permission(self, request: Request, view: object) -> bool:
        return isinstance(request.auth, Principal)


class Me(TenantAPIView):
    permission_classes = [SignedIn]
    needs_tenant = False
    serializer_class = MeSerializer

    def person(self, request: Request) -> Standing:
        standing = find_standing(request._request) if self.principal.kind in ("person", "operator") else None
        if standing is None:
            words = "A key or an OAuth client belongs to one tenant and cannot choose; people can."
            raise Forbidden({"tenant": [ErrorDetail(words, "person_required")]})
        return standing

    @extend_schema(operation_id="get_me", responses=MeSerializer)
    def get(self, request: Request) -> Response:
        """Who signed in, in which tenant they act, and what they may do there."""
        self.refuse_unknown(set())
        return self.represent()

    def represent(self) -> Response:
        principal = self.principal
        shown = {
            "kind": principal.kind, "id": principal.id, "name": principal.name, "email": None, "tenant": None,
            "role": None, "scopes": sorted(principal.scopes), "refusal": None, "tenants": [],
        }  # fmt: skip
        if principal.kind not in ("person", "operator"):
            if principal.tenant:
                shown["tenant"] = Tenant.objects.values_list("slug", flat=True).get(schema_name=principal.tenant)
            return Response(MeSerializer(shown).data)
        standing = find_standing(self.request._request)
        belongs = queries.memberships_of(standing.user)
        if standing.bound_to is not None:
            # Another tenant's provider opened this session: where else the person belongs is not for it to know.
            belongs = belongs.filter(tenant=standing.bound_to)
        shown |= {"email": standing.user.email, "role": standing.role, "tenants": belongs}
        shown["tenant"] = standing.tenant.slug if standing.tenant else None
        shown["refusal"] = standing.refusal.message if standing.refusal and principal.kind == "person" else None
        return Response(MeSerializer(shown).data)

    @extend_schema(operation_id="choose_tenant", request=ChoiceSerializer, responses=MeSerializer)
    def patch(self, request: Request) -> Response:
        """Choose the tenant that this session acts in; on a tenant's own host it is that one. ``null`` lays the choice
        down."""
        self.person(request)
        slug = read_body(request, ChoiceSerializer).get("tenant")
        session = request._request.session
        if slug is None:
            session.pop(CHOSEN, None)
            del request._request.standing
        else:
            try:
                choose_tenant(request._request, slug)
            except StandingRefused as error:
                raise Forbidden({"tenant": [ErrorDetail(error.message, error.code)]}) from error
        address = self.principal.address
        request.auth = find_standing(request._request).principal(address)
        return self.represent()


class Leave(TenantAPIView):
    permission_classes = [SignedIn]

    @extend_schema(operation_id="leave_tenant", request=EmptySerializer, responses={204: None})
    def post(self, request: Request) -> Response:
        """You do not belong to the tenant any more. The last owner cannot leave."""
        read_body(request, EmptySerializer)
        standing = find_standing(request._request) if self.principal.kind == "person" else None
        if standing is None or standing.tenant is None:
            words = "Only a person who belongs to the tenant can leave it."
            raise Forbidden({"tenant": [ErrorDetail(words, "person_required")]})
        membership = Membership.objects.get(user=standing.user, tenant=standing.tenant)
        attempt(operations.remove_member, membership=membership, as_owner=True)
        return Response(status=status.HTTP_204_NO_CONTENT)


class MemberPages(Pages):
    ordering = ("user__email", "pk")


class MemberView(TenantAPIView):
    read_scope = Scope.MEMBERS_READ
    write_scope = Scope.MEMBERS_WRITE
    serializer_class = MemberSerializer

    def find(self, person: int) -> Membership:
        membership = queries.members(self.principal.tenant).filter(user_id=person).first()
        if membership is None:
            raise Http404(f"No member {person} belongs to this tenant.")
        return membership


class Members(MemberView):
    pagination_class = MemberPages

    @extend_schema(operation_id="list_members", parameters=[PageQuery], responses=MemberSerializer(many=True))
    def get(self, request: Request) -> Response:
        """Who belongs to the tenant, by e-mail address, a page at a time."""
        self.read_query(PageQuery)
        return answer_page(self, queries.members(self.principal.tenant), MemberSerializer)


class OneMember(MemberView):
    @extend_schema(operation_id="get_member")
    def get(self, request: Request, person: int) -> Response:
        self.refuse_unknown(set())
        return Response(MemberSerializer(self.find(person)).data)

    @extend_schema(operation_id="change_member", request=RoleSerializer)
    def patch(self, request: Request, person: int) -> Response:
        """Another role, from the member's next request on. Only an owner makes owners and takes owners away."""
        membership = self.find(person)
        role = read_body(request, RoleSerializer)["role"]
        attempt(operations.change_role, membership=membership, role=role, as_owner=asks_as_owner(request))
        return Response(MemberSerializer(self.find(person)).data)

    @extend_schema(operation_id="remove_member", responses={204: None})
    def delete(self, request: Request, person: int) -> Response:
        """The member's sessions open nothing here at their next request. Other tenants of theirs are not touched."""
        attempt(operations.remove_member, membership=self.find(person), as_owner=asks_as_owner(request))
        return Response(status=status.HTTP_204_NO_CONTENT)


class InvitationPages(Pages):
    ordering = ("-created_at", "-id")


class InvitationView(TenantAPIView):
    read_scope = Scope.MEMBERS_READ
    write_scope = Scope.MEMBERS_WRITE
    serializer_class = InvitationSerializer

    def find(self, invitation: int) -> Invitation:
        found = queries.invitations(self.principal.tenant).filter(pk=invitation).first()
        if found is None:
            raise Http404(f"There is no invitation {invitation}.")
        return found


def mail(request: Request, invitation: Invitation, token: str) -> None:
    """As soon as the invitation is committed; the link leads to the host that was asked. Raises TooManyRequests and
    Unavailable."""
    require_room(invitations.mail_counters(invitation))
    link = request.build_absolute_uri(reverse("people_invitation", args=[token]))
    transaction.on_commit(lambda: mail_invitation(invitation, link))


class Invitations(InvitationView):
    pagination_class = InvitationPages

    @extend_schema(operation_id="list_invitations", parameters=[PageQuery], responses=InvitationSerializer(many=True))
    def get(self, request: Request) -> Response:
        """Open, accepted and revoked ones, newest first, a page at a time."""
        self.read_query(PageQuery)
        return answer_page(self, queries.invitations(self.principal.tenant), InvitationSerializer)

    @extend_schema(
        operation_id="create_invitation", request=NewInvitationSerializer, responses={201: InvitationSerializer}
    )
    def post(self, request: Request) -> Response:
        """A link is mailed to the address; ``mailed_at`` shows when, and stays null when it could not be."""
        fields = read_body(request, NewInvitationSerializer)
        inviter = request.user if self.principal.kind == "person" else None
        invitation, token = attempt(
            invitations.invite, tenant=own_tenant(), invited_by=inviter, as_owner=asks_as_owner(request), **fields
        )
        mail(request, invitation, token)
        return Response(InvitationSerializer(invitation).data, status=status.HTTP_201_CREATED)


class OneInvitation(InvitationView):
    @extend_schema(operation_id="get_invitation")
    def get(self, request: Request, invitation: int) -> Response:
        self.refuse_unknown(set())
        return Response(InvitationSerializer(self.find(invitation)).data)

    @extend_schema(operation_id="revoke_invitation", responses={204: None})
    def delete(self, request: Request, invitation: int) -> Response:
        """Its link opens nothing any more."""
        attempt(invitations.revoke, invitation=self.find(invitation))
        return Response(status=status.HTTP_204_NO_CONTENT)


class Resending(InvitationView):
    @extend_schema(operation_id="resend_invitation", request=EmptySerializer)
    def post(self, request: Request, invitation: int) -> Response:
        """A new link with a new term; the old link opens nothing any more."""
        read_body(request, EmptySerializer)
        renewed, token = attempt(invitations.resend, invitation=self.find(invitation), as_owner=asks_as_owner(request))
        mail(request, renewed, token)
        return Response(InvitationSerializer(renewed).data)


class TenantInvitations(PlatformAPIView):
    read_scope = write_scope = Scope.PLATFORM_TENANTS
    serializer_class = InvitationSerializer

    @extend_schema(
        operation_id="invite_to_tenant", request=NewInvitationSerializer, responses={201: InvitationSerializer}
    )
    def post(self, request: Request, slug: str) -> Response:
        """Into a tenant, as its first owner. A link is mailed to the address; ``mailed_at`` shows when in the tenant's
        own list. An open invitation for the same address ends."""
        fields = read_body(request, NewInvitationSerializer)
        try:
            tenant = find_tenant(slug)
        except TenantUnknown as error:
            raise Http404(error.message) from error
        invitation, token = attempt(invitations.invite_as_operator, tenant=tenant, **fields)
        mail(request, invitation, token)
        return Response(InvitationSerializer(invitation).data, status=status.HTTP_201_CREATED)
