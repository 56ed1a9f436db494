"""Whatever comes in, in whatever order, a session keeps its promises."""

from dataclasses import replace
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from agents.spec import AgentLimits, AgentSpec, Colleague, Filler, GuardRail, Rule
from agents.tools.types import McpServer, ToolError
from realtime.protocol import effects as do
from realtime.protocol import events as ev
from realtime.protocol.answers import ROUTE
from tests.protocol.call import AGENT, SILENCE, SPEECH, TestCall, tone, tool

BILLING = AgentSpec(slug="billing", name="Billing", instructions="You know bills.", voice="echo")
FRONT = replace(
    AGENT,
    greeting="Good morning.",
    functions=({"type": "function", "name": "paint"},),
    tools=(tool("lookup"), tool("book"), tool("pay", needs_approval=True), tool("end_call", kind="builtin")),
    mcp_servers=(McpServer("shop", "https://shop.example/mcp"),),
    colleagues=(Colleague("billing", returns=True),),
    filler=Filler(100, ("One moment.",)),
    limits=AgentLimits(tool_rounds=2),
    guard_rails=(
        GuardRail("in", "input", "Not that.", ("forbidden",)),
        GuardRail("out", "output", "Nor that.", ("secret words",)),
    ),
)
RULES = (Rule("bills", "billing", intent="A bill."),)
DOCS = {"type": "mcp", "server_label": "docs", "server_url": "https://docs.example/mcp"}
CALLABLE = ("paint", "lookup", "book", "pay", "search", "hand_off_to_billing", "hand_off_to_test", "nothing")


