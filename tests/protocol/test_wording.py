"""From audio to words: deltas that make up the transcript, words told while they are said, pauses that are used."""

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from realtime.protocol import effects as do
from realtime.protocol import events as ev
from realtime.protocol.call import Limits
from realtime.protocol.wording import Stretch, Wording
from speech.engines import Segment, Transcript, Word
from tests.protocol.call import SILENCE, SPEECH, TestCall, tone

PREFIX = "conversation.item.input_audio_transcription."
LIVE = "gpt-live-transcribe"


def transcript(text: str, language: str = "en") -> Transcript:
    words = text.split()
    return Transcript(
        text, language, 1.0, tuple(Word(word, i * 0.3, i * 0.3 + 0.2, 0.5) for i, word in enumerate(words))
    )


def ready(job_id: str, text: str) -> ev.TranscriptReady:
    return ev.TranscriptReady(job_id=job_id, transcript=transcript(text))


def listen(model: str = "whisper-1", *, limits: Limits | None = None, **heard: Any) -> TestCall:
    call = TestCall(limits=limits or Limits())
    audio = {"input": {"transcription": {"model": model}, **heard}}
    call.client("session.update", session={"type": "realtime", "audio": audio})
    assert call.events[-1]["type"] == "session.updated", call.events
    return call


def told(call: TestCall, item_id: str = "") -> str:
    return "".join(e["delta"] for e in call.said if e["type"] == PREFIX + "delta" and e["item_id"].startswith(item_id))


def guesses(call: TestCall) -> list[do.Transcribe]:
    return [effect for effect in call.all(do.Transcribe) if effect.guess]


# ---- what is told of one stretch ----


def stretch_of(*guessed: str) -> Stretch:
    stretch = Stretch(0)
    for text in guessed:
        stretch.guess(transcript(text))
    return stretch


def text_of(stretch: Stretch) -> str:
    return "".join(part.text for part in stretch.parts)


@pytest.mark.parametrize(
    ("guessed", "expected"),
    [
        (["ask not what"], ""),
        (["ask not what", "ask not what your country"], "ask not what"),
        (["Ask not. What", "ask not what your", "ask not what your country"], "ask not what your"),
        (["ask not what your", "as not what your"], ""),
        (["ask not", "ask not what", "bask in what", "ask not what your country", "ask not what your country"],
         "ask not what your country"),
    ],
    ids=["one guess", "the agreed beginning", "but for case and dots", "no agreement", "a wrong guess between"],
)  # fmt: skip
def test_words_are_told_once_two_guesses_agree(guessed: list[str], expected: str) -> None:
    assert text_of(stretch_of(*guessed)) == expected


@pytest.mark.parametrize(
    ("final", "expected"),
    [
        ("ask not what your country can do.", "ask not what your country can do."),
        ("Ask not, what your country can do.", "ask not what your country can do."),
        ("Ask nor what your country can do.", "ask not what your country can do."),
        ("So ask not what your country can do.", "ask not what your country can do."),
        ("ask not whatever your country", "ask not whatever your country"),
        ("ask", "ask not what"),
        ("", "ask not what"),
        ("entirely other words were said here", "ask not what were said here"),
    ],
)
def test_what_was_told_is_never_taken_back(final: str, expected: str) -> None:
    stretch = stretch_of("ask not what", "ask not what")
    stretch.closed, stretch.transcript = True, transcript(final)
    before = list(stretch.parts)
    stretch.advance()
    assert stretch.done
    assert stretch.parts[: len(before)] == before
    assert text_of(stretch) == expected


def test_segments_come_first_and_the_rest_with_the_transcript() -> None:
    stretch = Stretch(0, closed=True, heard=[Segment("One two."), Segment(" Three.")])
    stretch.advance()
    assert text_of(stretch) == "One two. Three."
    stretch.transcript = transcript("One two. Three. Four.")
    stretch.advance()
    assert [part.text for part in stretch.parts] == ["One two.", " Three.", " Four."]


@pytest.mark.parametrize(("language", "expected"), [("en", "one two"), ("ja", "onetwo")])
def test_stretches_are_joined_as_their_language_joins(language: str, expected: str) -> None:
    stretches = [Stretch(0, closed=True, transcript=transcript(text, language)) for text in ("one", "two")]
    wording = Wording("item_1", stretches)
    wording.advance()
    assert wording.text == expected


