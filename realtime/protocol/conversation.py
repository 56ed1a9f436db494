"""The conversation: items in order, and how a language model reads them."""

from collections.abc import Iterable, Iterator

from agents.llm.types import Message, ToolCall
from realtime.protocol.item import Item


class Conversation:
    """Items in order; ids are unique. ``limit_audio_samples`` bounds the audio that is kept for retrieval."""

    def __init__(self, conversation_id: str, limit_audio_samples: int) -> None:
        self.id = conversation_id
        self._items: dict[str, Item] = {}
        self._order: list[str] = []
        self._limit_audio = limit_audio_samples
        self._content_bytes: dict[str, int] = {}

    def __iter__(self) -> Iterator[Item]:
        return (self._items[item_id] for item_id in self._order)

    def __contains__(self, item_id: str) -> bool:
        return item_id in self._items

    def __len__(self) -> int:
        return len(self._order)

    def get(self, item_id: str) -> Item | None:
        return self._items.get(item_id)

    @property
    def last_id(self) -> str | None:
        return self._order[-1] if self._order else None

    def previous_id(self, item_id: str) -> str | None:
        at = self._order.index(item_id)
        return self._order[at - 1] if at else None

    @property
    def content_bytes(self) -> int:
        """What clients put into it."""
        return sum(self._content_bytes.values())

    def insert(self, item: Item, after: str | None) -> None:
        """``after`` None puts it first; the id must be new."""
        at = self._order.index(after) + 1 if after is not None else 0
        self._order.insert(at, item.id)
        self._items[item.id] = item
        self._content_bytes[item.id] = item.content_bytes

    def append(self, item: Item) -> str | None:
        """Returns the id of the item before it."""
        previous = self.last_id
        self._order.append(item.id)
        self._items[item.id] = item
        return previous

    def delete(self, item_id: str) -> Item:
        self._order.remove(item_id)
        self._content_bytes.pop(item_id, None)
        return self._items.pop(item_id)

    def has_call(self, call_id: str) -> bool:
        return any(item.type == "function_call" and item.call_id == call_id for item in self._items.values())

    def keeps(self, item: Item) -> bool:
        """Not deleted. A client may since have given its id to another item."""
        return self._items.get(item.id) is item

    @property
    def assistant_has_spoken(self) -> bool:
        return any(item.role == "assistant" and item.phrases for item in self._items.values())

    def forget_old_audio(self) -> None:
        """Drop the oldest items' audio beyond the limit; their words stay."""
        kept = 0
        for item_id in reversed(self._order):
            item = self._items[item_id]
            kept += item.audio_samples
            if kept > self._limit_audio:
                item.audio = []


def unanswered(items: Iterable[Item]) -> tuple[list[Item], list[Item]]:
    """What the caller said, or a client for them, that no answer was begun to; and of that what came last. The rest is
    history that a client brought."""
    new: list[Item] = []
    last: list[Item] = []
    for item in items:
        if item.role == "assistant":
            last = []
        elif item.role == "user" and not item.taken:
            new.append(item)
            last.append(item)
    return new, last


def to_messages(items: Iterable[Item]) -> tuple[Message, ...]:
    """A model's context of ``items``.

    Providers refuse a tool call without its answer and an answer without its call, and want the answers right behind
    the call: what is not a complete pair is left out, and calls that were made together become one message.
    """
    items = list(items)
    outputs = {item.call_id: item.output or "" for item in items if item.type == "function_call_output"}
    messages: list[Message] = []
    calls: list[tuple[ToolCall, str]] = []
    round_id = ""

    def close_calls() -> None:
        if calls:
            messages.append(Message("assistant", "", tool_calls=tuple(call for call, _ in calls)))
            messages.extend(Message("tool", output, tool_call_id=call.call_id) for call, output in calls)
            calls.clear()

    for item in items:
        if item.type in ("function_call", "mcp_call") and item.round_id != round_id:
            close_calls()
            round_id = item.round_id
        if item.type == "function_call":
            if item.call_id in outputs and item.status == "completed":
                calls.append((ToolCall(item.call_id, item.name, item.arguments), outputs[item.call_id]))
        elif item.type == "mcp_call" and item.note:
            close_calls()
            messages.append(Message("system", item.note))
        elif item.type == "mcp_call":
            if item.answer is not None:
                calls.append((ToolCall(item.call_id, item.called, item.arguments), item.answer))
        elif item.type == "message":
            close_calls()
            asked_already = bool(messages) and messages[-1].role == "user"
            if not (asked_already and item.transcript == ""):  # a noise after a question adds nothing to it
                messages.extend(item.messages())
    close_calls()
    return tuple(messages)
