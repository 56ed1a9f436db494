"""How long a model is waited for, and how often it is asked, by the environment."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class FailoverConfig:
    """``first_token_s``: the wait for one model while there is another behind it; ``total_s``: all waiting for one
    answer; ``tries``: passes through a chain, ``backoff_base_s`` apart at first, twice as far each time, at most
    ``backoff_max_s``. Of providers that nobody uses, ``pool_providers`` keep connections, for ``pool_idle_s``."""

    first_token_s: float = 5.0
    total_s: float = 30.0
    tries: int = 5
    backoff_base_s: float = 1.0
    backoff_max_s: float = 60.0
    pool_providers: int = 256
    pool_idle_s: float = 300.0


def read_config(environ: Mapping[str, str]) -> FailoverConfig:
    """Raises ValueError naming the variable."""
    default = FailoverConfig()
    return FailoverConfig(
        first_token_s=_number(environ, "AVB_LLM_FIRST_TOKEN_S", default.first_token_s, 0.1, 600),
        total_s=_number(environ, "AVB_LLM_TOTAL_S", default.total_s, 0.1, 600),
        tries=int(_number(environ, "AVB_LLM_TRIES", default.tries, 1, 100)),
        backoff_base_s=_number(environ, "AVB_LLM_BACKOFF_BASE_S", default.backoff_base_s, 0, 600),
        backoff_max_s=_number(environ, "AVB_LLM_BACKOFF_MAX_S", default.backoff_max_s, 0, 600),
        pool_providers=int(_number(environ, "AVB_LLM_POOL_PROVIDERS", default.pool_providers, 0, 100_000)),
        pool_idle_s=_number(environ, "AVB_LLM_POOL_IDLE_S", default.pool_idle_s, 1, 86_400),
    )


def _number(environ: Mapping[str, str], name: str, default: float, low: float, high: float) -> float:
    written = environ.get(name, "").strip()
    if not written:
        return default
    try:
        number = int(written) if isinstance(default, int) else float(written)
    except ValueError:
        number = None
    if number is None or not low <= number <= high:
        kind = "a whole number" if isinstance(default, int) else "a number"
        raise ValueError(f"{name} must be {kind} from {low:g} to {high:g}, not {written!r}")
    return number
