"""The platform's own language models, by the environment that the ecosystem's own tools use.

``OPENAI_BASE_URL`` or ``OPENAI_API_KEY``, ``ANTHROPIC_API_KEY``, ``GROQ_API_KEY``, an Ollama, and AWS's variables make
one provider each. The default is the one that ``AVB_LLM_MODEL`` names, or the first of these but Bedrock: an AWS
account is often there for other things. Without any the degraded echo answers.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import httpx2

from agents.llm.adapter import tls
from agents.llm.providers import Kind, ModelRef, Provider, refer

OPENAI_MODEL = "gpt-4o-mini"
ANTHROPIC_MODEL = "claude-haiku-4-5"
GROQ_MODEL = "llama-3.3-70b-versatile"
OLLAMA_URL = "http://127.0.0.1:11434"
OLLAMA_PROBE_S = 0.3
PROVIDER_VARIABLES = ("OPENAI_API_KEY", "OPENAI_BASE_URL", "ANTHROPIC_API_KEY", "GROQ_API_KEY")
AWS_CREDENTIALS = (
    "AWS_ACCESS_KEY_ID", "AWS_PROFILE", "AWS_BEARER_TOKEN_BEDROCK", "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "AWS_CONTAINER_CREDENTIALS_FULL_URI",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Platform:
    """``chain`` answers who names no model: the default first. Both are empty where nobody can think."""

    providers: Mapping[str, Provider] = field(default_factory=dict)
    chain: tuple[ModelRef, ...] = ()

    @property
    def default(self) -> ModelRef | None:
        return self.chain[0] if self.chain else None

    def complete(self, ref: ModelRef) -> ModelRef:
        """With the provider and the model that will be asked; without a provider where the platform has none."""
        if ref.provider is None and self.default is not None:
            ref = ModelRef(self.default.provider, ref.model or self.default.model)
        if ref.provider is not None and not ref.model:
            ref = replace(ref, model=ref.provider.model)
        return ref


def ollama_url(environ: Mapping[str, str]) -> str:
    """``OLLAMA_HOST`` as Ollama reads it: with or without scheme and port."""
    host = environ.get("OLLAMA_HOST", "").strip() or OLLAMA_URL
    url = httpx2.URL(host if "://" in host else f"http://{host}")
    if url.host == "0.0.0.0":  # noqa: S104 - a server's address; a client asks loopback
        url = url.copy_with(host="127.0.0.1")
    return str(url.copy_with(port=url.port or 11434)).rstrip("/")


def ollama_models(environ: Mapping[str, str]) -> list[str]:
    """The models of the Ollama that the environment means, none when it does not answer within 0.3 s. Blocks."""
    try:
        answer = httpx2.get(f"{ollama_url(environ)}/api/tags", timeout=OLLAMA_PROBE_S, verify=tls())
        answer.raise_for_status()
        return [str(model["name"]) for model in answer.json().get("models") or ()]
    except (httpx2.HTTPError, httpx2.InvalidURL, ValueError, KeyError, TypeError, AttributeError):
        return []


def is_configured(environ: Mapping[str, str]) -> bool:
    """Whether the environment says who thinks; nobody is asked whether they are there."""
    if any(environ.get(name) for name in PROVIDER_VARIABLES):
        return True
    return environ.get("AVB_LLM_MODEL", "").startswith("bedrock/") and _bedrock(environ) is not None


def read_platform(environ: Mapping[str, str]) -> Platform:
    """Raises ValueError when the environment contradicts itself. Blocks where it looks for an Ollama, for which there
    is no need when another provider is configured and ``OLLAMA_HOST`` is not set."""
    found = {provider.name: provider for provider in _configured(environ)}
    asked = environ.get("AVB_LLM_MODEL", "").strip()
    served: list[str] = []
    if not found or environ.get("OLLAMA_HOST"):
        served = ollama_models(environ)
        if served or environ.get("OLLAMA_HOST"):
            address = f"{ollama_url(environ)}/v1"
            found["ollama"] = Provider("ollama", "ollama", address, model=next(iter(served), ""), sees=_sees(environ))
    defaults = [name for name in found if name != "ollama" or served]
    bedrock = _bedrock(environ)
    if bedrock is not None:
        found[bedrock.name] = bedrock
    first = refer(asked, found) if asked else ModelRef()
    if first.provider is None and defaults:
        first = ModelRef(found[defaults[0]], first.model)
    if first.provider is None:
        return Platform(found)
    own = found[first.provider.name] = replace(first.provider, model=first.model or first.provider.model)
    _check_default(own, served, environ)
    platform = Platform(found, (ModelRef(own, own.model),))
    backups = []
    for name in filter(None, map(str.strip, environ.get("AVB_LLM_FALLBACK_MODELS", "").split(","))):
        backups.append(platform.complete(refer(name, found)))
        if not backups[-1].model:
            raise ValueError(f"AVB_LLM_FALLBACK_MODELS must say which model of {name}: {name}/model")
    return replace(platform, chain=(*platform.chain, *backups))


def _configured(environ: Mapping[str, str]) -> list[Provider]:
    """In the order in which they are the default."""
    sees, found = _sees(environ), []
    if environ.get("OPENAI_BASE_URL") or environ.get("OPENAI_API_KEY"):
        found.append(_openai(environ, sees=sees))
    if key := environ.get("ANTHROPIC_API_KEY"):
        base_url = environ.get("ANTHROPIC_BASE_URL", "")
        found.append(Provider("anthropic", "anthropic", base_url, (("api_key", key),), ANTHROPIC_MODEL, sees))
    if key := environ.get("GROQ_API_KEY"):
        found.append(Provider("groq", "groq", "", (("api_key", key),), GROQ_MODEL, sees))
    return found


def _openai(environ: Mapping[str, str], *, sees: bool) -> Provider:
    base_url, key = environ.get("OPENAI_BASE_URL", ""), environ.get("OPENAI_API_KEY", "")
    if base_url and not environ.get("AVB_LLM_MODEL"):
        raise ValueError(f"AVB_LLM_MODEL must name a model that {base_url} serves")
    credentials = (("api_key", key),) if key else ()
    kind: Kind = "openai"
    if base_url:
        kind = "embedded" if environ.get("AVB_LLM_EMBEDDED") else "openai_compatible"
    name = environ.get("AVB_LLM_NAME") or kind.replace("_", "-")
    if "/" in name:
        raise ValueError(f"AVB_LLM_NAME must hold no slash, for a model is written provider/model: {name!r}")
    return Provider(name, kind, base_url, credentials, "" if base_url else OPENAI_MODEL, sees)


def _bedrock(environ: Mapping[str, str]) -> Provider | None:
    """None where there is no region or no sign of credentials: what an instance's role may do is asked when it is."""
    region = environ.get("AWS_REGION") or environ.get("AWS_DEFAULT_REGION") or ""
    if not region or not any(environ.get(name) for name in AWS_CREDENTIALS):
        return None
    credentials = [("region", region)]
    if key := environ.get("AWS_BEARER_TOKEN_BEDROCK"):
        credentials.append(("api_key", key))
    return Provider("bedrock", "bedrock", "", tuple(credentials), sees=_sees(environ))


def _check_default(own: Provider, served: list[str], environ: Mapping[str, str]) -> None:
    if not own.model:
        raise ValueError(f"AVB_LLM_MODEL must say which model of {own.name}: {own.name}/model")
    if own.name == "ollama" and served and own.model not in served and f"{own.model}:latest" not in served:
        raise ValueError(f"AVB_LLM_MODEL={own.model} is not among Ollama's models: {', '.join(served)}")


def _sees(environ: Mapping[str, str]) -> bool:
    """Whether images are sent to the models. The embedded ones see nothing."""
    asked = environ.get("AVB_LLM_IMAGES", "").strip().lower()
    if asked not in ("", "true", "false"):
        raise ValueError(f"AVB_LLM_IMAGES must be true or false, not {asked!r}")
    return asked == "true" or (not asked and not environ.get("AVB_LLM_EMBEDDED"))