def test_segments_are_joined_before_their_own_language_is_known() -> None:
    first = Stretch(0, closed=True, transcript=transcript("one", "ja"))
    second = Stretch(1, closed=True, heard=[Segment("two")])
    wording = Wording("item_1", [first, second])
    wording.advance()
    assert wording.text == "onetwo"
    second.transcript = transcript("two", "ja")
    wording.advance()
    assert wording.text == "onetwo"


def test_a_long_text_is_followed_near_the_end_of_what_was_told() -> None:
    said = " ".join(f"word{i}" for i in range(200))
    stretch = stretch_of(said, said)
    stretch.closed, stretch.transcript = True, transcript(f"So, {said} and more")
    stretch.advance()
    assert text_of(stretch) == f"{said} and more"


WORDS = st.lists(st.sampled_from(["no", "No,", "yes", "a", "b.", "you", "…"]), max_size=8).map(" ".join)


@settings(max_examples=300, deadline=None)
@given(guessed=st.lists(WORDS, max_size=6), heard=st.lists(WORDS, max_size=3), final=WORDS)
def test_whatever_is_guessed_parts_only_grow(guessed: list[str], heard: list[str], final: str) -> None:
    stretch, before = Stretch(0), ""
    for text in guessed:
        stretch.guess(transcript(text))
        assert text_of(stretch).startswith(before)
        before = text_of(stretch)
    stretch.closed, stretch.heard = True, [Segment(" " + text) for text in heard if text]
    stretch.advance()
    assert text_of(stretch).startswith(before)
    before = text_of(stretch)
    stretch.transcript = transcript(final)
    stretch.advance()
    assert text_of(stretch).startswith(before)
    assert stretch.done
    if not guessed and not any(heard):
        assert text_of(stretch) == final


# ---- a session that is told at the end of its turns ----


def test_segments_of_a_long_utterance_are_several_deltas() -> None:
    call = listen(turn_detection=None)
    call.client("session.update", session={"type": "realtime", "include": ["item.input_audio_transcription.logprobs"]})
    call.append(tone(40_000))
    call.client("input_audio_buffer.commit")
    job = call.one(do.Transcribe)
    assert job.segments
    first = Segment("The first half minute.", transcript("The first half minute.").words)
    assert call.result(ev.SegmentReady(job_id=job.job_id, segment=first)) == [PREFIX + "delta"]
    assert [entry["token"] for entry in call.events[0]["logprobs"]] == ["The", "first", "half", "minute."]
    assert call.result(ready(job.job_id, "The first half minute. And the rest.")) == [
        PREFIX + "delta",
        PREFIX + "completed",
    ]
    assert [e["delta"] for e in call.said if e["type"] == PREFIX + "delta"] == [first.text, " And the rest."]
    assert [len(e["logprobs"]) for e in call.events] == [3, 7]
    assert call.events[1]["transcript"] == told(call) == "The first half minute. And the rest."


def test_segments_that_come_before_the_turn_is_over_wait_for_its_item() -> None:
    call = listen()
    call.hear(640, SPEECH)
    call.hear(128, SILENCE)
    job = call.one(do.Transcribe)
    assert call.result(ev.SegmentReady(job_id=job.job_id, segment=Segment("Go."))) == []
    types = call.hear(512, SILENCE)
    assert types.index("conversation.item.done") < types.index(PREFIX + "delta")
    assert call.result(ready(job.job_id, "Go. Now.")) == [PREFIX + "delta", PREFIX + "completed"]
    assert told(call) == "Go. Now."


def test_segments_of_words_that_went_on_are_forgotten() -> None:
    call = listen()
    call.hear(640, SPEECH)
    call.hear(128, SILENCE)
    early = call.one(do.Transcribe)
    call.result(ev.SegmentReady(job_id=early.job_id, segment=Segment("Go.")))
    call.hear(320, SPEECH)
    call.hear(512, SILENCE)
    call.result(ev.SegmentReady(job_id=early.job_id, segment=Segment("Late.")))
    assert told(call) == ""


def test_a_session_that_wants_no_words_asks_for_no_segments() -> None:
    call = TestCall()
    call.hear(640, SPEECH)
    call.hear(128, SILENCE)
    assert not call.one(do.Transcribe).segments


def long_turn(pause_ms: int) -> tuple[TestCall, do.Transcribe, do.Transcribe]:
    call = listen(turn_detection={"type": "server_vad", "silence_duration_ms": 2000})
    call.hear(9_600, SPEECH)
    call.hear(pause_ms, SILENCE)
    first = call.one(do.Transcribe)
    call.hear(1_280, SPEECH)
    call.hear(2_016, SILENCE)
    return call, first, call.one(do.Transcribe)


