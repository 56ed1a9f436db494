"""``avb people``: who operates the platform, who owns a tenant, and whose e-mail domains are proven."""

import click

from agentvoicebox.cli.tenant import operating


@click.group()
def command() -> None:
    """Make platform operators and members. Works on the running stack, or on DATABASE_URL and REDIS_URL."""


@command.command()
@click.argument("email")
@operating
def operator(email: str) -> None:
    """Make a platform operator. Somebody new is asked for a password here; an existing person keeps theirs."""
    from tenants.people.operations import make_operator
    from tenants.people.queries import has_account

    password = None if has_account(email) else _ask_password()
    user = make_operator(email=email, password=password)
    click.echo(f"{user.email} operates the platform; sign in at /accounts/login/")


@command.command()
@click.argument("slug")
@click.argument("email")
@click.option("--role", default="owner", show_default=True, help="owner, admin, developer, support or viewer")
@operating
def add(slug: str, email: str, role: str) -> None:
    """Give a person a role in a tenant. Somebody new is asked for a password here; an existing person keeps theirs."""
    from tenants.lifecycle.queries import find_tenant
    from tenants.people.operations import add_member, check_role
    from tenants.people.queries import has_account

    tenant = find_tenant(slug)
    check_role(role)
    password = None if has_account(email) else _ask_password()
    membership = add_member(tenant=tenant, email=email, role=role, password=password)
    click.echo(f"{membership.user.email} is {membership.role} of {slug}; sign in at /accounts/login/")


@command.command()
@click.argument("slug")
@click.argument("domain")
@operating
def accept_domain(slug: str, domain: str) -> None:
    """Take an e-mail domain for proven to be a tenant's, after checking it in another way than the DNS."""
    from tenants.lifecycle.queries import find_tenant
    from tenants.people import sign_on

    found = find_tenant(slug).email_domains.filter(domain=domain.lower()).first()
    if found is None:
        raise click.ClickException(f"{slug} has not added the e-mail domain {domain!r}; POST /api/v1/sso/domains/ does")
    sign_on.accept_domain(domain=found, by="operator")
    click.echo(f"people of {found.domain} may come by the single sign-on of {slug}")


def _ask_password() -> str:
    """One that the product takes. Raises click.ClickException."""
    from django.contrib.auth.password_validation import validate_password
    from django.core.exceptions import ValidationError

    password = str(click.prompt("Password", hide_input=True, confirmation_prompt=True))
    try:
        validate_password(password)
    except ValidationError as error:
        raise click.ClickException(" ".join(error.messages)) from error
    return password
