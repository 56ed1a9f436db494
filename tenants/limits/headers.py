"""What is left, in an answer's headers: the IETF draft's, and OpenAI's.

``RateLimit-Policy`` and ``RateLimit`` are lists of structured fields (draft-ietf-httpapi-ratelimit-headers-10): one
item for each counter, ``q`` what there is in ``w`` seconds, ``r`` what is left, ``t`` the seconds until all of it is.
Of the counter that refuses, ``t`` is the seconds until it has room: the draft wants it and ``Retry-After`` to name the
same moment.
"""

import math
from collections.abc import Sequence

from tenants.limits.counters import Answer, Standing


def policy_name(standing: Standing) -> str:
    counter = standing.counter
    return counter.name if counter.level == "tenant" else f"{counter.level}_{counter.name}"


def ratelimit_headers(answer: Answer) -> dict[str, str]:
    windows = [standing for standing in answer.standings if standing.counter.kind == "window" and standing.counter.cost]
    if not windows:
        return {}
    policies = [f'"{policy_name(one)}";q={one.counter.limit};w={math.ceil(one.counter.window_s)}' for one in windows]
    left = [f'"{policy_name(one)}";r={one.remaining};t={_wait_s(one, answer)}' for one in windows]
    return {"RateLimit-Policy": ", ".join(policies), "RateLimit": ", ".join(left)}


def _wait_s(standing: Standing, answer: Answer) -> int:
    return math.ceil(standing.reset_s) if standing.counter is not answer.refused else _whole_s(_retry_s(answer))


def retry_headers(answer: Answer) -> dict[str, str]:
    """For a refusal; a limit of 0 never has room, and is asked about again after its window."""
    wait_s = _retry_s(answer)
    return {"Retry-After": str(_whole_s(wait_s)), "Retry-After-Ms": str(math.ceil(wait_s * 1000))}


def _retry_s(answer: Answer) -> float:
    if answer.retry_after_s is not None:
        return answer.retry_after_s
    return answer.refused.window_s if answer.refused else 0.0


def _whole_s(wait_s: float) -> int:
    return max(1, math.ceil(wait_s))


def openai_headers(standings: Sequence[Standing]) -> dict[str, str]:
    """``x-ratelimit-*`` of requests and tokens: of several counters the one with the least left."""
    headers = {}
    for word, name in (("requests", "requests_per_minute"), ("tokens", "tokens_per_minute")):
        tightest = tightest_of(standings, name)
        if tightest is not None:
            headers[f"x-ratelimit-limit-{word}"] = str(tightest.counter.limit)
            headers[f"x-ratelimit-remaining-{word}"] = str(tightest.remaining)
            headers[f"x-ratelimit-reset-{word}"] = duration(tightest.reset_s)
    return headers


def tightest_of(standings: Sequence[Standing], name: str) -> Standing | None:
    """The counter of this limit that will refuse first."""
    named = [one for one in standings if one.counter.name == name]
    return min(named, key=lambda one: (one.remaining, -one.reset_s), default=None)


def duration(seconds: float) -> str:
    """As OpenAI writes it: ``6ms``, ``1.5s``, ``1m0.052s``."""
    ms = math.ceil(seconds * 1000)
    if ms < 1000:
        return f"{ms}ms"
    minutes, rest_ms = divmod(ms, 60_000)
    rest = f"{rest_ms / 1000:g}s"
    return f"{minutes}m{rest}" if minutes else rest