def test_in_a_long_turn_what_was_recognised_at_a_pause_is_kept() -> None:
    call, first, second = long_turn(pause_ms=640)
    assert len(first.pcm_24khz) / 24 > 9_600
    assert len(second.pcm_24khz) / 24 < 2_200
    # Their words come in the order in which they were said.
    assert call.result(ready(second.job_id, "and this is the rest.")) == []
    types = call.result(ready(first.job_id, "This was long,"))
    assert types == [PREFIX + "delta", PREFIX + "delta", PREFIX + "completed"]
    assert call.one(do.StartReply).request.messages[-1].text == "This was long, and this is the rest."
    item_id = call.events[0]["item_id"]
    assert told(call, item_id) == "This was long, and this is the rest."
    # The turn is one item, with all of its sound.
    call.client("conversation.item.retrieve", item_id=item_id)
    assert len(call.events[0]["item"]["content"][0]["audio"]) * 3 / 4 / 48 > 13_000


def test_after_a_short_pause_the_whole_turn_is_recognised() -> None:
    _, first, second = long_turn(pause_ms=192)
    assert len(second.pcm_24khz) > len(first.pcm_24khz)


def failed(job_id: str) -> ev.TranscriptFailed:
    return ev.TranscriptFailed(job_id=job_id, code="stt_failed", message="No.")


def test_a_kept_piece_that_fails_is_recognised_again_with_what_came_after_it() -> None:
    call, first, second = long_turn(pause_ms=640)
    assert call.result(failed(first.job_id)) == []
    assert call.one(do.DropTranscription).job_id == second.job_id
    whole = call.one(do.Transcribe)
    assert len(whole.pcm_24khz) == len(first.pcm_24khz) + len(second.pcm_24khz)
    assert call.result(ready(second.job_id, "the rest")) == []
    assert call.result(ready(whole.job_id, "all of it")) == [PREFIX + "delta", PREFIX + "completed"]
    assert call.one(do.StartReply).request.messages[-1].text == told(call) == "all of it"


def test_a_whole_that_fails_too_fails_the_item_once() -> None:
    call, first, _ = long_turn(pause_ms=640)
    call.result(failed(first.job_id))
    whole = call.one(do.Transcribe)
    assert call.result(failed(whole.job_id)) == [PREFIX + "failed"]
    assert call.all(do.StartReply)
    assert call.result(ready(whole.job_id, "late")) == []


def test_a_last_piece_that_fails_fails_the_item() -> None:
    call, first, second = long_turn(pause_ms=640)
    assert call.result(failed(second.job_id)) == [PREFIX + "failed"]
    assert call.one(do.DropTranscription).job_id == first.job_id
    assert call.all(do.Transcribe) == []


def test_what_was_told_of_a_piece_that_fails_then_is_not_told_again() -> None:
    call, first, _ = long_turn(pause_ms=640)
    call.result(ev.SegmentReady(job_id=first.job_id, segment=Segment("One two.", transcript("One two.").words)))
    call.result(failed(first.job_id))
    whole = call.one(do.Transcribe)
    call.result(ev.SegmentReady(job_id=whole.job_id, segment=Segment("One, two.")))
    types = call.result(ready(whole.job_id, "One, two. And three."))
    assert types == [PREFIX + "delta", PREFIX + "completed"]
    assert call.events[1]["transcript"] == told(call) == "One two. And three."


@pytest.mark.parametrize("model", ["whisper-1", LIVE])
def test_a_kept_piece_that_fails_while_the_caller_speaks_is_no_piece_of_its_own(model: str) -> None:
    call = listen(model, turn_detection={"type": "server_vad", "silence_duration_ms": 2000})
    call.hear(9_600, SPEECH)
    call.hear(640, SILENCE)
    first = [job for job in call.all(do.Transcribe) if not job.guess][-1]
    call.hear(1_280, SPEECH)
    later = guesses(call)
    assert call.result(failed(first.job_id)) == []
    assert [drop.job_id for drop in call.all(do.DropTranscription)] == [guess.job_id for guess in later]
    call.hear(2_016, SILENCE)
    whole = call.one(do.Transcribe)
    assert len(whole.pcm_24khz) > len(first.pcm_24khz) + 1_280 * 24
    assert call.result(ready(whole.job_id, "all of it"))[-1] == PREFIX + "completed"


