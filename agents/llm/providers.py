"""Who serves a language model, as a call carries it. What rows and the environment say becomes these values at the
door of a call; nothing here asks anybody."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Kind = Literal["openai", "groq", "ollama", "openai_compatible", "anthropic", "bedrock", "embedded"]


@dataclass(frozen=True, slots=True)
class Provider:
    """One way to a model. ``tenant`` is the schema name of the tenant whose provider it is, empty for the platform's
    own; ``base_url`` is empty where the kind has one; ``model`` answers where nobody names another; ``sees``: it takes
    images; what is not ``enabled`` is never asked, and the next of a chain is.

    ``credentials`` as pairs, by kind: ``api_key``; for Bedrock ``region`` and one of ``access_key_id`` with
    ``secret_access_key`` (and ``session_token``), ``api_key``, or nothing, which means what AWS's own chain finds and
    is the platform's alone.
    """

    name: str
    kind: Kind
    base_url: str = ""
    credentials: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    model: str = ""
    sees: bool = True
    tenant: str = ""
    enabled: bool = True

    @property
    def answers_as(self) -> str:
        """What usage and prices know it by: a tenant's own is not priced like the platform's of the same name."""
        return f"own:{self.name}" if self.tenant else self.name

    def credential(self, name: str) -> str:
        """Empty where there is none."""
        return next((value for known, value in self.credentials if known == name), "")


@dataclass(frozen=True, slots=True)
class ModelRef:
    """One link of an agent's chain: a provider (None: the platform's default) and the model to ask there (empty: the
    provider's own)."""

    provider: Provider | None = None
    model: str = ""


def refer(name: str, providers: Mapping[str, Provider]) -> ModelRef:
    """What ``provider/model``, ``provider`` or a bare model means: a prefix is a provider's only where one of
    ``providers`` has that name, for models have slashes too; the rest is a model of the default provider."""
    prefix, slash, rest = name.partition("/")
    if prefix in providers:
        return ModelRef(providers[prefix], rest if slash else "")
    return ModelRef(None, name)
