"""What the MCP servers of a call offer: those that a client named, for the session or a response, and the agent's.

A client sees how its own servers are listed: an ``mcp_list_tools`` item and its events. Of the agent's it sees only the
calls. Who asks for an answer meanwhile waits, but not for long.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from agents.spec import AgentSpec
from agents.tools.types import McpServer, ToolSpec
from realtime.protocol import effects as do
from realtime.protocol import events as ev
from realtime.protocol.call import Call
from realtime.protocol.item import Item


@dataclass
class ToolList:
    """``item`` is what a client sees of it; None where it sees nothing."""

    id: str
    server: McpServer
    item: Item | None = None
    tools: tuple[ToolSpec, ...] = ()
    settled: bool = False


class ToolLists:
    """``version`` grows with every change of what a model is offered, functions too; ``told`` hears of each list by its
    id once it is known, or known not to come."""

    def __init__(self, call: Call, told: Callable[[str], object]) -> None:
        self.call = call
        self._told = told
        self.version = 0
        self._agent: list[ToolList] = []
        self._session: list[ToolList] = []
        self._responses: dict[str, list[ToolList]] = {}
        self._under_way: dict[str, ToolList] = {}

    # ---- whose tools are wanted ----

    def serve(self, agent: AgentSpec) -> None:
        """``agent`` answers from now on."""
        before = self._agent
        self._agent = self._listed_anew(before, agent.mcp_servers, seen=False)
        self._drop(tools for tools in before if tools not in self._agent)

    def adapt(self) -> None:
        """The session's tools may have changed: servers that have not are not asked again."""
        before = self._session
        servers = self.call.config.servers[: self.call.limits.mcp_servers]
        self._session = self._listed_anew(before, servers, seen=True)
        self._drop(tools for tools in before if tools not in self._session)

    def open_response(self, response_id: str, servers: tuple[McpServer, ...], *, seen: bool) -> None:
        """A response brings its own servers; ``seen`` where its items are the conversation's."""
        self._responses[response_id] = self._listed_anew(self._session, servers, seen=seen)

    def end_response(self, response_id: str) -> None:
        own = self._responses.pop(response_id, [])
        self._drop(tools for tools in own if tools not in self._session)

    def _listed_anew(self, known: list[ToolList], servers: Iterable[McpServer], *, seen: bool) -> list[ToolList]:
        self.version += 1
        return [
            next((tools for tools in known if tools.server == server), None) or self._begin(server, seen=seen)
            for server in servers
        ]

    def _begin(self, server: McpServer, *, seen: bool) -> ToolList:
        call = self.call
        tools = ToolList(call.new_id("item" if seen else "list"), server)
        self._under_way[tools.id] = tools
        if seen:
            item = tools.item = Item(tools.id, "mcp_list_tools", "in_progress", server_label=server.label)
            previous = call.conversation.append(item)
            call.say(ev.ItemAdded(previous_item_id=previous, item=item.wire()))
            call.say(ev.McpListInProgress(item_id=item.id))
        call.do(do.ListTools(tools.id, server))
        return tools

    def _drop(self, dropped: Iterable[ToolList]) -> None:
        late = [tools for tools in dropped if not tools.settled]
        for tools in late:
            self.call.do(do.CancelTool(tools.id))
            self._settle(tools, failed=True)
        for tools in late:
            self._told(tools.id)

    # ---- what servers say ----

    def listed(self, result: ev.ToolsListed) -> None:
        tools = self._under_way.get(result.list_id)
        if tools is None:
            return
        tools.tools = result.tools
        if tools.item is not None:
            tools.item.tools = [
                {"name": tool.name, "description": tool.description, "input_schema": tool.parameters}
                for tool in result.tools
            ]
        self._settle(tools, failed=False)
        self._told(tools.id)

    def not_listed(self, result: ev.ToolsNotListed) -> None:
        tools = self._under_way.get(result.list_id)
        if tools is None:
            return
        if tools.item is not None:
            tools.item.error = result.error.wire()
        self._settle(tools, failed=True)
        self._told(tools.id)

    def _settle(self, tools: ToolList, *, failed: bool) -> None:
        call, item = self.call, tools.item
        tools.settled = True
        del self._under_way[tools.id]
        self.version += 1
        if item is None:
            return
        item.status = "incomplete" if failed else "completed"
        call.say(ev.McpListFailed(item_id=item.id) if failed else ev.McpListCompleted(item_id=item.id))
        if call.conversation.keeps(item):
            call.say(ev.ItemDone(previous_item_id=call.conversation.previous_id(item.id), item=item.wire()))
            call.store(item)

    # ---- what a response may use ----

    def tools(self, response_id: str, *, own: bool) -> list[ToolSpec]:
        """With ``own`` those alone that the response brought itself."""
        return [tool for tools in self._of(response_id, own=own) for tool in tools.tools]

    def awaited(self, response_id: str, *, own: bool) -> set[str]:
        """Ids of the lists that the response would use, and that are not there yet."""
        return {tools.id for tools in self._of(response_id, own=own) if not tools.settled}

    @property
    def under_way(self) -> set[str]:
        return set(self._under_way)

    def _of(self, response_id: str, *, own: bool) -> list[ToolList]:
        return self._responses.get(response_id, []) if own else [*self._session, *self._agent]
