"""What can be done to tenants. Each function is one transaction; refusals are named exceptions."""

import re
from collections.abc import Iterable

from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import Q
from django_tenants.utils import get_public_schema_name, schema_context

from tenants.errors import TenancyError
from tenants.models import SLUG, Domain, Tenant

RESERVED_SCHEMA = re.compile(r"pg_|public$|information_schema$")


class SlugRefused(TenancyError):
    """The slug is taken, reserved or malformed."""


class DomainTaken(TenancyError):
    """Another tenant answers at this host name."""


def create_tenant(*, slug: str, name: str, domains: Iterable[str] = ()) -> Tenant:
    """The tenant with its schema migrated and its host names set; all of it or nothing."""
    try:
        SLUG(slug)
    except ValidationError as error:
        raise SlugRefused(f"{slug!r} cannot name a tenant. {error.messages[0]}", "slug") from error
    schema_name = slug.replace("-", "_")
    if RESERVED_SCHEMA.match(schema_name):
        raise SlugRefused(f"{slug!r} is reserved; choose another name.", "slug")
    domains = [domain.lower() for domain in domains]
    with schema_context(get_public_schema_name()), transaction.atomic():
        if Tenant.objects.filter(Q(slug=slug) | Q(schema_name=schema_name)).exists():
            raise SlugRefused(f"A tenant {slug!r} exists already.", "slug")
        for taken in Domain.objects.filter(domain__in=domains):
            raise DomainTaken(f"The host name {taken.domain!r} leads to another tenant.", "domains")
        tenant = Tenant(slug=slug, name=name, schema_name=schema_name)
        tenant.save(verbosity=0)
        for position, domain in enumerate(domains):
            Domain.objects.create(tenant=tenant, domain=domain, is_primary=position == 0)
    return tenant