class Promises(RuleBasedStateMachine):
    """A client, models, tools and colleagues who all do what they like."""

    def __init__(self) -> None:
        super().__init__()
        self.call = self.begin()
        self.jobs: list[str] = []
        self.judgements: list[str] = []
        self.replies: list[str] = []
        self.runs: list[str] = []
        self.hand_offs: list[str] = []
        self.lists: list[str] = []
        self.reminders: list[str] = []
        self.seen = 0
        self.ids: set[str] = set()
        self.open: set[str] = set()
        self.ended: set[str] = set()
        self.parts: dict[str, str] = {}
        self.told: list[str] = []
        self.calls: dict[str, str] = {}
        self.watch()

    def begin(self) -> TestCall:
        raise NotImplementedError

    def watch(self) -> None:
        for effect in self.call.effects:
            if isinstance(effect, do.Transcribe):
                self.jobs.append(effect.job_id)
            elif isinstance(effect, do.JudgeTurn):
                self.judgements.append(effect.judgement_id)
            elif isinstance(effect, do.StartReply):
                self.replies.append(effect.response_id)
            elif isinstance(effect, do.RunTool):
                self.runs.append(effect.run_id)
            elif isinstance(effect, do.HandOff):
                self.hand_offs.append(effect.run_id)
            elif isinstance(effect, do.ListTools):
                self.lists.append(effect.list_id)
            elif isinstance(effect, do.Remind):
                self.reminders.append(effect.reminder_id)

    def pick(self, data: st.DataObject, seen: list[str]) -> str:
        """Mostly one of the last: what came long ago is late."""
        return data.draw(st.sampled_from([*seen[-2:] * 4, *seen]))

    @rule(tools=st.sampled_from([[], [DOCS], [DOCS, {"type": "function", "name": "lookup"}]]))
    def update_tools(self, tools: list[dict[str, Any]]) -> None:
        self.call.client("session.update", session={"type": "realtime", "tools": tools})
        self.watch()

    @rule(agree=st.booleans(), data=st.data())
    def approve(self, agree: bool, data: st.DataObject) -> None:
        ids = [item.id for item in self.call.session.call.conversation if item.type == "mcp_approval_request"]
        request_id = data.draw(st.sampled_from(ids or ["none"]))
        item = {"type": "mcp_approval_response", "approval_request_id": request_id, "approve": agree}
        self.call.client("conversation.item.create", item=item)
        self.watch()

    @rule(fails=st.booleans(), data=st.data())
    def run_tool(self, fails: bool, data: st.DataObject) -> None:
        error = ToolError("tool_execution_error", "No.") if fails else None
        self.call.tool_answers(self.pick(data, self.runs or ["none"]), "Yes.", error)
        self.watch()

    @rule(agent=st.sampled_from([FRONT, BILLING, None]), data=st.data())
    def hand_off(self, agent: AgentSpec | None, data: st.DataObject) -> None:
        run_id = self.pick(data, self.hand_offs or ["none"])
        if agent is None:
            self.call.result(ev.HandOffFailed(run_id=run_id, message="No."))
        else:
            self.call.result(ev.HandedOff(run_id=run_id, agent=agent))
        self.watch()

    @rule(fails=st.booleans(), data=st.data())
    def list_tools(self, fails: bool, data: st.DataObject) -> None:
        list_id = self.pick(data, self.lists or ["none"])
        if fails:
            error = ToolError("http_error", "Gone.", 410)
            self.call.result(ev.ToolsNotListed(list_id=list_id, error=error))
        else:
            tools = (tool("search", kind="mcp"), tool("pay", kind="mcp", needs_approval=True))
            self.call.result(ev.ToolsListed(list_id=list_id, tools=tools))
        self.watch()

    @rule(data=st.data())
    def remind(self, data: st.DataObject) -> None:
        self.call.result(ev.Reminded(reminder_id=self.pick(data, self.reminders or ["tools:none"])))
        self.watch()

    @rule(names=st.lists(st.sampled_from(CALLABLE), min_size=1, max_size=3), data=st.data())
    def call_tools(self, names: list[str], data: st.DataObject) -> None:
        self.call.call_tools(self.pick(data, self.replies or ["none"]), *names)
        self.watch()

    @rule(
        kind=st.sampled_from(["began", "text", "forbidden", "audio", "tool", "stop", "length", "failed"]),
        data=st.data(),
    )
    def reply(self, kind: str, data: st.DataObject) -> None:
        response_id = self.pick(data, self.replies or ["none"])
        result: ev.Result = {
            "began": ev.ReplyBegan(response_id=response_id),
            "text": ev.ReplyText(response_id=response_id, text="some words "),
            "forbidden": ev.ReplyText(response_id=response_id, text="the secret words "),
            "audio": ev.ReplyAudio(response_id=response_id, pcm_24khz=tone(320)),
            "tool": ev.ReplyToolCall(response_id=response_id, index=0, call_id="", name="book", arguments="{}"),
            "stop": ev.ReplyFinished(response_id=response_id, reason="stop"),
            "length": ev.ReplyFinished(response_id=response_id, reason="length"),
            "failed": ev.ReplyFailed(response_id=response_id, code="llm_unavailable", message="No."),
        }[kind]
        self.call.result(result)
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

    def teardown(self) -> None:
        """Once everybody has done their work no response is left."""
        answers = self.call.session.answers
        for _ in range(200):
            if not answers._all():
                return
            for response in answers._all():
                self.call.result(ev.ReplyFinished(response_id=response.id, reason="stop"))
            for run_id, run in list(answers.rounds._runs.items()):
                if run.colleague is None:
                    self.call.tool_answers(run_id, "Yes.")
                else:
                    self.call.result(ev.HandOffFailed(run_id=run_id, message="No."))
            for list_id in answers.lists.under_way:
                self.call.result(ev.ToolsListed(list_id=list_id, tools=()))
            for job_id in list(self.call.session.ear.recognition.jobs):
                self.call.recognise(job_id, "Yes?")
            self.call.result(ev.Routed(agent=None))
        raise AssertionError("a response waits for ever")

    @invariant()
    def every_event_fits_those_before_it(self) -> None:
        for event in self.call.said[self.seen :]:
            assert event["event_id"] not in self.ids
            self.ids.add(event["event_id"])
            if event["type"].startswith("response.mcp_call."):
                self.follow_call(event)
            elif event["type"].startswith("response."):
                self.follow_response(event)
            elif event["type"] == "conversation.item.added":
                previous = event["previous_item_id"]
                self.told.insert(self.told.index(previous) + 1 if previous else 0, event["item"]["id"])
            elif event["type"] == "conversation.item.deleted":
                self.told.remove(event["item_id"])
        self.seen = len(self.call.said)
        assert self.told == [item.id for item in self.call.session.call.conversation]

    def follow_call(self, event: dict[str, Any]) -> None:
        """A tool's call is in progress once, and then ends once."""
        state = event["type"].rpartition(".")[2]
        assert self.calls.get(event["item_id"]) == (None if state == "in_progress" else "in_progress")
        self.calls[event["item_id"]] = state

    @invariant()
    def whatever_is_waited_for_will_come(self) -> None:
        """A response is being said, or waits for what somebody still works on."""
        answers = self.call.session.answers
        coming = {*answers.rounds._runs, *answers.lists.under_way, *([ROUTE] if answers.team.routing else [])}
        coming |= {wording.item.id for wording, _ in self.call.session.ear.recognition.jobs.values() if wording.item}
        for response in answers._all():
            assert response.replying or response.running or response.awaiting
            assert response.running | response.awaiting <= coming
        owners = {id(run.response) for run in answers.rounds._runs.values() if run.response is not None}
        assert owners <= {id(response) for response in answers._all()}

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
            assert all(item.get("status") != "in_progress" for item in event["response"]["output"])
            for item in event["response"]["output"]:
                assert self.calls.get(item["id"]) != "in_progress"
        else:
            assert event["response_id"] in self.open
            if kind.endswith("part.added"):
                self.parts[event["item_id"]] = ""
            elif kind.endswith(("text.delta", "transcript.delta")):
                self.parts[event["item_id"]] += event["delta"]
            elif kind.endswith(("text.done", "transcript.done")):
                assert self.parts.pop(event["item_id"]) == event.get("text", event.get("transcript"))


