"""Whatever a client sends, nothing escapes, and each frame that is refused gets one error that names it."""

import itertools
from dataclasses import replace
from random import Random

import msgspec
import pytest

from agents.spec import Colleague, Filler
from agents.tools.types import Receipt, ToolAnswer
from realtime.protocol import effects as do
from realtime.protocol import events as ev
from realtime.protocol.call import Limits
from realtime.protocol.config import SessionConfig
from realtime.protocol.session import Session
from realtime.protocol.wire import GA, MAX_APPEND_BYTES, Dialect
from realtime.protocol.wire_beta import Beta
from speech.engines import Transcript
from tests.protocol import frames
from tests.protocol.call import AGENT, tone, tool

SEED = 20_260_901
FRAMES = 51_000
"""Of each dialect."""
CALL_FRAMES = 150
SPEECH = tone(40)
PAY = tool("pay", kind="mcp", server_label="docs", needs_approval=True)
SERVED = replace(AGENT, tools=(tool("lookup"), PAY), colleagues=(Colleague("test"),), filler=Filler(0, ("Wait.",)))
CALLABLE = ("add", "lookup", "pay", "hand_off_to_test", "nothing")


class LiveCall:
    """A session whose engines answer by chance, and whose every event is written out."""

    def __init__(self, dialect: Dialect, seed: int) -> None:
        self.dialect = dialect
        self.random = Random(seed)
        counter = itertools.count(1)
        new_id = lambda prefix: f"{prefix}_{next(counter)}"  # noqa: E731
        if self.random.random() < 0.2:
            config = SessionConfig.transcription(session_id="sess_1", expires_at=1)
        else:
            config = SessionConfig.realtime(session_id="sess_1", model="gpt-realtime", expires_at=1, agent=SERVED)
        self.session = Session(config, SERVED, new_id, Limits(items=40, input_audio_s=20))
        self.waiting: list[ev.Result] = []
        self.generation = 0
        self.heard_16khz = 0
        self.note(self.session.open())

    def note(self, effects: list[do.Effect]) -> list[ev.Error]:
        """What the engines will bring; returns the errors that were said."""
        errors = []
        for effect in effects:
            match effect:
                case do.Send(event):
                    frame = self.dialect.encode(event)
                    assert not frame or msgspec.json.decode(frame)["event_id"] == event.event_id
                    if isinstance(event, ev.Error):
                        errors.append(event)
                case do.OpenListening(generation):
                    self.generation, self.heard_16khz = generation, 0
                case do.Transcribe(job_id):
                    transcript = Transcript(text=self.random.choice(["", "Go on."]), language="en", audio_s=1.0)
                    self.waiting.append(ev.TranscriptReady(job_id=job_id, transcript=transcript))
                case do.StartReply(response_id):
                    self.waiting += [
                        ev.ReplyText(response_id=response_id, text="Well. "),
                        ev.ReplyAudio(response_id=response_id, pcm_24khz=SPEECH),
                        *(
                            ev.ReplyToolCall(response_id=response_id, index=index, arguments="{}", name=name)
                            for index, name in enumerate(self.random.sample(CALLABLE, self.random.randrange(3)))
                        ),
                        ev.ReplyFinished(response_id=response_id, reason="stop"),
                    ]
                case do.RunTool(run_id):
                    answer = ToolAnswer("3", Receipt(tool="add", kind="http"))
                    self.waiting.append(ev.ToolAnswered(run_id=run_id, answer=answer))
                case do.ListTools(list_id):
                    self.waiting.append(ev.ToolsListed(list_id=list_id, tools=(PAY,)))
                case do.HandOff(run_id):
                    self.waiting.append(ev.HandedOff(run_id=run_id, agent=SERVED))
                case do.Remind(reminder_id):
                    self.waiting.append(ev.Reminded(reminder_id=reminder_id))
                case do.CountTokens(tokens):
                    errors += self.feed(ev.RateLimited(limit=tokens, remaining=0, reset_s=1.0))
        return errors

    def feed(self, entering: ev.Input) -> list[ev.Error]:
        return self.note(self.session.receive(entering))

    def go_on(self) -> None:
        """The engines and the caller do something."""
        if self.waiting and self.random.random() < 0.5:
            assert self.feed(self.waiting.pop(0)) == []
        elif self.generation and self.random.random() < 0.5:
            self.heard_16khz += 512
            score = self.random.choice([0.01, 0.9, 0.9, 0.9])
            self.feed(ev.WindowScored(generation=self.generation, end_sample_16khz=self.heard_16khz, probability=score))


