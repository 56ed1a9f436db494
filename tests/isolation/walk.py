"""Every address of the platform API as the URLconf has it, and how it leads to something that a tenant owns.

An address that nobody here knows how to fill fails the walk: whoever adds one says in ``OWNED`` what it names.
"""

import hashlib
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from django.db import connection, transaction
from django.urls import URLPattern, URLResolver, get_resolver
from django_tenants.utils import tenant_context

from agents.models import Agent
from agents.providers.models import Provider
from agents.providers.operations import create_provider
from agents.routing.models import RoutingRule
from agents.toolbox.models import Credential as ToolCredential
from agents.toolbox.models import McpServer, Tool
from agents.trials.models import Trial
from realtime.privacy.models import Erasure, Export, LegalHold
from realtime.recordings.models import Recording
from tenants.limits.models import EndUserLimits
from tenants.models import ApiKey, EmailDomain, Invitation, OAuthClient, Plan, Tenant
from tenants.permissions import PLATFORM_SCOPES
from tenants.usage.models import Budget
from tests.record.world import House

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
API = "api/v1/"
PUBLIC = {"", "api/v1/schema/", "api/v1/docs/", "api/v1/docs/reference/", "api/v1/docs/errors/"}


@dataclass(frozen=True)
class Route:
    address: str
    view: Any

    def __str__(self) -> str:
        return self.address

    @property
    def scopes(self) -> set[str]:
        names = ("read_scope", "write_scope", "delete_scope")
        return {str(getattr(self.view, name)) for name in names if hasattr(self.view, name)}

    @property
    def is_platforms(self) -> bool:
        return bool(self.scopes & {str(scope) for scope in PLATFORM_SCOPES})

    @property
    def names_something(self) -> bool:
        return "<" in self.address

    def takes(self, method: str) -> bool:
        return hasattr(self.view, method.lower()) or (method == "HEAD" and hasattr(self.view, "get"))


