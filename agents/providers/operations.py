"""What can be done to a tenant's providers. Runs inside its schema; each function is one transaction."""

from collections.abc import Mapping
from typing import Any

from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import IntegrityError, connection, transaction
from django.db.models import Q

from agents.models import Agent
from agents.providers.kinds import find_fault
from agents.providers.models import Provider
from tenants.audit.operations import changes, record

FIELDS = ("name", "kind", "base_url", "model", "sees", "is_enabled")


class ProviderInvalid(Exception):
    """A field is wrong: ``errors`` maps each field at fault to what is wrong with it."""

    code = "invalid"

    def __init__(self, errors: dict[str, list[str]]) -> None:
        super().__init__("; ".join(f"{name}: {' '.join(words)}" for name, words in errors.items()))
        self.errors = errors


class NameTaken(ProviderInvalid):
    code = "name_taken"

    def __init__(self, name: str) -> None:
        super().__init__({"name": [f"A provider {name!r} exists already."]})


class ProviderInUse(Exception):
    """Agents name it: without it they would ask somebody else for what they are told."""

    def __init__(self, name: str, agents: list[str]) -> None:
        self.message = f"The provider {name!r} is named by {', '.join(agents)}: change these agents first."
        super().__init__(self.message)


@transaction.atomic
def create_provider(*, credentials: Mapping[str, str | None] | None = None, **fields: Any) -> Provider:
    """Raises ProviderInvalid; NameTaken is one."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", [f"providers:{connection.schema_name}"])
    if Provider.objects.count() >= settings.PROVIDERS_PER_TENANT:
        most = settings.PROVIDERS_PER_TENANT
        raise ProviderInvalid({"name": [f"There may be {most} providers; delete one first."]})
    provider = Provider()
    _set(provider, fields, _merged({}, credentials or {}))
    _save(provider)
    record(action="provider.created", target=provider.name, after=_shown(provider), tenant=connection.schema_name)
    return provider


@transaction.atomic
def update_provider(
    *, provider: Provider, credentials: Mapping[str, str | None] | None = None, **fields: Any
) -> Provider:
    """Change the named fields only; of the credentials those that are named, an empty one goes. Raises ProviderInvalid.

    Another kind or address gets none of the credentials that are there: whoever may change an address need not know
    them, and would be told them by it.
    """
    provider = Provider.objects.select_for_update().get(pk=provider.pk)
    before, known = _shown(provider), dict(provider.credentials)
    elsewhere = any(
        fields.get(name, getattr(provider, name)) != getattr(provider, name) for name in ("kind", "base_url")
    )
    merged = _merged({} if elsewhere else known, credentials or {})
    if elsewhere and known and not credentials:
        words = "Send the credentials too: those that are there are not passed on to another kind or address."
        raise ProviderInvalid({"credentials": [words]})
    _set(provider, fields, merged)
    if provider.name != before["name"]:
        _refuse_in_use(before["name"])
    _save(provider)
    was, now = changes(before, _shown(provider))
    if replaced := sorted(name for name in known | merged if known.get(name) != merged.get(name)):
        now["replaced"] = replaced
    if now:
        record(action="provider.updated", target=before["name"], before=was, after=now, tenant=connection.schema_name)
    return provider


@transaction.atomic
def delete_provider(*, provider: Provider) -> None:
    """Raises ProviderInUse."""
    _refuse_in_use(provider.name)
    before = _shown(provider)
    provider.delete()
    record(action="provider.deleted", target=before["name"], before=before, tenant=connection.schema_name)


def _merged(known: Mapping[str, str], changed: Mapping[str, str | None]) -> dict[str, str]:
    return {name: value for name, value in {**known, **changed}.items() if value}


def _set(provider: Provider, fields: Mapping[str, Any], credentials: dict[str, str]) -> None:
    for name, value in fields.items():
        if name not in FIELDS:
            raise ProviderInvalid({name: ["There is no such field."]})
        setattr(provider, name, value)
    provider.credentials = credentials
    provider.credentials_set = sorted(credentials)
    try:
        # Uniqueness is the database's to decide: asking first would only race.
        provider.full_clean(validate_unique=False, validate_constraints=False)
    except ValidationError as error:
        raise ProviderInvalid(error.message_dict) from error
    if fault := find_fault(provider.kind, provider.base_url, credentials):
        field, words = fault
        raise ProviderInvalid({field: [words]})


def _save(provider: Provider) -> None:
    try:
        with transaction.atomic():
            provider.save()
    except IntegrityError as error:
        raise NameTaken(provider.name) from error


def _refuse_in_use(name: str) -> None:
    """Drafts, and versions that take calls or would after a rollback."""
    agents = Agent.objects.select_related("live", "standby").only(
        "slug", "model", "fallback_models", "live__definition", "standby__definition"
    )
    named = Q(model=name) | Q(model__startswith=f"{name}/") | ~Q(fallback_models=[])
    using = []
    for agent in agents.filter(named | ~Q(live=None)):
        definitions = [version.definition for version in (agent.live, agent.standby) if version]
        chains = [[agent.model, *agent.fallback_models]]
        chains += [[each.get("model", ""), *each.get("fallback_models", [])] for each in definitions]
        if any(model.partition("/")[0] == name for chain in chains for model in chain):
            using.append(agent.slug)
    if using:
        raise ProviderInUse(name, using)


def _shown(provider: Provider) -> dict[str, Any]:
    """Without credentials: the log says which were replaced, by name."""
    return {name: getattr(provider, name) for name in FIELDS}
