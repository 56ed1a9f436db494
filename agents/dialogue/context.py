"""How much of a conversation a language model is given.

Tokens are counted with the model's own measure: what its provider reported for an earlier prompt, over that prompt's
length. Until a first report a token is taken to be four characters.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from agents.llm.types import Message

MESSAGE_OVERHEAD = 4
"""Tokens that a message costs beside its text."""
IMAGE_TOKENS = 765
"""What an image is taken for: one of 1,024 by 1,024 in high detail, as OpenAI counts it."""
ANSWER_TOKENS = 1_024
"""What is left for an answer that has no cap of its own."""


class ContextTooLong(Exception):
    """The conversation does not fit, and the session says that nothing may be dropped."""


@dataclass
class TokenMeasure:
    """Tokens per character, learned from a provider's reports."""

    per_char: float = 0.25

    def learn(self, characters: int, tokens: int) -> None:
        """Reports of short prompts say more of the overhead than of the text, so they teach nothing."""
        if characters >= 200 and tokens > 0:
            self.per_char = min(max(tokens / characters, 0.05), 2.0)

    def count(self, characters: int) -> int:
        return round(characters * self.per_char)

    def count_item(self, characters: int, images: int = 0) -> int:
        return MESSAGE_OVERHEAD + round(characters * self.per_char) + images * IMAGE_TOKENS


def length_text(message: Message) -> str:
    """All of a message that a model reads."""
    return message.text + "".join(call.name + call.arguments for call in message.tool_calls)


@dataclass(frozen=True)
class Budget:
    """In tokens. ``limit``: the most that the conversation may have; ``target``: what is left of it after a cut."""

    limit: int
    target: int
    may_cut: bool


def read_budget(truncation: Any, context_tokens: int, fixed_tokens: int, max_output_tokens: int | str) -> Budget:
    """``truncation`` as the session shows it; ``fixed_tokens`` for instructions and tools, which are never dropped."""
    answer = max_output_tokens if isinstance(max_output_tokens, int) else ANSWER_TOKENS
    limit = max(0, context_tokens - fixed_tokens - answer)
    if not isinstance(truncation, dict):
        return Budget(limit, limit, may_cut=truncation != "disabled")
    limits = truncation.get("token_limits") or {}
    limit = min(limit, limits.get("post_instructions", limit))
    return Budget(limit, int(limit * truncation["retention_ratio"]), may_cut=True)


def first_kept(costs_from_the_end: Iterable[int], count: int, budget: Budget) -> int:
    """Index of the first of ``count`` items that still fits; the last one always does. Raises ContextTooLong.

    ``costs_from_the_end`` in tokens, the last item's first; no more of them are asked for than fit.
    """
    total, fits_target = 0, count
    for index, cost in zip(range(count - 1, -1, -1), costs_from_the_end, strict=False):
        total += cost
        if total <= budget.target:
            fits_target = index
        if total > budget.limit:
            if not budget.may_cut:
                raise ContextTooLong(f"the conversation has more than the {budget.limit} tokens that there is room for")
            return min(fits_target, count - 1)
    return 0