def test_a_kept_piece_that_fails_at_a_later_pause_is_read_ahead_with_it() -> None:
    call = listen(turn_detection={"type": "server_vad", "silence_duration_ms": 2000})
    call.hear(9_600, SPEECH)
    call.hear(640, SILENCE)
    first = call.one(do.Transcribe)
    call.hear(1_280, SPEECH)
    call.hear(128, SILENCE)
    second = call.one(do.Transcribe)
    call.result(failed(first.job_id))
    assert call.one(do.DropTranscription).job_id == second.job_id
    whole = call.one(do.Transcribe)
    assert len(whole.pcm_24khz) == len(first.pcm_24khz) + len(second.pcm_24khz)
    call.result(ready(whole.job_id, "all of it"))
    assert call.hear(2_016, SILENCE)[-2:] == [PREFIX + "completed", "response.created"]
    assert call.all(do.Transcribe) == []


def test_words_of_an_item_that_was_deleted_are_not_given_to_another_of_its_name() -> None:
    call = listen(turn_detection=None)
    call.append(tone(1_000))
    call.client("input_audio_buffer.commit")
    job, item_id = call.one(do.Transcribe), call.events[0]["item_id"]
    call.client("conversation.item.delete", item_id=item_id)
    content = [{"type": "input_text", "text": "Typed."}]
    call.client("conversation.item.create", item={"id": item_id, "type": "message", "role": "user", "content": content})
    assert call.events[0]["type"] == "conversation.item.added"
    assert call.result(ready(job.job_id, "Spoken.")) == []
    assert call.all(do.Store) == []


def test_no_item_may_take_the_name_of_the_one_that_is_being_said() -> None:
    call = listen()
    call.hear(640, SPEECH)
    item_id = call.said[-1]["item_id"]
    content = [{"type": "input_text", "text": "Typed."}]
    item = {"id": item_id, "type": "message", "role": "user", "content": content}
    assert call.client("conversation.item.create", item=item) == ["error"]
    assert call.events[0]["error"]["code"] == "item_create_duplicate_item_id"


# ---- a session that is told while the caller speaks ----


def test_the_recogniser_is_told_what_to_expect() -> None:
    call = TestCall()
    hints = {"model": "whisper-1", "prompt": "A hotel.", "keywords": ["Aurora", "Brae"], "languages": ["de"]}
    call.client("session.update", session={"type": "realtime", "audio": {"input": {"transcription": hints}}})
    call.hear(640, SPEECH)
    call.hear(512, SILENCE)
    job = [job for job in call.all(do.Transcribe) if not job.guess][-1]
    assert (job.prompt, job.language) == ("A hotel. Aurora, Brae", "de")


@pytest.mark.parametrize(("delay", "after_ms"), [("minimal", 500), ("medium", 1_000), ("xhigh", 2_500)])
def test_a_client_says_how_long_words_may_wait_for_better_ones(delay: str, after_ms: int) -> None:
    call = TestCall()
    transcription = {"model": LIVE, "delay": delay}
    session = {"type": "realtime", "audio": {"input": {"transcription": transcription}}}
    call.client("session.update", session=session)
    assert "delay" not in call.events[-1]["session"]["audio"]["input"]["transcription"]
    call.client("session.update", session={"type": "realtime", "instructions": "Be brief."})
    call.hear(after_ms - 100, SPEECH)
    assert guesses(call) == []
    call.hear(320, SPEECH)
    assert len(guesses(call)) == 1


def test_words_flow_while_they_are_said_under_the_id_of_the_item_to_come() -> None:
    call = listen(LIVE)
    call.hear(1_600, SPEECH)
    item_id = call.said[-1]["item_id"]
    [guess] = guesses(call)
    assert call.result(ready(guess.job_id, "ask not")) == []
    call.hear(1_600, SPEECH)
    [guess] = guesses(call)
    assert call.result(ready(guess.job_id, "Ask not what you're")) == [PREFIX + "delta"]
    assert (call.events[0]["item_id"], call.events[0]["delta"]) == (item_id, "Ask not")
    types = call.hear(512, SILENCE)
    assert call.said[-2]["item"]["id"] == item_id
    assert types[0] == "input_audio_buffer.speech_stopped"
    final = [job for job in call.all(do.Transcribe) if not job.guess][-1]
    types = call.result(ready(final.job_id, "Ask not what your country can do."))
    assert types == [PREFIX + "delta", PREFIX + "completed"]
    assert call.events[1]["transcript"] == told(call, item_id) == "Ask not what your country can do."


