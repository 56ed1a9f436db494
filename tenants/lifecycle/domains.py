"""The host names that lead to a tenant's pages."""

import re
from collections.abc import Iterable

from django.conf import settings

from tenants.errors import TenancyError
from tenants.models import Domain, Tenant

HOST = re.compile(r"(?=.{1,253}\Z)[a-z0-9_]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*\Z")
ADDRESS = re.compile(r"\[[0-9a-f:]{2,45}\]\Z")


class DomainTaken(TenancyError):
    """Another tenant answers at this host name."""

    code = "domain_taken"


class DomainRefused(TenancyError):
    """No host name, or too many of them."""

    code = "domain_refused"


def check_domains(domains: Iterable[str], owner: Tenant | None = None) -> list[str]:
    """In lower case, each once, in the order given. Raises DomainTaken or DomainRefused."""
    hosts = list(dict.fromkeys(domain.lower() for domain in domains))
    if len(hosts) > settings.TENANT_MAX_DOMAINS:
        raise DomainRefused(f"A tenant has at most {settings.TENANT_MAX_DOMAINS} host names.", "domains")
    for host in hosts:
        if not (HOST.match(host) or ADDRESS.match(host)):
            raise DomainRefused(f"{host[:100]!r} is no host name; send it without scheme and port.", "domains")
    taken = Domain.objects.filter(domain__in=hosts)
    for domain in taken.exclude(tenant=owner) if owner else taken:
        raise DomainTaken(f"The host name {domain.domain!r} leads to another tenant.", "domains")
    return hosts


def put_domains(tenant: Tenant, hosts: list[str]) -> None:
    """The tenant answers at these and no others; the first one is its primary."""
    tenant.domains.exclude(domain__in=hosts).delete()
    for position, host in enumerate(hosts):
        Domain.objects.update_or_create(domain=host, tenant=tenant, defaults={"is_primary": position == 0})
