"""Who answers: hand-offs from one agent to another, and routing by the caller's first words.

A hand-off ends the response in which it was asked for, and the new agent begins one of its own at once: with the whole
conversation, and without a greeting. What an agent set up for the call (instructions, voice, functions, tools) goes
with it; the conversation and what the client itself set stay.
"""

from typing import Protocol

from agents.spec import AgentSpec, Colleague
from realtime.protocol import effects as do
from realtime.protocol import events as ev
from realtime.protocol.call import Call
from realtime.protocol.config import SessionConfig
from realtime.protocol.tool_lists import ToolLists

BACK = "Their part is done, or the caller needs something else."


class Listener(Protocol):
    def adapt(self, before: SessionConfig) -> None: ...


class Team:
    """``hand_offs`` counts those since the caller last said something."""

    def __init__(self, call: Call, ear: Listener, lists: ToolLists) -> None:
        self.call = call
        self._ear = ear
        self._lists = lists
        self._known = {call.agent.slug: call.agent}
        self._ways_back: list[str] = []
        self.hand_offs = 0
        self.routing = False

    @property
    def colleagues(self) -> tuple[Colleague, ...]:
        """Of who answers now, and the one to whom the call may go back."""
        colleagues = self.call.agent.colleagues
        if not self._ways_back:
            return colleagues
        back = self._ways_back[-1]
        if any(colleague.agent == back and colleague.mode == "hand_off" for colleague in colleagues):
            return colleagues
        name = self._known[back].name
        return (*colleagues, Colleague(back, when=f"{name} handed the caller to you. {BACK}"))

    def hand_over(self, colleague: Colleague, agent: AgentSpec) -> None:
        """``agent`` is the colleague; whoever took part before is who they were then."""
        before = self.call.agent
        if self._ways_back and self._ways_back[-1] == agent.slug:
            self._ways_back.pop()
        elif colleague.returns:
            self._ways_back.append(before.slug)
        else:
            self._ways_back.clear()
        self.hand_offs += 1
        self._take_over(self._known.setdefault(agent.slug, agent))

    def _take_over(self, agent: AgentSpec) -> None:
        call, before = self.call, self.call.config
        call.config = before.handed_over(call.agent, agent)
        call.agent = agent
        call.tally.see(agent)
        call.say(ev.SessionUpdated(session=call.config.wire))
        self._ear.adapt(before)
        self._lists.serve(agent)

    # ---- the caller's first words ----

    def route(self, text: str) -> bool:
        """Whether somebody else may be the right one for these words: then the answer waits until that is known."""
        if not self.call.rules or not text.strip():
            return False
        self.call.rules = ()
        self.routing = True
        self.call.do(do.Route(text, self.call.language))
        return True

    def routed(self, result: ev.Routed) -> bool:
        """Whether that was waited for."""
        if not self.routing:
            return False
        self.routing = False
        if result.agent is not None and result.agent.slug != self.call.agent.slug:
            self._known.setdefault(result.agent.slug, result.agent)
            self._take_over(self._known[result.agent.slug])
        return True
