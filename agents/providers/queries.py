"""Reading providers, and from a model's name to who is asked. Runs inside the tenant's schema."""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache

from django.db import connection
from django.db.models import QuerySet

from agents.llm import providers
from agents.llm.choice import Platform, read_platform
from agents.llm.providers import ModelRef, refer
from agents.providers.models import Provider

SLASHLESS = ("openai", "anthropic", "embedded")
"""No model of theirs has a slash in its name: there a prefix is a provider's that does not exist."""


class ProviderUnknown(Exception):
    """The tenant has no provider of this name."""

    def __init__(self, name: str) -> None:
        super().__init__(f"There is no provider {name!r}.")
        self.message = str(self)


@dataclass(frozen=True, slots=True)
class ListedProvider:
    """``own`` is None for the platform's, of which tenants see the name alone."""

    name: str
    own: Provider | None = None
    is_default: bool = False


@cache
def platform() -> Platform:
    """The platform's own, read when this process first asks. Raises ValueError for an environment that cannot be."""
    return read_platform(os.environ)


def resolve_models(names: Iterable[str]) -> tuple[ModelRef, ...]:
    """The chain that these names mean, in their order: ``provider/model``, ``provider``, or a model of the platform's
    default provider. The tenant's own providers come before the platform's. One query, none without names.
    """
    names = list(names)
    known = _known(names)
    return tuple(refer(name, known) for name in names)


def check_models(names: Iterable[str]) -> dict[str, str]:
    """What keeps each name from being asked, by name; nothing of those that can be."""
    names = list(names)
    known = _known(names)
    faults = {name: _fault(name, refer(name, known)) for name in names}
    return {name: fault for name, fault in faults.items() if fault}


def list_providers() -> list[ListedProvider]:
    """By name: the tenant's, and those of the platform whose place they do not take."""
    default = platform().default
    first = default.provider.name if default and default.provider else ""
    found = {name: ListedProvider(name, is_default=name == first) for name in platform().providers}
    found |= {provider.name: ListedProvider(provider.name, provider) for provider in list_own()}
    return [found[name] for name in sorted(found)]


def list_own() -> QuerySet[Provider]:
    return Provider.objects.defer("credentials")


def find_provider(name: str) -> Provider:
    """Raises ProviderUnknown."""
    provider = list_own().filter(name=name).first()
    if provider is None:
        raise ProviderUnknown(name)
    return provider


def as_value(provider: Provider) -> providers.Provider:
    """As a call carries it, with its credentials opened."""
    return providers.Provider(
        name=provider.name,
        kind=provider.kind,
        base_url=provider.base_url,
        credentials=tuple(sorted(provider.credentials.items())),
        model=provider.model,
        sees=provider.sees,
        tenant=connection.schema_name,
        enabled=provider.is_enabled,
    )


def _known(names: list[str]) -> dict[str, providers.Provider]:
    """The providers that the names may mean."""
    prefixes = {name.partition("/")[0] for name in names}
    if not prefixes:
        return {}
    known = {name: provider for name, provider in platform().providers.items() if name in prefixes}
    return known | {row.name: as_value(row) for row in Provider.objects.filter(name__in=prefixes)}


def _fault(name: str, ref: ModelRef) -> str:
    if ref.provider is not None:
        if not ref.provider.enabled:
            return f"The provider {ref.provider.name!r} is switched off."
        if not ref.model and not ref.provider.model:
            return f"Say which model of {ref.provider.name!r}: {ref.provider.name}/model."
        return ""
    default = platform().default
    prefix, slash, _ = name.partition("/")
    if default is None or default.provider is None:
        if slash:
            return f"There is no provider {prefix!r}, and no default one that could serve {name!r}. {_there()}"
        return f"There is no default provider that could serve {name!r}; write provider/model. {_there()}"
    if slash and default.provider.kind in SLASHLESS:
        return f"There is no provider {prefix!r}. {_there()}"
    return ""


def _there() -> str:
    names = [listed.name for listed in list_providers()]
    return f"There are: {', '.join(names)}." if names else "There are none yet."
