"""Words that are told while they are said, under noise: real speech over the queues, in real time, by the stock SDK."""

import asyncio
import base64
from typing import Any

import numpy as np

from tests.system.product import Product
from tests.system.test_sdk import connected
from tests.system.words import TEXTS, clip_24khz, word_error_rate

CLIP = "jfk.wav"
PREFIX = "conversation.item.input_audio_transcription."


async def test_words_flow_while_a_caller_speaks_in_a_noisy_room(breakable: Product) -> None:
    clip = clip_24khz(CLIP)
    room = np.random.default_rng(1).normal(0, clip.std() / 30, len(clip) + 48_000)
    room[: len(clip)] += clip
    pcm = room.clip(-32768, 32767).astype(np.int16).tobytes()
    async with connected(breakable, model="", extra_query={"intent": "transcription"}) as connection:
        heard = {
            "transcription": {"model": "gpt-live-transcribe", "language": "en"},
            "noise_reduction": {"type": "far_field"},
            "turn_detection": {"type": "server_vad", "silence_duration_ms": 1500},
        }
        session: Any = {"type": "transcription", "audio": {"input": heard}}
        await connection.session.update(session=session)

        async def speak() -> None:
            for start in range(0, len(pcm), 4_800):
                await connection.input_audio_buffer.append(audio=base64.b64encode(pcm[start : start + 4_800]).decode())
                await asyncio.sleep(0.1)

        speaking = asyncio.create_task(speak())
        events: list[Any] = []
        async for event in connection:
            events.append(event)
            if event.type == PREFIX + "completed":
                break
        await speaking
    types = [event.type for event in events]
    assert "error" not in types
    early = [event for event in events[: types.index("input_audio_buffer.speech_stopped")] if "delta" in event.type]
    print(f"\n{len(early)} deltas while he spoke: {''.join(event.delta for event in early)!r}")
    assert early
    assert {event.item_id for event in events if event.type.startswith(PREFIX)} == {events[-1].item_id}
    assert "".join(event.delta for event in events if event.type == PREFIX + "delta") == events[-1].transcript
    assert word_error_rate([TEXTS[CLIP]], [events[-1].transcript]) <= 0.15
    committed = next(event for event in events if event.type == "input_audio_buffer.committed")
    assert committed.item_id == events[-1].item_id
