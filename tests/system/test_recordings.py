"""Recorded calls of the whole product: what the archive plays is what caller and agent heard, whoever is killed."""

import asyncio
import io
import json
import urllib.error
import urllib.request
import wave
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agentvoicebox.cli.caller import CallFailed, Turn
from speech.engines import TTS_HZ, Pcm
from tests.system.product import Product
from tests.system.words import clip_24khz

CLIP = "librivox-0930.wav"
SETTLED_S = 60.0


def ask(product: Product, method: str, path: str, body: Any = None) -> bytes:
    request = urllib.request.Request(  # noqa: S310 - the product's own address
        f"{product.demo['base_url']}/api/v1/{path}",
        json.dumps(body).encode() if body is not None else None,
        {"Authorization": f"Bearer {product.demo['api_key']}", "Content-Type": "application/json"},
        method=method,
    )
    with urllib.request.urlopen(request, timeout=20) as answer:  # noqa: S310
        content: bytes = answer.read()
    return content


@pytest.fixture
def recording(breakable: Product) -> Iterator[Product]:
    """Every call of the tenant is recorded."""
    ask(breakable, "PATCH", "recording-policy/", {"record": "all"})
    yield breakable
    breakable.wait_ready()
    ask(breakable, "PATCH", "recording-policy/", {"record": "agent"})


async def recorded(product: Product, session_id: str) -> tuple[str, Pcm, Pcm]:
    """The state, the caller, the agent, once all is stored."""
    async with asyncio.timeout(SETTLED_S):
        while True:
            try:
                row = json.loads(await asyncio.to_thread(ask, product, "GET", f"recordings/{session_id}/"))["data"]
                if row["state"] != "recording":
                    break
            except OSError:
                pass
            await asyncio.sleep(0.3)
    content = await asyncio.to_thread(ask, product, "GET", f"recordings/{session_id}/content/")
    with wave.open(io.BytesIO(content)) as file:
        pcm = np.frombuffer(file.readframes(file.getnframes()), "<i2").reshape(-1, 2)
    return row["state"], pcm[:, 0], pcm[:, 1]


def find(track: Pcm, piece: Pcm, *, after: int = 0) -> int:
    """Where the very samples of the piece begin."""
    raw, wanted, at = track.tobytes(), piece.tobytes(), 2 * after
    while (at := raw.find(wanted, at)) % 2:
        assert at >= 0, "these samples are not in the recording"
        at += 1
    return at // 2


def find_all(track: Pcm, turn: Turn) -> tuple[int, int]:
    """Where an answer begins and ends, each of its pieces behind the one before it."""
    heard, begins, end, left = turn.pcm, -1, 0, 0
    for piece in turn.audio:
        piece = piece[: len(heard) - left]
        left += len(piece)
        if not piece.any():
            continue
        at = find(track, piece, after=end)
        begins, end = (at if begins < 0 else begins), at + len(piece)
    return begins, end


async def test_a_call_is_played_back_as_it_was_heard(recording: Product) -> None:
    said = clip_24khz(CLIP)
    async with recording.call() as caller:
        turn = await caller.say(said)
        await caller.hear_first(turn, 1500)
        again = await caller.say(said)
        await caller.hear_out(again)
        session_id = caller.session["id"]
    state, left, right = await recorded(recording, session_id)
    assert state == "complete"
    first = find(left, said)
    second = find(left, said, after=first + len(said))
    begins, ends = find_all(right, turn)
    assert turn.interrupted_after_ms is not None
    assert first + len(said) < begins, "the answer follows the question"
    assert ends - begins == pytest.approx(turn.interrupted_after_ms * 24, abs=24)
    assert second < ends + TTS_HZ // 2 < second + len(said), (
        "the agent falls silent soon after the caller spoke over it"
    )
    assert not right[ends : second + len(said)].any(), "and says nothing until the caller is done"
    answer, _ = find_all(right[second:], again)
    assert answer > len(said)


async def test_a_gateway_killed_in_mid_call_leaves_what_was_said(recording: Product) -> None:
    said = clip_24khz(CLIP)
    async with recording.call() as caller:
        session_id = caller.session["id"]
        await caller.say(said)
        await asyncio.sleep(0.5)
        recording.kill("gateway")
        with pytest.raises(CallFailed):
            await caller.say(said)
    await asyncio.to_thread(recording.wait_ready)
    state, left, _ = await recorded(recording, session_id)
    assert state == "interrupted"
    assert find(left, said) >= 0
    assert not any(files(recording, session_id))


async def test_a_worker_killed_at_its_end_loses_nothing(recording: Product) -> None:
    said = clip_24khz(CLIP)
    async with recording.call() as caller:
        session_id = caller.session["id"]
        await caller.say(said)
    recording.kill("default")
    state, left, _ = await recorded(recording, session_id)
    assert state == "complete"
    assert find(left, said) >= 0
    assert not any(files(recording, session_id))


def files(product: Product, session_id: str) -> Iterator[Path]:
    return (product.state / "spool").glob(f"*/{session_id}/*")
