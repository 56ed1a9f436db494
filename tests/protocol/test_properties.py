"""Whatever comes in, in whatever order, a session keeps its promises."""

from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from realtime.protocol import effects as do
from realtime.protocol import events as ev
from tests.protocol.call import SILENCE, SPEECH, TestCall, tone


class Calls(RuleBasedStateMachine):
    """A caller, a client and engines who all do what they like."""

    def __init__(self) -> None:
        super().__init__()
        self.call = TestCall()
        self.jobs: list[str] = []
        self.judgements: list[str] = []
        self.replies: list[str] = []
        self.seen = 0
        self.ids: set[str] = set()
        self.open: set[str] = set()
        self.ended: set[str] = set()
        self.parts: dict[str, str] = {}
        self.told: list[str] = []

    def watch(self) -> None:
        for effect in self.call.effects:
            if isinstance(effect, do.Transcribe):
                self.jobs.append(effect.job_id)
            elif isinstance(effect, do.JudgeTurn):
                self.judgements.append(effect.judgement_id)
            elif isinstance(effect, do.StartReply):
                self.replies.append(effect.response_id)

    @rule(ms=st.sampled_from([32, 96, 320, 640]), loud=st.booleans())
    def hear(self, ms: int, loud: bool) -> None:
        self.call.hear(ms, SPEECH if loud else SILENCE)
        self.watch()

    @rule(ms=st.integers(0, 300))
    def append(self, ms: int) -> None:
        self.call.append(tone(ms))
        self.watch()

    @rule(kind=st.sampled_from(["commit", "clear"]))
    def buffer(self, kind: str) -> None:
        self.call.client(f"input_audio_buffer.{kind}")
        self.watch()

    @rule(
        detection=st.sampled_from(
            [
                None,
                {"type": "server_vad"},
                {"type": "semantic_vad"},
                {"type": "server_vad", "interrupt_response": False},
                {"type": "server_vad", "idle_timeout_ms": 5000},
            ]
        )
    )
    def update(self, detection: dict[str, Any] | None) -> None:
        self.call.client(
            "session.update", session={"type": "realtime", "audio": {"input": {"turn_detection": detection}}}
        )
        self.watch()

    @rule(audio=st.booleans(), aside=st.booleans())
    def ask(self, audio: bool, aside: bool) -> None:
        response = {"output_modalities": ["audio" if audio else "text"], **({"conversation": "none"} if aside else {})}
        self.call.client("response.create", response=response)
        self.watch()

    @rule(named=st.booleans())
    def cancel(self, named: bool) -> None:
        fields = {"response_id": self.replies[-1]} if named and self.replies else {}
        self.call.client("response.cancel", **fields)
        self.watch()

    @rule(data=st.data())
    def change_items(self, data: st.DataObject) -> None:
        ids = [item.id for item in self.call.session.call.conversation] or ["none"]
        item_id = data.draw(st.sampled_from(ids))
        kind = data.draw(st.sampled_from(["delete", "retrieve", "truncate"]))
        extra = {"content_index": 0, "audio_end_ms": data.draw(st.integers(0, 900))} if kind == "truncate" else {}
        self.call.client(f"conversation.item.{kind}", item_id=item_id, **extra)
        self.watch()

    @rule(probability=st.sampled_from([0.1, 0.9]), data=st.data())
    def judge(self, probability: float, data: st.DataObject) -> None:
        judgement_id = data.draw(st.sampled_from(self.judgements or ["none"]))
        self.call.result(ev.TurnJudged(judgement_id=judgement_id, probability=probability))
        self.watch()

    @rule(text=st.sampled_from(["Hi there, you.", "", None]), data=st.data())
    def recognise(self, text: str | None, data: st.DataObject) -> None:
        job_id = data.draw(st.sampled_from(self.jobs or ["none"]))
        if text is None:
            self.call.result(ev.TranscriptFailed(job_id=job_id, code="stt_failed", message="No."))
        else:
            self.call.recognise(job_id, text)
        self.watch()

    @rule(kind=st.sampled_from(["began", "text", "audio", "tool", "stop", "length", "failed"]), data=st.data())
    def reply(self, kind: str, data: st.DataObject) -> None:
        response_id = data.draw(st.sampled_from(self.replies or ["none"]))
        result: ev.Result = {
            "began": ev.ReplyBegan(response_id=response_id),
            "text": ev.ReplyText(response_id=response_id, text="some words "),
            "audio": ev.ReplyAudio(response_id=response_id, pcm_24khz=tone(320)),
            "tool": ev.ReplyToolCall(response_id=response_id, index=0, call_id="", name="f", arguments="{}"),
            "stop": ev.ReplyFinished(response_id=response_id, reason="stop"),
            "length": ev.ReplyFinished(response_id=response_id, reason="length"),
            "failed": ev.ReplyFailed(response_id=response_id, code="llm_unavailable", message="No."),
        }[kind]
        self.call.result(result)
        self.watch()

    @invariant()
    def every_event_fits_those_before_it(self) -> None:
        for event in self.call.said[self.seen :]:
            assert event["event_id"] not in self.ids
            self.ids.add(event["event_id"])
            if event["type"].startswith("response."):
                self.follow_response(event)
            elif event["type"] == "conversation.item.added":
                previous = event["previous_item_id"]
                self.told.insert(self.told.index(previous) + 1 if previous else 0, event["item"]["id"])
            elif event["type"] == "conversation.item.deleted":
                self.told.remove(event["item_id"])
        self.seen = len(self.call.said)
        assert self.told == [item.id for item in self.call.session.call.conversation]

    def follow_response(self, event: dict[str, Any]) -> None:
        """Created once, done once, silent outside; deltas add up to what done says."""
        kind = event["type"]
        if kind == "response.created":
            assert event["response"]["id"] not in self.open | self.ended
            self.open.add(event["response"]["id"])
        elif kind == "response.done":
            self.open.remove(event["response"]["id"])
            self.ended.add(event["response"]["id"])
            assert event["response"]["status"] != "in_progress"
            assert all(item["status"] != "in_progress" for item in event["response"]["output"])
        else:
            assert event["response_id"] in self.open
            if kind.endswith("part.added"):
                self.parts[event["item_id"]] = ""
            elif kind.endswith(("text.delta", "transcript.delta")):
                self.parts[event["item_id"]] += event["delta"]
            elif kind.endswith(("text.done", "transcript.done")):
                assert self.parts.pop(event["item_id"]) == event.get("text", event.get("transcript"))

    @precondition(lambda self: self.call.generation)
    @rule()
    def the_next_turn_is_answered(self) -> None:
        """Never silent for ever: speak, let the engines work, and there is an answer."""
        turn = {"type": "server_vad", "create_response": True, "interrupt_response": True}
        session = {"type": "realtime", "audio": {"input": {"turn_detection": turn}}}
        self.call.client("session.update", session=session)
        self.call.hear(960, SILENCE)
        self.watch()
        before = len(self.replies)
        self.call.hear(640, SPEECH)
        self.watch()
        self.call.hear(640, SILENCE)
        self.watch()
        for job_id in list(self.jobs):
            self.call.recognise(job_id, "Are you there?")
            self.watch()
        assert len(self.replies) > before
        response_id = self.replies[-1]
        assert self.call.answer(response_id, "Yes.", audio_ms=20)[-2] == "response.done"
        self.watch()


TestCalls = Calls.TestCase
TestCalls.settings = settings(
    max_examples=150, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
)