def test_a_call_has_one_guess_at_a_time_and_fewer_where_the_recogniser_is_slow() -> None:
    call = listen(LIVE)
    call.hear(960, SPEECH)
    call.hear(960, SPEECH)
    [guess] = guesses(call)
    call.hear(6_400, SPEECH)
    assert guesses(call) == []
    call.result(ready(guess.job_id, "slow"))
    # It took 6.4 s and more: the next is asked for after as long a time.
    call.hear(5_120, SPEECH)
    assert guesses(call) == []
    call.hear(2_560, SPEECH)
    assert len(guesses(call)) == 1


def test_a_guess_that_fails_costs_no_words() -> None:
    call = listen(LIVE)
    call.hear(1_600, SPEECH)
    [guess] = guesses(call)
    assert call.result(ev.TranscriptFailed(job_id=guess.job_id, code="stt_timeout", message="No.")) == []
    call.hear(512, SILENCE)
    final = [job for job in call.all(do.Transcribe) if not job.guess][-1]
    assert call.result(ready(final.job_id, "Yes."))[-1] == PREFIX + "completed"


def test_a_pause_ends_the_guessing_and_what_it_gives_serves_as_a_guess() -> None:
    call = listen(LIVE, turn_detection={"type": "server_vad", "silence_duration_ms": 600})
    call.hear(1_600, SPEECH)
    [guess] = guesses(call)
    call.result(ready(guess.job_id, "go forward"))
    call.hear(1_280, SPEECH)
    [guess] = guesses(call)
    call.hear(192, SILENCE)
    assert call.one(do.DropTranscription).job_id == guess.job_id
    [early] = call.all(do.Transcribe)
    assert call.result(ready(early.job_id, "Go forward ten meters.")) == []
    assert call.hear(64, SPEECH) == [PREFIX + "delta"]
    assert told(call) == "Go forward"


def test_what_was_asked_at_a_pause_delays_the_next_guess_by_its_own_time_only() -> None:
    call = listen(LIVE, turn_detection={"type": "server_vad", "silence_duration_ms": 600})
    call.hear(6_400, SPEECH)
    assert len(guesses(call)) == 1
    call.hear(192, SILENCE)
    early = call.one(do.Transcribe)
    assert not early.guess
    call.hear(64, SPEECH)
    call.result(ready(early.job_id, "one two"))
    call.hear(1_280, SPEECH)
    assert len(guesses(call)) == 1


def test_without_turn_detection_words_flow_until_the_commit() -> None:
    call = listen(LIVE, turn_detection=None)
    for text in ("one two", "one two three"):
        call.append(tone(1_100))
        [guess] = guesses(call)
        call.result(ready(guess.job_id, text))
    assert told(call) == "one two"
    types = call.client("input_audio_buffer.commit")
    assert types == ["input_audio_buffer.committed", "conversation.item.added", "conversation.item.done"]
    item_id = call.events[0]["item_id"]
    call.result(ready(call.one(do.Transcribe).job_id, "one two three four"))
    assert told(call, item_id) == "one two three four"
    # The next item's words are its own.
    call.append(tone(1_100))
    [guess] = guesses(call)
    assert len(guess.pcm_24khz) == 1_100 * 24


def test_the_end_of_a_call_asks_for_no_more_guesses() -> None:
    call = listen(LIVE, turn_detection=None, noise_reduction={"type": "near_field"})
    call.append(tone(1_010))
    assert call.session.ear.input.end < 1_000 * 24  # the suppressor holds the rest back
    assert not [effect for effect in call.session.hang_up() if isinstance(effect, do.Transcribe)]


def test_a_buffer_that_is_cleared_is_forgotten() -> None:
    call = listen(LIVE, turn_detection=None)
    call.append(tone(1_100))
    [guess] = guesses(call)
    call.client("input_audio_buffer.clear")
    assert call.one(do.DropTranscription).job_id == guess.job_id
    assert call.result(ready(guess.job_id, "one two")) == []
    assert call.session.hang_up() == []


@pytest.mark.parametrize(("model", "limits"), [("whisper-1", Limits()), (LIVE, Limits(guess_ms=0))])
def test_other_models_and_a_setting_of_nought_do_not_guess(model: str, limits: Limits) -> None:
    call = listen(model, limits=limits)
    call.hear(3_200, SPEECH)
    assert call.all(do.Transcribe) == []


