"""Which language model a gateway thinks with, by the environment that the ecosystem's own tools use.

In order: ``OPENAI_BASE_URL`` or ``OPENAI_API_KEY``; an Ollama that answers at ``OLLAMA_HOST``; none, which is the
degraded echo. ``AVB_LLM_MODEL`` names the model, ``AVB_LLM_IMAGES`` says whether it sees.
"""

from collections.abc import Mapping

import httpx

from agents.llm.degraded import Degraded, WithFallback
from agents.llm.openai_compatible import OpenAiCompatible
from agents.llm.types import LanguageModel

OPENAI_URL = "https://api.openai.com/v1"
OPENAI_MODEL = "gpt-4o-mini"
OLLAMA_URL = "http://127.0.0.1:11434"
OLLAMA_PROBE_S = 0.3


def ollama_url(environ: Mapping[str, str]) -> str:
    """``OLLAMA_HOST`` as Ollama reads it: with or without scheme and port."""
    host = environ.get("OLLAMA_HOST", "").strip() or OLLAMA_URL
    url = httpx.URL(host if "://" in host else f"http://{host}")
    if url.host == "0.0.0.0":  # noqa: S104 - a server's address; a client asks loopback
        url = url.copy_with(host="127.0.0.1")
    return str(url.copy_with(port=url.port or 11434)).rstrip("/")


def ollama_models(environ: Mapping[str, str]) -> list[str]:
    """The models of the Ollama that the environment means, none when it does not answer within 0.3 s. Blocks."""
    try:
        answer = httpx.get(f"{ollama_url(environ)}/api/tags", timeout=OLLAMA_PROBE_S)
        answer.raise_for_status()
        return [str(model["name"]) for model in answer.json().get("models") or ()]
    except (httpx.HTTPError, httpx.InvalidURL, ValueError, KeyError, TypeError, AttributeError):
        return []


def choose(environ: Mapping[str, str]) -> LanguageModel:
    """Raises ValueError when the environment contradicts itself. Blocks: for start-up only."""
    model = environ.get("AVB_LLM_MODEL", "")
    base_url, api_key = environ.get("OPENAI_BASE_URL", ""), environ.get("OPENAI_API_KEY", "")
    if base_url or api_key:
        if base_url and not model:
            raise ValueError(f"AVB_LLM_MODEL must name a model that {base_url} serves")
        name = environ.get("AVB_LLM_NAME") or ("openai" if not base_url else "openai-compatible")
        first = OpenAiCompatible(name, base_url or OPENAI_URL, api_key, model or OPENAI_MODEL, sees=_sees(environ))
        return WithFallback(first, Degraded())
    if models := ollama_models(environ):
        chosen = model or models[0]
        if chosen not in models and f"{chosen}:latest" not in models:
            raise ValueError(f"AVB_LLM_MODEL={chosen} is not among Ollama's models: {', '.join(models)}")
        first = OpenAiCompatible("ollama", f"{ollama_url(environ)}/v1", "", chosen, sees=_sees(environ))
        return WithFallback(first, Degraded())
    return Degraded()


def _sees(environ: Mapping[str, str]) -> bool:
    """Whether images are sent to the model. The embedded ones see nothing."""
    asked = environ.get("AVB_LLM_IMAGES", "").strip().lower()
    if asked not in ("", "true", "false"):
        raise ValueError(f"AVB_LLM_IMAGES must be true or false, not {asked!r}")
    return asked == "true" or (not asked and not environ.get("AVB_LLM_EMBEDDED"))
