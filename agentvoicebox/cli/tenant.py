"""``avb tenant``: the tenants of this installation, by the same operations as REST and the admin."""

import getpass
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from functools import wraps
from typing import Any

import click

from agentvoicebox.cli.manage import stack_environment
from agentvoicebox.stack.running import Run
from agentvoicebox.stack.state import REPOSITORY, state_dir
from tenants.platform_host import platform_address

POLL_S = 0.2


@click.group()
def command() -> None:
    """Create, suspend, delete and migrate tenants. Works on the running stack, or on DATABASE_URL and REDIS_URL."""


def operating(function: Callable[..., None]) -> Callable[..., None]:
    """Django set up, the person at the terminal as who acts, and refusals as one line."""

    @wraps(function)
    def run(*args: Any, **kwargs: Any) -> None:
        os.environ.update(stack_environment())
        os.environ.setdefault("DJANGO_SETTINGS_MODULE", "agentvoicebox.settings")
        os.environ.setdefault("AVB_SERVICE", "manage")
        os.environ["AVB_POSTGRES_POOL_SIZE"] = "0"
        import django

        django.setup()
        from django.db import OperationalError

        from tenants.errors import TenancyError
        from tenants.lifecycle.queries import TenantUnknown
        from tenants.permissions import PLATFORM_SCOPES
        from tenants.principal import Principal, acting_as

        name = getpass.getuser()
        try:
            with acting_as(Principal("operator", f"cli:{name}", f"{name} at the command line", "", PLATFORM_SCOPES)):
                function(*args, **kwargs)
        except (TenancyError, TenantUnknown) as error:
            raise click.ClickException(error.message) from error
        except OperationalError as error:
            words = "PostgreSQL does not answer; start the stack with ./avb up, or set DATABASE_URL"
            raise click.ClickException(f"{words} ({str(error).splitlines()[0]})") from error

    return run


@command.command()
@click.argument("slug")
@click.option("--name", help="what people call it; without it the slug")
@click.option("--plan", help="a plan's slug")
@click.option("--domain", "domains", multiple=True, help="a host name of its pages; may be given several times")
@click.option("--wait/--no-wait", default=True, show_default=True, help="show the progress until it is open")
@click.option("--timeout", "timeout_s", default=300.0, show_default=True, help="seconds to wait")
@operating
def create(
    slug: str, name: str | None, plan: str | None, domains: tuple[str, ...], wait: bool, timeout_s: float
) -> None:
    """Make a tenant. A worker makes its schema; when one is killed, the next goes on."""
    from tenants.lifecycle.operations import request_tenant
    from tenants.lifecycle.queue import ask_for_build

    tenant = request_tenant(slug=slug, name=name or slug, plan=plan, domains=domains)
    ask_for_build(tenant)
    click.echo(f"{slug} is being made; its schema is {tenant.schema_name}")
    if wait:
        _follow(slug, timeout_s)


@command.command()
@click.argument("slug")
@click.option("--wait/--no-wait", default=True, show_default=True, help="show the progress until it is open")
@click.option("--timeout", "timeout_s", default=300.0, show_default=True, help="seconds to wait")
@operating
def retry(slug: str, wait: bool, timeout_s: float) -> None:
    """Take up again a creation or an erasure that stands still at an error."""
    from tenants.lifecycle.operations import retry_tenant
    from tenants.lifecycle.queries import find_tenant
    from tenants.lifecycle.queue import ask_for_build
    from tenants.models import TenantStatus

    tenant = retry_tenant(tenant=find_tenant(slug))
    ask_for_build(tenant)
    if wait and tenant.status == TenantStatus.CREATING:
        _follow(slug, timeout_s)
    else:
        click.echo(f"{slug} is taken up again")


@command.command("list")
@click.option("--json", "as_json", is_flag=True, help="one JSON array")
@operating
def list_(as_json: bool) -> None:
    """All tenants, with what is being done to them."""
    from tenants.lifecycle.queries import all_tenants

    shown = [_shape(tenant) for tenant in all_tenants().order_by("slug")]
    if as_json:
        click.echo(json.dumps(shown, indent=2))
        return
    width = max([len(tenant["slug"]) for tenant in shown], default=0)
    for tenant in shown:
        click.echo(
            f"{tenant['slug']:<{width}}  {tenant['status']:<9}  {tenant['plan'] or '-':<12}  {_say(tenant)}".rstrip()
        )


@command.command()
@click.argument("slug")
@operating
def show(slug: str) -> None:
    """One tenant, as one JSON object."""
    from tenants.lifecycle.queries import find_tenant

    click.echo(json.dumps(_shape(find_tenant(slug)), indent=2))


@command.command()
@click.argument("slug")
@click.option("--reason", required=True, help="why; it is kept and audited")
@operating
def suspend(slug: str, reason: str) -> None:
    """Close its keys, calls and pages at once; everything is kept."""
    from tenants.lifecycle.operations import suspend_tenant
    from tenants.lifecycle.queries import find_tenant

    suspend_tenant(tenant=find_tenant(slug), reason=reason)
    click.echo(f"{slug} is suspended")


