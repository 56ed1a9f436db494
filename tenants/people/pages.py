"""Pages of people beside django-allauth's own: where they act, invitations, and single sign-on."""

from allauth.account.utils import perform_login
from allauth.socialaccount.adapter import get_adapter
from django import forms
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.http import url_has_allowed_host_and_scheme
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_GET, require_http_methods, require_POST
from requests import RequestException

from tenants.addresses import platform_admin_url
from tenants.admin_site import ENTERING_ROLES
from tenants.errors import TenancyError
from tenants.models import SLUG, Invitation, Tenant
from tenants.people import invitations, queries
from tenants.people.standing import StandingRefused, choose_tenant, find_standing, host_tenant


class NewPersonForm(forms.Form):
    name = forms.CharField(max_length=200, widget=forms.TextInput(attrs={"autocomplete": "name"}))
    password = forms.CharField(
        max_length=4096, widget=forms.PasswordInput(attrs={"autocomplete": "new-password"}), strip=False
    )


class OrganisationForm(forms.Form):
    tenant = forms.CharField(
        label="Your organisation's short name", max_length=63, validators=[SLUG],
        widget=forms.TextInput(attrs={"autocomplete": "organization", "autocapitalize": "none", "spellcheck": "false"}),
    )  # fmt: skip


@require_GET
@login_required
def home(request: HttpRequest) -> HttpResponse:
    """Where the person belongs and acts, and the ways to their account."""
    standing = find_standing(request)
    belongs = queries.memberships_of(request.user)
    if standing.bound_to is not None:
        belongs = belongs.filter(tenant=standing.bound_to)
    shown = {
        "standing": standing,
        "memberships": belongs,
        "own_host": host_tenant(request),
        "may_enter": standing.role in ENTERING_ROLES,
        "platform_url": platform_admin_url(request),
    }
    return render(request, "people/home.html", shown)


@require_POST
@login_required
def choose(request: HttpRequest) -> HttpResponse:
    try:
        standing = choose_tenant(request, request.POST.get("tenant", "")[:63])
    except StandingRefused as refusal:
        messages.error(request, refusal.message)
    else:
        messages.success(request, f"You act in {standing.tenant.name} now.")
    return redirect("people_home")


@sensitive_post_parameters("password")
@require_http_methods(["GET", "POST"])
def invitation(request: HttpRequest, token: str) -> HttpResponse:
    """What an invitation's link opens: for the person it is for, for somebody else, and for somebody new.

    As long as the link is good the status is 200, whatever is wrong: Django logs the addresses of refused requests, and
    this one is a secret.
    """
    found = queries.find_invitation(token)
    if found is None:
        return render(request, "people/invitation_over.html", status=404)
    standing = find_standing(request)
    if standing is not None and standing.bound_to not in (None, found.tenant_id):
        return render(request, "people/invitation.html", {"invitation": found, "bound": True})
    has_account = queries.find_person(found.email) is not None
    shown = {"invitation": found, "has_account": has_account, "sign_on": queries.find_sign_on_of(found.tenant)}
    if standing is not None:
        shown["is_theirs"] = request.user.email.lower() == found.email.lower()
        if request.method == "POST" and shown["is_theirs"]:
            return _accept(request, found, token)
    elif not has_account:
        form = NewPersonForm(request.POST if request.method == "POST" else None)
        shown["form"] = form
        if request.method == "POST" and form.is_valid():
            try:
                user = invitations.accept_as_new(token=token, **form.cleaned_data)
            except TenancyError as refusal:
                form.add_error("password" if refusal.param == "password" else None, refusal.message)
            else:
                response = perform_login(request, user)
                choose_if_possible(request, found.tenant)
                return response
    return render(request, "people/invitation.html", shown)


def _accept(request: HttpRequest, found: Invitation, token: str) -> HttpResponse:
    try:
        invitations.accept(token=token, user=request.user)
    except TenancyError as refusal:
        return render(request, "people/invitation_over.html", {"refusal": refusal}, status=409)
    choose_if_possible(request, found.tenant)
    messages.success(request, f"Welcome to {found.tenant.name}.")
    return redirect("people_home")


def choose_if_possible(request: HttpRequest, tenant: Tenant) -> None:
    """Somebody who just joined acts there, unless more is asked of them first, as by single sign-on."""
    if request.user.is_authenticated:
        try:
            choose_tenant(request, tenant.slug)
        except StandingRefused:
            # The page that follows says what is missing.
            return


@require_http_methods(["GET", "POST"])
def find_sign_on(request: HttpRequest) -> HttpResponse:
    """Single sign-on begins with the name of the organisation; on a tenant's own host that is known."""
    if own := host_tenant(request):
        return redirect("people_sign_on", own.slug)
    form = OrganisationForm(request.POST if request.method == "POST" else None)
    if request.method == "POST" and form.is_valid():
        return redirect("people_sign_on", form.cleaned_data["tenant"])
    return render(request, "people/find_sign_on.html", {"form": form}, status=400 if form.errors else 200)


@require_http_methods(["GET", "POST"])
def sign_on(request: HttpRequest, slug: str) -> HttpResponse:
    """On POST the way to the tenant's provider.

    It is a page and no redirect: browsers that know ``form-action 'self'`` do not follow a form's redirect elsewhere.
    """
    tenant = Tenant.objects.filter(slug=slug).first()
    own = host_tenant(request)
    found = queries.find_sign_on_of(tenant) if tenant and own in (None, tenant) else None
    if found is None:
        # Whether there is such an organisation is not told.
        return render(request, "people/no_sign_on.html", {"slug": slug}, status=404)
    shown = {"tenant": tenant, "next": _next(request)}
    if request.method != "POST":
        return render(request, "people/sign_on.html", shown)
    try:
        provider = get_adapter(request).get_provider(request, provider=found.public_id)
        response = provider.redirect(request, process="login", next_url=shown["next"])
    except (RequestException, KeyError, ValueError):
        # It does not answer, or not with what OpenID Connect Discovery asks for.
        return render(request, "people/sign_on.html", shown | {"failed": True}, status=502)
    if not isinstance(response, HttpResponseRedirect):
        return response
    return render(request, "socialaccount/login_redirect.html", {"redirect_to": response.url, "tenant": tenant})


def begin_sign_on(request: HttpRequest, provider_id: str) -> HttpResponse:
    """django-allauth's address for it; ours is ``sign_on``."""
    found = queries.find_sign_on(provider_id)
    if found is None:
        raise Http404
    return redirect("people_sign_on", found.tenant.slug)


def _next(request: HttpRequest) -> str:
    asked = request.POST.get("next") or request.GET.get("next") or ""
    safe = url_has_allowed_host_and_scheme(asked, {request.get_host()}, require_https=request.is_secure())
    return asked if safe else reverse("people_home")