def addresses(resolver: URLResolver | None = None, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every address of the URLconf, with ``<names>`` where something is to be filled in, and its view."""
    for pattern in (resolver or get_resolver()).url_patterns:
        path = prefix + str(pattern.pattern).removeprefix("^").removesuffix("$").replace(r"\Z", "")
        if isinstance(pattern, URLResolver):
            yield from addresses(pattern, path)
        elif isinstance(pattern, URLPattern):
            yield path, getattr(pattern.callback, "view_class", pattern.callback)


def routes() -> list[Route]:
    """The platform API's, without the pages that anybody may read."""
    found = {path: view for path, view in addresses() if path.startswith(API) and path not in PUBLIC}
    return [Route(path, found[path]) for path in sorted(found)]


def _row(house: House, model: Any, key: str, defaults: dict[str, Any], **wanted: Any) -> str:
    """One row of the house, made when it is first asked for; its primary key, or what ``key`` names."""
    with tenant_context(house.tenant):
        row, _ = model.objects.get_or_create(defaults=defaults, **wanted)
    return str(getattr(row, key))


def _budget(house: House) -> str:
    defaults = {"amount": 10, "currency": "EUR", "thresholds": [100]}
    return _row(house, Budget, "pk", defaults, name=f"Budget of {house.tenant.slug}")


def _hold(house: House) -> str:
    return _row(house, LegalHold, "pk", {"reason": f"Court of {house.tenant.slug}"}, session_id=house.session_id)


def _job(house: House, model: Any) -> str:
    return _row(house, model, "pk", {"requested_at": BEGUN_AT}, subject="0" * 40)


def _client(house: House) -> str:
    defaults = {"name": f"Client of {house.tenant.slug}", "scopes": [], "secret_hash": "0" * 64}
    return _row(house, OAuthClient, "client_id", defaults, tenant=house.tenant, client_id=f"oac_{house.tenant.slug}")


def _invitation(house: House) -> str:
    defaults = {"role": "viewer", "token_hash": f"{house.tenant.slug:0>64}", "expires_at": "2099-01-01T00:00:00Z"}
    return _row(house, Invitation, "pk", defaults, tenant=house.tenant, email=f"guest@{house.tenant.slug}.example")


def _end_user(house: House) -> str:
    defaults = {"public_id": f"eul_{house.tenant.slug}"}
    return _row(house, EndUserLimits, "public_id", defaults, end_user=f"caller of {house.tenant.slug}")


def _routing_rule(house: House) -> str:
    defaults = {"position": 0, "name": f"Rule of {house.tenant.slug}"}
    return _row(house, RoutingRule, "pk", defaults, agent=house.agent)


def _trial(house: House) -> str:
    with tenant_context(house.tenant):
        agent = Agent.objects.get(slug=house.agent)
    defaults = {"arms": [{"version": 1, "weight": 1}], "control": 1, "alpha": 0.01, "min_calls": 20, "looks": {}}
    return _row(house, Trial, "pk", defaults | {"started_at": BEGUN_AT}, agent=agent)


def _provider(house: House) -> str:
    with tenant_context(house.tenant), transaction.atomic():
        if not Provider.objects.filter(name=house.tenant.slug).exists():
            address = "https://llm.example.com/v1"
            create_provider(name=house.tenant.slug, kind="openai_compatible", base_url=address)
    return house.tenant.slug


def _domain(house: House) -> str:
    name = f"{house.tenant.slug}.example"
    return _row(house, EmailDomain, "domain", {"token": "t"}, tenant=house.tenant, domain=name)


def _recording(house: House) -> str:
    return _row(house, Recording, "pk", {"started_at": BEGUN_AT}, conversation_id=house.session_id)


def _tool(house: House) -> str:
    # Nobody listens there, and nobody is let in if they do.
    defaults = {"request": {"method": "GET", "url": f"https://{house.tenant.slug}.invalid/"}}
    return _row(house, Tool, "name", defaults, name=f"tool_of_{house.tenant.slug}")


def _mcp_server(house: House) -> str:
    defaults = {"url": f"https://{house.tenant.slug}.invalid/mcp"}
    return _row(house, McpServer, "label", defaults, label=f"server_of_{house.tenant.slug}")


def _tool_credential(house: House) -> str:
    defaults = {"kind": "bearer", "secret": {"token": f"secret of {house.tenant.slug}"}}
    return _row(house, ToolCredential, "name", defaults, name=f"credential_of_{house.tenant.slug}")


BEGUN_AT = "2027-01-15T08:00:00Z"
# How an address begins, and what its parameter is for something of this house. The first that fits counts.
OWNED: dict[str, Callable[[House], str]] = {
    "agents/": lambda house: house.agent,
    "conversations/": lambda house: _hold(house) and house.session_id,
    "recordings/": _recording,
    "keys/": lambda house: ApiKey.objects.filter(tenant=house.tenant).earliest("pk").public_id,
    "members/": lambda house: str(house.member.pk),
    "invitations/": _invitation,
    "oauth-clients/": _client,
    "sso/domains/": _domain,
    "budgets/": _budget,
    "limits/end-users/": _end_user,
    "routing-rules/": _routing_rule,
    "privacy/holds/": _hold,
    "providers/": _provider,
    "privacy/exports/": lambda house: _job(house, Export),
    "privacy/erasures/": lambda house: _job(house, Erasure),
    "tenants/": lambda house: house.tenant.slug,
    "tools/": _tool,
    "mcp-servers/": _mcp_server,
    "tool-credentials/": _tool_credential,
}
# What belongs to no tenant: everybody sees the same, or only platform operators see it.
SHARED = {"features/": "release_watch", "voices/": "marin", "plans/": "walked", "prices/": "999999"}


def _value(route: Route, house: House) -> str:
    path = route.address.removeprefix(API)
    for prefix, value in SHARED.items():
        if path.startswith(prefix):
            if prefix == "plans/":
                Plan.objects.get_or_create(slug=value, defaults={"name": "Walked"})
            return value
    for prefix, find in OWNED.items():
        if path.startswith(prefix):
            return find(house)
    raise AssertionError(f"say in tests/isolation/walk.py what {route.address} names")


def fill(route: Route, house: House) -> str:
    """The path as it leads to something that the house owns; of what is numbered its first."""
    if not route.names_something:
        return f"/{route.address}"
    value = _value(route, house)
    inner = {"number": "1"} | ({"trial_id": _trial(house)} if "trial_id" in route.address else {})
    return "/" + re.sub(r"<(?:\w+:)?(\w+)>", lambda name: inner.get(name[1], value), route.address)


def is_owned(route: Route) -> bool:
    """It names something that one tenant has and the others shall not reach."""
    shared = route.address.removeprefix(API).startswith(tuple(SHARED))
    return route.names_something and not shared and not route.is_platforms


def fill_admin(address: str, house: House) -> str:
    with tenant_context(house.tenant):
        agent = Agent.objects.get(slug=house.agent)
    object_id = str(agent.pk) if "agents/agent" in address else house.session_id
    address = re.sub(r"<(?:\w+:)?(\w+)>", object_id, address)
    return "/" + re.sub(r"\(\?P<\w+>[^)]*\)", "agents", address)


def state_of(tenant: Tenant) -> dict[str, str]:
    """A hash of each table that holds anything of the tenant: those of its schema, and its rows of the shared ones.

    The audit log is none of them: it grows by what is refused, too.
    """
    hashes = {}
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT schemaname, tablename FROM pg_tables WHERE schemaname = %s"
            " AND tablename NOT IN ('django_migrations', 'audit_entry')",
            [tenant.schema_name],
        )
        tables = [(f'"{schema}"."{name}"', "true") for schema, name in cursor.fetchall()]
        cursor.execute(
            "SELECT table_name FROM information_schema.columns WHERE table_schema = 'public' AND column_name = %s",
            ["tenant_id"],
        )
        # When a key was last used is noted at each use, and says nothing of anybody else.
        tables += [(f'"public"."{name}"', f"tenant_id = {int(tenant.pk)}") for (name,) in cursor.fetchall()]
        tables.append(('"public"."tenants_tenant"', f"id = {int(tenant.pk)}"))
        for table, condition in tables:
            cursor.execute(
                f"SELECT (to_jsonb(t) - 'last_used_at')::text FROM {table} t WHERE {condition} ORDER BY 1"  # noqa: S608
            )
            hashes[table] = hashlib.sha256("\n".join(row for (row,) in cursor.fetchall()).encode()).hexdigest()
    return hashes