@command.command()
@click.argument("slug")
@operating
def resume(slug: str) -> None:
    """Open a suspended tenant again."""
    from tenants.lifecycle.operations import resume_tenant
    from tenants.lifecycle.queries import find_tenant

    resume_tenant(tenant=find_tenant(slug))
    click.echo(f"{slug} is active")


@command.command()
@click.argument("slug")
@click.option("--confirm", "confirmation", help="the slug, typed again; asked for when not given")
@click.option("--reason", default="", help="why; it is kept and audited")
@click.option("--grace-days", type=click.IntRange(0), help="without it AVB_TENANT_DELETE_GRACE_DAYS")
@operating
def delete(slug: str, confirmation: str | None, reason: str, grace_days: int | None) -> None:
    """Close it at once, and erase it when the grace period is over. Until then: ./avb tenant undelete."""
    from tenants.lifecycle.operations import request_deletion
    from tenants.lifecycle.queries import find_tenant

    tenant = find_tenant(slug)
    if confirmation is None:
        confirmation = click.prompt(f"Everything of {tenant.name} will be erased. Type its slug to confirm")
    tenant = request_deletion(tenant=tenant, confirmation=confirmation, reason=reason, grace_days=grace_days)
    click.echo(f"{slug} is closed, and will be erased after {tenant.delete_after:%Y-%m-%d %H:%M:%S %Z}")


@command.command()
@click.argument("slug")
@operating
def undelete(slug: str) -> None:
    """Take a deletion back, before its grace period is over."""
    from tenants.lifecycle.operations import cancel_deletion
    from tenants.lifecycle.queries import find_tenant

    click.echo(f"{slug} is {cancel_deletion(tenant=find_tenant(slug)).status}")


@command.command()
@click.argument("slug")
@click.option("--public-key", help="verify with this key, kept from earlier, instead of the platform's own")
@click.option("--json", "as_json", is_flag=True, help="print the signed certificate alone")
@operating
def certificate(slug: str, public_key: str | None, as_json: bool) -> None:
    """Show and verify the signed certificate of an erased tenant. Exits with 1 when none is there that holds."""
    from tenants.audit import chain
    from tenants.lifecycle.certificate import CertificateInvalid, verify
    from tenants.lifecycle.queries import find_certificate

    entry = find_certificate(slug)
    if entry is None or entry.after is None:
        raise click.ClickException(f"no tenant {slug!r} was erased")
    try:
        said = verify(entry.after, public_key)
    except CertificateInvalid as error:
        raise click.ClickException(str(error)) from error
    if chain.digest(entry) != entry.hash:
        raise click.ClickException(f"the audit entry {entry.seq} that holds it has been changed")
    click.echo(json.dumps(entry.after if as_json else said, indent=2))
    if not as_json:
        click.echo(f"valid: signed by {entry.after['public_key']}, entry {entry.seq} of the platform's audit log")


@command.command()
@click.option("--parallel", type=click.IntRange(1), help="processes; without it the machine's cores, 8 at most")
def migrate(parallel: int | None) -> None:
    """Bring the shared schema and all tenants up to date. Exits with 1 when a tenant failed; the others are done."""
    wanted = ["--parallel", str(parallel)] if parallel else []
    argv = [sys.executable, str(REPOSITORY / "manage.py"), "migrate_tenants", *wanted]
    raise SystemExit(subprocess.run(argv, env=stack_environment(), check=False).returncode)


@command.command()
@click.argument("name")
@click.option("--scope", "scopes", multiple=True, help="a platform scope; several times; without it all of them")
@operating
def key(name: str, scopes: tuple[str, ...]) -> None:
    """Make a platform key, for programs that run the installation. It is shown this once."""
    from tenants.lifecycle.platform_keys import issue_platform_key

    issued, secret = issue_platform_key(name=name, scopes=scopes or None)
    click.echo(f"{issued.public_id}  {', '.join(issued.scopes)}", err=True)
    click.echo(secret)


@command.command()
@operating
def keys() -> None:
    """The platform keys, never their secrets."""
    from tenants.models import PlatformKey

    for found in PlatformKey.objects.order_by("created_at"):
        used = f"used {found.last_used_at:%Y-%m-%d %H:%M}" if found.last_used_at else "never used"
        click.echo(f"{found.public_id}  {found.prefix}…  {'revoked' if found.revoked_at else used}  {found.name}")


@command.command()
@click.argument("public_id")
@operating
def revoke_key(public_id: str) -> None:
    """Revoke a platform key by its id, pkey_…"""
    from tenants.lifecycle.platform_keys import revoke_platform_key
    from tenants.models import PlatformKey

    found = PlatformKey.objects.filter(public_id=public_id).first()
    if found is None:
        raise click.ClickException(f"there is no platform key {public_id!r}; see ./avb tenant keys")
    revoke_platform_key(key=found)
    click.echo(f"{public_id} is revoked")