class Calls(Promises):
    """And a caller, with what listens to them."""

    def begin(self) -> TestCall:
        return TestCall(agent=FRONT, rules=RULES)

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
        judgement_id = self.pick(data, self.judgements or ["none"])
        self.call.result(ev.TurnJudged(judgement_id=judgement_id, probability=probability))
        self.watch()

    @rule(agent=st.sampled_from([BILLING, None]))
    def route(self, agent: AgentSpec | None) -> None:
        self.call.result(ev.Routed(agent=agent))
        self.watch()

    @precondition(lambda self: len(self.replies) > 3)
    @rule()
    def end_call(self) -> None:
        response_id = self.replies[-1]
        self.call.call_tools(response_id, "end_call")
        self.watch()

    @rule(text=st.sampled_from(["Hi there, you.", "", "It is forbidden.", None]), data=st.data())
    def recognise(self, text: str | None, data: st.DataObject) -> None:
        job_id = self.pick(data, self.jobs or ["none"])
        if text is None:
            self.call.result(ev.TranscriptFailed(job_id=job_id, code="stt_failed", message="No."))
        else:
            self.call.recognise(job_id, text)
        self.watch()

    @precondition(lambda self: self.call.generation and not self.call.session.call.closing)
    @rule()
    def the_next_turn_is_answered(self) -> None:
        """Never silent for ever: speak, let the engines work, and there is an answer."""
        turn = {"type": "server_vad", "create_response": True, "interrupt_response": True}
        session = {"type": "realtime", "audio": {"input": {"turn_detection": turn}}}
        self.call.client("session.update", session=session)
        self.watch()
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
        for run_id in list(self.runs):
            self.call.tool_answers(run_id, "Yes.")
            self.watch()
        for list_id in list(self.lists):
            self.call.result(ev.ToolsListed(list_id=list_id, tools=()))
            self.watch()
        self.call.result(ev.Routed(agent=None))
        self.watch()
        assert len(self.replies) > before
        response_id = self.replies[-1]
        assert "response.done" in self.call.answer(response_id, "Yes.", audio_ms=20)
        self.watch()


class Rounds(Promises):
    """Nobody speaks: all is written, so that more of it happens."""

    def begin(self) -> TestCall:
        return TestCall(agent=replace(FRONT, greeting="", mcp_servers=()))


TestRounds = Rounds.TestCase
TestRounds.settings = settings(
    max_examples=100, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
)

TestCalls = Calls.TestCase
TestCalls.settings = settings(
    max_examples=150, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
)
