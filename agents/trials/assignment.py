"""Which version a caller gets: by weight, and the same one for the same subject as long as the trial runs."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

BUCKETS = 2**64


@dataclass(frozen=True, slots=True)
class Arm:
    """``weight`` is the arm's part of the sum of all weights; 0 gets nobody."""

    version: int
    weight: int


def choose_version(trial: str, subject: str, arms: Sequence[Arm]) -> int:
    """The version for ``subject``: whom the tenant calls the end user, or the session of a caller without a name.

    Where a subject falls depends on the trial too, so that two trials split people independently of each other. Raises
    ValueError when nobody weighs anything.
    """
    total = sum(arm.weight for arm in arms)
    if total <= 0:
        raise ValueError("a trial needs an arm with a weight above 0")
    digest = hashlib.sha256(f"{trial}\0{subject}".encode("utf-8", "surrogatepass")).digest()
    # In whole numbers: a share is exact to one in 2**64, and no arm's border moves by rounding.
    place = int.from_bytes(digest[:8]) * total
    border = 0
    for arm in arms:
        border += arm.weight * BUCKETS
        if place < border:
            return arm.version
    raise AssertionError("the weights add up to more than every place")
