"""Cutting a long recording where nobody speaks, so that each piece can be recognised by itself."""

import numpy as np

from speech.engines import Pcm

LONGEST_PIECE_S = 30.0
SEARCH_S = 10.0
PAUSE_S = 0.3
STEP_S = 0.02


def split_at_pauses(pcm: Pcm, hz: int, longest_s: float = LONGEST_PIECE_S) -> list[tuple[int, int]]:
    """Pieces as (first sample, sample behind the last), together the whole recording, none longer than ``longest_s``.

    Each cut lies in the middle of the quietest 0.3 s of the last 10 s that a piece may have.
    """
    pieces, start = [], 0
    longest, search = int(longest_s * hz), int(min(SEARCH_S, longest_s / 2) * hz)
    while len(pcm) - start > longest:
        earliest, latest = start + longest - search, start + longest
        cut = earliest + _quietest(pcm[earliest:latest], hz)
        pieces.append((start, cut))
        start = cut
    return [*pieces, (start, len(pcm))]


def _quietest(pcm: Pcm, hz: int) -> int:
    """The middle of the stretch of ``PAUSE_S`` with the least energy; the later of two equals."""
    step, steps = int(STEP_S * hz), max(1, round(PAUSE_S / STEP_S))
    whole = len(pcm) // step * step
    energy = np.square(pcm[:whole].astype(np.float32)).reshape(-1, step).mean(axis=1)
    heard = np.convolve(energy, np.ones(steps, np.float32), "valid")
    last_of_least = len(heard) - 1 - int(np.argmin(heard[::-1]))
    return (last_of_least * step) + steps * step // 2
