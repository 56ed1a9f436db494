"""What a call uses is told to the ledger exactly as the client was told it."""

import math
from collections import Counter
from decimal import Decimal

import pytest

from realtime.archive.events import CallEnded, UsageMetered
from realtime.protocol.config import SessionConfig
from tests.runtime.ports import UNAVAILABLE, Model, Speech, Table


def used(table: Table) -> dict[str, Decimal]:
    total: Counter[str] = Counter()
    for _, event in table.archive.events:
        if isinstance(event, UsageMetered):
            assert (event.agent, event.key_id) == ("test", "key_1")
            for meter, quantity in event.quantities.items():
                total[meter] += quantity
    return dict(total)


async def test_a_scripted_call_adds_up_to_what_the_client_was_told() -> None:
    speech = Speech("What time is it?")
    async with Table(Model("One ", "two. ", "Three ", "four."), speech) as table:
        table.send("session.update", session={"type": "realtime", "audio": {"input": {"transcription": {}}}})
        for turn in (1, 2, 3):
            table.speak(640)
            table.speak(640, level=0)
            await table.until(lambda turn=turn: table.wire.types.count("response.done") == turn)
        table.type_in("And now?")
        table.send("response.create", response={"output_modalities": ["text"]})
        await table.until(lambda: table.wire.types.count("response.done") == 4)
    told = [event["response"]["usage"] for event in table.wire.events if event["type"] == "response.done"]
    heard = [
        event["usage"]
        for event in table.wire.events
        if event["type"] == "conversation.item.input_audio_transcription.completed"
    ]
    total = used(table)
    assert len(heard) == 3
    assert total["stt_seconds"] == sum(usage["seconds"] for usage in heard)
    assert total["llm_tokens_in"] == sum(usage["input_tokens"] for usage in told) == 28
    assert total["llm_tokens_out"] == sum(usage["output_token_details"]["text_tokens"] for usage in told) == 16
    assert total["audio_seconds_out"] == sum(usage["output_token_details"]["audio_tokens"] for usage in told) * Decimal(
        "0.05"
    )
    assert total["audio_seconds_in"] == Decimal("3.840")
    assert total["tts_characters"] == sum(len(phrase) for phrase in speech.spoken)
    assert "telephony_seconds" not in total
    sources = [
        (event.source, meter, event.provider, event.model)
        for _, event in table.archive.events
        if isinstance(event, UsageMetered)
        for meter in event.quantities
    ]
    assert len(sources) == len(set(sources)), "each meter of a source is told once"
    by = {meter: (provider, model) for _, meter, provider, model in sources}
    assert by["llm_tokens_in"] == by["llm_tokens_out"] == ("scripted", "scripted-1")
    assert (by["stt_seconds"], by["tts_characters"]) == (("ears", "ears-1"), ("scripted", "voice-1"))


async def test_what_the_provider_had_cached_is_counted_apart() -> None:
    class Caching(Model):
        async def stream(self, request):  # type: ignore[no-untyped-def]
            from agents.llm.types import Finished, TextDelta

            yield TextDelta("Yes.")
            yield Finished("stop", 100, 2, 64)

    async with Table(Caching()) as table:
        table.send("response.create")
        await table.until("response.done")
    total = used(table)
    assert (total["llm_tokens_in"], total["llm_tokens_cached"], total["llm_tokens_out"]) == (36, 64, 2)
    assert total["llm_tokens_in"] + total["llm_tokens_cached"] == table.done()["usage"]["input_tokens"]


async def test_an_answer_that_is_cut_off_counts_what_was_sent_of_it() -> None:
    async with Table(Model(*["word, and another. "] * 1000)) as table:
        table.send("response.create")
        await table.until("response.output_audio.delta")
        table.send("response.cancel")
        await table.until("response.done")
        await table.until(lambda: table.model.closed == 1)
    total, told = used(table), table.done()["usage"]
    assert told["input_tokens"] == 0
    assert "llm_tokens_in" not in total
    assert math.ceil(total["audio_seconds_out"] * 1000 / 50) == told["output_token_details"]["audio_tokens"]
    assert total["tts_characters"] > 0


async def test_failures_cost_nothing_that_was_not_told() -> None:
    async with Table(Model(UNAVAILABLE), Speech(fails="stt")) as table:
        table.speak(640)
        table.speak(640, level=0)
        await table.until("response.done")
    assert used(table) == {"audio_seconds_in": Decimal("1.280")}


def told_in(table: Table) -> list[Decimal]:
    """Each telling of audio in, so far."""
    events = [event for _, event in table.archive.events if isinstance(event, UsageMetered)]
    return [event.quantities["audio_seconds_in"] for event in events if "audio_seconds_in" in event.quantities]


async def test_audio_in_is_told_while_the_call_lasts() -> None:
    async with Table() as table:
        for _ in range(7):
            table.speak(10_000, level=0)
            table.send("input_audio_buffer.clear")
        table.send("response.create")
        await table.until("response.done")
        assert told_in(table) == [Decimal(60)]
        table.speak(500, level=0)
    assert used(table)["audio_seconds_in"] == Decimal("70.5")


@pytest.mark.parametrize("speech_s", [0, 3])
async def test_a_killed_gateway_takes_no_more_than_a_minute_of_a_transcription_along(speech_s: int) -> None:
    """Silence, or utterances of three seconds and nobody who answers. What a kill leaves is what was told before it."""
    session = {"type": "transcription", "audio": {"input": {"transcription": {"model": "whisper-1"}}}}
    config = SessionConfig.transcription(session_id="sess_1", expires_at=1).updated(session)
    async with Table(session_config=config) as table:
        for second in range(1, 181):
            table.speak(1_000, level=5000 if second % 10 < speech_s else 0)
            await table.until(lambda second=second: table.runner.session.call.heard_samples == second * 24_000)
            assert 0 <= second - sum(told_in(table)) < 60
            assert table.budget.audio_ms == second * 1000, "the day's minutes are counted as they flow"
        assert told_in(table) == [Decimal(60)] * 3
        assert "response.done" not in table.wire.types
        assert ("stt_seconds" in used(table)) == bool(speech_s)


async def test_a_client_that_goes_in_mid_answer_is_counted_for_what_was_sent() -> None:
    speech = Speech()
    async with Table(Model(*["word, and another. "] * 1000), speech) as table:
        table.speak(2_000, level=0)
        table.send("response.create")
        await table.until(lambda: table.wire.types.count("response.output_audio.delta") >= 6)
        assert "response.done" not in table.wire.types
        assert await table.hang_up() == "client_closed"
        sent_ms = table.runner._spending._spoken_samples * 1000 // 24_000
    total = used(table)
    assert total["audio_seconds_in"] == 2
    assert total["audio_seconds_out"] == Decimal(sent_ms) / 1000 >= Decimal("0.3")
    phrases = [len(phrase) for phrase in speech.spoken]
    assert total["tts_characters"] in (sum(phrases), sum(phrases[:-1]), sum(phrases[:-2]))
    # No tokens were told for it, so none are counted.
    assert "llm_tokens_in" not in total
    last = table.archive.events[-1][1]
    assert isinstance(last, CallEnded), "everything is told before the end"
