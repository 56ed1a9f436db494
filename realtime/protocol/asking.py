"""What a language model is asked for an answer: how much of the conversation, and which tools it is offered."""

from typing import Any

from agents.dialogue.context import Budget, TokenMeasure, first_kept, length_text, read_budget
from agents.dialogue.prompt import build_request
from agents.llm.types import Request
from agents.tools.types import ToolSpec
from realtime.protocol.call import Call
from realtime.protocol.conversation import to_messages
from realtime.protocol.events import JsonObject
from realtime.protocol.item import Item
from realtime.protocol.response import Response
from realtime.protocol.teamwork import Team
from realtime.protocol.tool_lists import ToolLists
from realtime.protocol.toolset import LINE_TOOLS, Toolset, acts_on_call, build, colleague_tools


class Asking:
    def __init__(self, call: Call, lists: ToolLists, team: Team) -> None:
        self.call = call
        self._lists = lists
        self._team = team
        self._measure = TokenMeasure()
        self._context_from = ""
        self._built: tuple[tuple[Any, ...], Toolset, int] = ((), Toolset(), 0)

    def request(self, response: Response) -> Request:
        """For the next reply of ``response``, whose ``toolset`` is what that may call. Raises ContextTooLong."""
        call = self.call
        effective = {**call.config.wire, **response.asked}
        own = response.context is not None
        items = response.context if response.context is not None else list(call.conversation)
        response.toolset, tools_characters = self._toolset(response, effective["tools"])
        choice, functions = response.toolset.choose(self._choice(response, effective["tool_choice"]))
        fixed = self._measure.count(len(effective["instructions"]) + tools_characters)
        budget = read_budget(effective["truncation"], call.limits.context_tokens, fixed, response.max_output_tokens)
        request = build_request(
            call.agent,
            instructions=effective["instructions"],
            messages=to_messages(self._fit(items, budget, own)),
            functions=functions,
            tool_choice=choice,
            max_output_tokens=response.max_output_tokens,
            parallel_tool_calls=effective.get("parallel_tool_calls"),
            reasoning=effective.get("reasoning"),
        )
        seen = any(message.images for message in request.messages)  # their tokens are no measure of text
        response.prompt_characters = 0 if seen else sum(len(length_text(message)) for message in request.messages)
        return request

    def learn(self, response: Response, input_tokens: int) -> None:
        """What the provider counted for the last request."""
        self._measure.learn(response.prompt_characters, input_tokens)

    def _choice(self, response: Response, choice: str | JsonObject) -> str | JsonObject:
        """Whoever must call a tool has done so after the first round; after the last one words are wanted."""
        if response.leaving or 0 < response.rounds >= self.call.agent.limits.tool_rounds:
            return "none"
        if choice == "none" or (response.rounds == 0 and response.cause != "server"):
            return choice
        return "auto"

    def _toolset(self, response: Response, wires: list[JsonObject]) -> tuple[Toolset, int]:
        """With its length; built anew only where something has changed, since it may be long."""
        aside, own = response.conversation is None, "tools" in response.asked
        made_of = (self._lists.version, self._team.colleagues, aside, response.id if own else "")
        if self._built[0] != made_of:
            toolset = self._build(response, wires, aside=aside, own=own)
            self._built = (made_of, toolset, len(str(toolset.functions)))
        return self._built[1], self._built[2]

    def _build(self, response: Response, wires: list[JsonObject], *, aside: bool, own: bool) -> Toolset:
        """The functions and tools that a response brings itself stand in the place of all others."""
        agent, call = self.call.agent, self.call
        functions = [wire for wire in wires if wire["type"] == "function"]
        tools: list[ToolSpec] = []
        if not own:
            for tool in (*agent.tools, *colleague_tools(self._team.colleagues)):
                if tool.kind == "builtin" and tool.name in LINE_TOOLS and tool.name not in call.abilities:
                    if not aside and all(function["name"] != tool.name for function in functions):
                        functions.append(tool.function())
                else:
                    tools.append(tool)
        tools += self._lists.tools(response.id, own=own)
        if aside:
            tools = [tool for tool in tools if not (tool.needs_approval or acts_on_call(tool))]
        return build(functions, tools if agent.limits.tool_rounds else ())

    def _fit(self, items: list[Item], budget: Budget, own: bool) -> list[Item]:
        """The items that the model gets. What was cut once stays cut, so that a provider's cache keeps its prefix."""
        if not own:
            begins = next((at for at, item in enumerate(items) if item.id == self._context_from), 0)
            items = items[begins:]
        costs = (self._measure.count_item(item.characters, item.images) for item in reversed(items))
        cut = first_kept(costs, len(items), budget)
        if cut and not own:
            self._context_from = items[cut].id
        return items[cut:]
