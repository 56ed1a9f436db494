"""What routing would do with a call: the door's decision and the one by its first words, rule by rule."""

import asyncio
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from asgiref.sync import async_to_sync
from django.conf import settings

from agents.dialogue.intent import choose_rule
from agents.egress.breaker import RedisBreakers
from agents.egress.config import EgressConfig
from agents.llm.failover import build
from agents.routing.matching import StoredRule, Verdict, judge
from agents.spec import Rule

MODEL_TIMEOUT_S = 5.0

Find = Callable[[Sequence[Rule], str, str], Rule | None]
"""Of waiting rules the one that words in a language choose."""


@dataclass(frozen=True, slots=True)
class Tried:
    """``rule`` is the index of the rule that chose, None where none did."""

    rule: int | None
    verdicts: tuple[Verdict, ...]


def find_by_model(rules: Sequence[Rule], words: str, language: str) -> Rule | None:
    """By the platform's language models. Blocks, no longer than ``MODEL_TIMEOUT_S`` and a little."""
    return async_to_sync(_ask)(rules, words, language)


async def _ask(rules: Sequence[Rule], words: str, language: str) -> Rule | None:
    breakers = RedisBreakers(settings.REDIS_URL, settings.REDIS_WRITE_TIMEOUT_S)
    model = await asyncio.to_thread(build, os.environ, breakers, egress=EgressConfig.from_environ())
    try:
        return await choose_rule(rules, words, language, model=model, timeout_s=MODEL_TIMEOUT_S)
    finally:
        await model.aclose()
        await breakers.stop()


def try_rules(
    rules: Sequence[StoredRule],
    *,
    channel: str,
    attributes: Mapping[str, str],
    now: datetime,
    words: str = "",
    language: str = "",
    find: Find | None = None,
) -> Tried:
    """Without ``words`` the rules that need them wait, and the door's decision stands."""
    verdicts = list(judge(rules, channel=channel, attributes=attributes, now=now))
    chosen = next((place for place, verdict in enumerate(verdicts) if verdict.outcome == "holds"), None)
    waiting = {place: rules[place].waiting() for place, verdict in enumerate(verdicts) if verdict.outcome == "waits"}
    if not words.strip() or not waiting:
        return Tried(chosen, tuple(verdicts))
    found = (find or find_by_model)(tuple(waiting.values()), words, language)
    meant = next((place for place, rule in waiting.items() if rule is found), None)
    for place in waiting:
        verdicts[place] = Verdict("does_not_hold", "The first words do not choose it.")
    if meant is not None:
        verdicts[meant] = Verdict("holds", "All its conditions hold, and the first words choose it.")
        for place in range(meant + 1, len(verdicts)):
            if place in waiting or place == chosen:
                verdicts[place] = Verdict("not_reached", f"The rule {rules[meant].name!r} comes before it.")
        chosen = meant
    return Tried(chosen, tuple(verdicts))