def expected_event_id(frame: str | bytes) -> str | None:
    """What an error must repeat: a string of at most 512 characters in what is a JSON object."""
    if isinstance(frame, bytes):
        return None
    try:
        value = msgspec.json.decode(frame)
    except (msgspec.MsgspecError, RecursionError, UnicodeEncodeError):
        return None
    event_id = value.get("event_id") if isinstance(value, dict) else None
    return event_id if isinstance(event_id, str) and len(event_id) <= 512 else None


@pytest.mark.parametrize(("name", "valid"), [("ga", frames.GA), ("beta", frames.BETA)])
def test_nothing_escapes_and_each_refusal_names_its_event(name: str, valid: list[dict[str, object]]) -> None:
    refused = accepted = 0
    stream = iter(frames.Chance(SEED, valid))
    for number in range(FRAMES):
        if number % CALL_FRAMES == 0:
            call = LiveCall(GA if name == "ga" else Beta(), SEED + number)
        frame = next(stream)
        event = call.dialect.parse(frame)
        try:
            errors = call.feed(event)
        except Exception as error:
            error.add_note(f"frame {number}: {frame[:2000]!r}")
            raise
        if isinstance(event, ev.Refused):
            refused += 1
            assert len(errors) == 1, frame
        else:
            accepted += 1
            assert len(errors) <= 1, frame
        for said in errors:
            assert said.error.event_id == expected_event_id(frame), frame
            assert said.error.type == "invalid_request_error", frame
            assert said.error.message, frame
            assert len(said.error.message) < 4_000, frame
        call.go_on()
    assert refused > FRAMES // 4
    assert accepted > FRAMES // 10


@pytest.mark.parametrize("dialect", [GA, Beta()], ids=["ga", "beta"])
@pytest.mark.parametrize("event", [*frames.GA, *frames.BETA], ids=lambda event: event["type"])
def test_what_it_starts_from_is_valid_in_its_dialect(dialect: Dialect, event: dict[str, object]) -> None:
    valid = frames.GA if dialect is GA else frames.BETA
    parsed = dialect.parse(msgspec.json.encode(event).decode())
    assert isinstance(parsed, ev.Refused) is (event not in valid)


@pytest.mark.parametrize("dialect", [GA, Beta()], ids=["ga", "beta"])
def test_the_extremes_are_refused_by_name(dialect: Dialect) -> None:
    def refusal(frame: str) -> ev.Refused:
        event = dialect.parse(frame)
        assert isinstance(event, ev.Refused), frame[:200]
        return event

    for frame in (
        "",
        "NaN",
        '{"type":NaN}',
        '{"a":Infinity}',
        "[" * 1_000_000,
        '{"a":' * 100_000,
        '{"type":"\\ud800"}',
    ):
        assert refusal(frame).code == "invalid_json"
    huge = refusal('{"type":"input_audio_buffer.append","audio":"' + "A" * (MAX_APPEND_BYTES // 3 * 4 + 8) + '"}')
    assert (huge.code, huge.param) == ("string_above_max_length", "audio")
    wordy = refusal('{"type":"' + "x" * 1_000_000 + '"}')
    assert len(wordy.message) < 1_000
    long_id = refusal('{"type":"input_audio_buffer.clear","event_id":"' + "x" * 513 + '"}')
    assert (long_id.code, long_id.param, long_id.event_id) == ("string_above_max_length", "event_id", None)
    twice = dialect.parse('{"type":"nope","type":"input_audio_buffer.clear","event_id":"a","event_id":"b"}')
    assert twice == ev.InputAudioClear(event_id="b")