def test_a_guess_is_no_longer_than_the_recogniser_hears_at_once() -> None:
    call = listen(LIVE, turn_detection=None)
    for _ in range(40):
        call.append(tone(1_000))
        for guess in guesses(call):
            assert len(guess.pcm_24khz) <= 28 * 24_000
            call.result(ready(guess.job_id, "one"))
    call.client("input_audio_buffer.commit")
    assert len(call.one(do.Transcribe).pcm_24khz) == 40 * 24_000


# ---- whatever comes in ----


class Words(RuleBasedStateMachine):
    """A caller who speaks and pauses, a recogniser who answers in any order, and a client who interferes."""

    model = "whisper-1"

    def __init__(self) -> None:
        super().__init__()
        self.call = listen(self.model, turn_detection={"type": "server_vad", "silence_duration_ms": 500})
        self.jobs: list[str] = []
        self.seen = 0
        self.committed: set[str] = set()
        self.ended: set[str] = set()
        self.deltas: dict[str, str] = {}

    def watch(self) -> None:
        self.jobs += [effect.job_id for effect in self.call.all(do.Transcribe)]

    @rule(ms=st.sampled_from([64, 192, 384, 640, 1_600, 9_600]), loud=st.booleans())
    def hear(self, ms: int, loud: bool) -> None:
        self.call.hear(ms, SPEECH if loud else SILENCE)
        self.watch()

    @rule(event=st.sampled_from(["input_audio_buffer.commit", "input_audio_buffer.clear", "response.cancel"]))
    def interfere(self, event: str) -> None:
        self.call.client(event)
        self.watch()

    @rule(manual=st.booleans())
    def switch(self, manual: bool) -> None:
        detection = None if manual else {"type": "server_vad", "silence_duration_ms": 500}
        session = {"type": "realtime", "audio": {"input": {"turn_detection": detection}}}
        self.call.client("session.update", session=session)
        self.watch()

    @rule(data=st.data())
    def delete(self, data: st.DataObject) -> None:
        ids = [item.id for item in self.call.session.call.conversation if item.role == "user"] or ["none"]
        item_id = data.draw(st.sampled_from(ids))
        self.call.client("conversation.item.delete", item_id=item_id)
        self.ended.add(item_id)
        self.watch()

    @rule(text=WORDS, kind=st.sampled_from(["ready", "ready", "segment", "failed"]), data=st.data())
    def recognise(self, text: str, kind: str, data: st.DataObject) -> None:
        job_id = data.draw(st.sampled_from(self.jobs or ["none"]))
        result: ev.Result = {
            "ready": ready(job_id, text),
            "segment": ev.SegmentReady(job_id=job_id, segment=Segment(" " + text, transcript(text).words)),
            "failed": ev.TranscriptFailed(job_id=job_id, code="stt_failed", message="No."),
        }[kind]
        self.call.result(result)
        self.watch()

    @invariant()
    def words_are_told_in_their_time_and_make_up_the_transcript(self) -> None:
        for event in self.call.said[self.seen :]:
            kind, item_id = event["type"], event.get("item_id", "")
            if kind == "input_audio_buffer.committed":
                self.committed.add(item_id)
            elif kind == PREFIX + "delta":
                assert event["delta"]
                assert item_id not in self.ended
                assert item_id in self.committed or self.model == LIVE
                self.deltas[item_id] = self.deltas.get(item_id, "") + event["delta"]
            elif kind in (PREFIX + "completed", PREFIX + "failed"):
                assert item_id in self.committed
                assert item_id not in self.ended
                self.ended.add(item_id)
                if kind == PREFIX + "completed":
                    assert event["transcript"] == self.deltas.get(item_id, "")
        self.seen = len(self.call.said)

    def teardown(self) -> None:
        """Once the recogniser has answered all, every item has its words or knows that they are lost."""
        self.call.client("input_audio_buffer.clear")
        self.watch()
        for job_id in list(self.jobs):
            self.call.result(ready(job_id, "the end"))
        self.words_are_told_in_their_time_and_make_up_the_transcript()
        assert self.committed <= self.ended
        assert self.call.session.ear._jobs == {}


class LiveWords(Words):
    model = LIVE


TestWords = Words.TestCase
TestLiveWords = LiveWords.TestCase
for case in (TestWords, TestLiveWords):
    case.settings = settings(
        max_examples=100, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)
    )