@command.command()
@click.argument("slug")
@click.argument("email")
@click.option("--role", default="owner", show_default=True, help="owner, admin, developer, support or viewer")
@click.option("--url", help="where people reach the product; without it the running stack, or the tenant's host name")
@operating
def invite(slug: str, email: str, role: str, url: str | None) -> None:
    """Mail a link by which a person joins a tenant, as its first owner. In dev, where mail leaves no machine, the link
    is printed too. An open invitation for the same address ends."""
    from django.conf import settings
    from django.core.exceptions import ValidationError
    from django.core.validators import validate_email
    from django.urls import reverse

    from tenants.lifecycle.queries import find_tenant
    from tenants.people.invitations import invite_as_operator
    from tenants.people.mail import mail_invitation

    tenant = find_tenant(slug)
    try:
        validate_email(email)
    except ValidationError as error:
        raise click.ClickException(f"An e-mail address looks like somebody@example.com; got {email[:100]!r}") from error
    address = (url or _find_address(tenant)).rstrip("/")
    invitation, token = invite_as_operator(tenant=tenant, email=email, role=role)
    link = address + reverse("people_invitation", args=[token])
    mail_invitation(invitation, link)
    invitation.refresh_from_db(fields=["mailed_at"])
    if invitation.mailed_at is None:
        raise click.ClickException("The invitation stands, but was not mailed; see AVB_EMAIL_URL, and invite again")
    click.echo(f"{invitation.email} is invited as {role} of {slug}, until {invitation.expires_at:%Y-%m-%d}", err=True)
    if settings.DEV and not settings.EMAIL_BACKEND.endswith("smtp.EmailBackend"):
        click.echo(link)


def _find_address(tenant: Any) -> str:
    """Where a person opens a link. Raises click.ClickException."""
    run = Run(state_dir())
    if run.is_held() and (base := run.read().get("base_url")):
        return platform_address(base)
    domain = tenant.domains.order_by("-is_primary", "id").first()
    if domain is None:
        raise click.ClickException("Say where people reach the product, as in --url https://voice.example.com")
    return f"https://{domain.domain}"


@command.command()
@click.argument("slug")
@click.option("--name", help="what people call it; without it the slug")
@click.option("--limit", "limits", multiple=True, metavar="NAME=NUMBER", help="as GET /api/v1/limits/ names them")
@operating
def plan(slug: str, name: str | None, limits: tuple[str, ...]) -> None:
    """Make a plan for tenants. Changed and deleted it is at /api/v1/plans/ or in the admin."""
    from tenants.lifecycle.plans import create_plan

    numbers: dict[str, Any] = {}
    for written in limits:
        limit, _, number = written.partition("=")
        numbers[limit] = int(number) if number.isdecimal() else number
    made = create_plan(slug=slug, name=name or slug, limits=numbers)
    click.echo(f"plan {slug}: {', '.join(f'{limit} {number}' for limit, number in made.limits.items()) or 'no limits'}")


@command.command()
@click.argument("slug")
@click.argument("name")
@click.option("--scope", "scopes", multiple=True, help="a scope; several times; without it all of a tenant")
@operating
def api_key(slug: str, name: str, scopes: tuple[str, ...]) -> None:
    """Make an API key of a tenant. It is shown this once."""
    from tenants.keys.operations import issue_key
    from tenants.lifecycle.queries import find_tenant

    issued, secret = issue_key(tenant=find_tenant(slug), name=name, scopes=scopes or None)
    click.echo(f"{issued.public_id}  {', '.join(issued.scopes)}", err=True)
    click.echo(secret)


def _follow(slug: str, timeout_s: float) -> None:
    """Print each step of a creation until the tenant is open."""
    from tenants.lifecycle.queries import find_tenant
    from tenants.models import TenantStatus

    said, deadline = "", time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        tenant = find_tenant(slug)
        if tenant.work_error:
            raise click.ClickException(f"{tenant.work_error}\nWhen the cause is gone: ./avb tenant retry {slug}")
        if tenant.status != TenantStatus.CREATING:
            click.echo(f"{slug} is {tenant.status}")
            return
        if (now := _say(_shape(tenant))) != said:
            said = now
            click.echo(f"  {said}")
        time.sleep(POLL_S)
    raise click.ClickException(f"not open after {timeout_s:g} s; is a default worker running? See ./avb status")


def _shape(tenant: Any) -> dict[str, Any]:
    from tenants.lifecycle.serializers import TenantSerializer

    return json.loads(json.dumps(TenantSerializer(tenant).data, default=str))


def _say(tenant: dict[str, Any]) -> str:
    """What is being done to a tenant, in a few words."""
    progress = tenant["progress"]
    if progress["error"]:
        return f"stands still: {progress['error']}"
    if tenant["status"] == "deleting":
        return f"erased after {tenant['delete_after']}"
    if progress["step"]:
        return f"{progress['done']}/{progress['total']} {progress['step']}"
    return tenant["status_reason"] if tenant["status"] != "creating" else "waits for a worker"
