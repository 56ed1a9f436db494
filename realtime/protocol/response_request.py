"""What a client asks of a response, checked against the session that it would be made in."""

from typing import Protocol

from realtime.protocol import events as ev
from realtime.protocol.call import Call
from realtime.protocol.config import check_modalities, check_room, check_voice, read_servers
from realtime.protocol.item import Item
from realtime.protocol.shapes import Invalid, shown


class Reading(Protocol):
    def item(self, wire: ev.JsonObject, item_id: str) -> Item: ...


def check_request(call: Call, reading: Reading, asked: ev.JsonObject) -> list[Item] | None:
    """The items that are the response's own context. Raises Invalid, and nothing is under way then."""
    effective = {**call.config.wire, **asked}
    check_modalities(effective["output_modalities"], "response.output_modalities")
    output = {**call.config.wire["audio"]["output"], **((asked.get("audio") or {}).get("output") or {})}
    check_voice(output["voice"], "response.audio.output.voice")
    check_room(read_servers(asked.get("tools", []), "response.tools"), call.limits.mcp_servers, "response.tools")
    _check_choice(call, asked, effective["tools"])
    return _input_items(call, reading, asked["input"]) if "input" in asked else None


def _check_choice(call: Call, asked: ev.JsonObject, tools: list[ev.JsonObject]) -> None:
    choice = asked.get("tool_choice")
    if not isinstance(choice, dict) or choice["type"] != "function":
        return
    names = {tool["name"] for tool in tools if tool["type"] == "function"}
    if "tools" not in asked:
        names |= {tool.name for tool in call.agent.tools}
    if choice["name"] not in names:
        raise Invalid(
            "invalid_value",
            f"Invalid value: '{shown(choice['name'])}'. There is no function of that name among the tools.",
            "response.tool_choice.name",
        )


def _input_items(call: Call, reading: Reading, wires: list[ev.JsonObject]) -> list[Item]:
    """A response's own context: items of the conversation by reference, and others that enter nothing."""
    items = []
    for index, wire in enumerate(wires):
        if wire["type"] == "item_reference":
            item = call.conversation.get(wire["id"])
            if item is None:
                raise Invalid(
                    "item_reference_invalid_item_id",
                    f"Error creating response: the item with id '{wire['id']}' does not exist.",
                    f"response.input[{index}].id",
                )
        elif wire["type"] == "mcp_approval_response":
            raise Invalid(
                "invalid_approval_request_id",
                "Error creating response: a request for approval is answered by 'conversation.item.create'.",
                f"response.input[{index}].approval_request_id",
            )
        elif str(wire.get("id")) in call.conversation:
            raise Invalid(
                "item_create_duplicate_item_id",
                f"Error adding item: an item with id '{wire['id']}' already exists.",
                f"response.input[{index}].id",
            )
        else:
            item = reading.item(wire, wire.get("id") or call.new_id("item"))
        items.append(item)
    return items
