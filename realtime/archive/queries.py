"""Reading the archive. Runs inside the tenant's schema."""

from collections.abc import Iterable
from datetime import datetime

from django.db.models import F, QuerySet

from realtime.archive.models import Conversation, Item
from realtime.privacy.cold import thaw


class ConversationUnknown(Exception):
    """The tenant has no conversation of this id."""

    def __init__(self, session_id: str) -> None:
        super().__init__(f"There is no conversation {session_id!r}.")
        self.message = str(self)


def list_conversations(
    *,
    agent: str | None = None,
    agent_version: int | None = None,
    trial: str | None = None,
    channel: str | None = None,
    end_user: str | None = None,
    key_id: str | None = None,
    end_reason: str | None = None,
    started_after: datetime | None = None,
    started_before: datetime | None = None,
    min_duration_s: float | None = None,
    max_duration_s: float | None = None,
) -> QuerySet[Conversation]:
    """Newest first. A call that goes on has no duration, so a bound on it leaves that call out."""
    wanted = {
        "agent": agent,
        "agent_version": agent_version,
        "trial": trial,
        "channel": channel,
        "end_user": end_user,
        "key_id": key_id,
        "end_reason": end_reason,
        "started_at__gte": started_after,
        "started_at__lt": started_before,
        "duration_s__gte": min_duration_s,
        "duration_s__lte": max_duration_s,
    }
    return Conversation.objects.filter(**{field: value for field, value in wanted.items() if value is not None})


def list_items(conversation: Conversation) -> QuerySet[Item]:
    """What the conversation holds, by first appearance; what was in cold storage comes back. Raises what ``thaw``
    does."""
    thaw(conversation)
    return present(conversation.items.all())


def find_conversation(session_id: str) -> Conversation:
    """Raises ConversationUnknown."""
    # An address may hold a NUL character; PostgreSQL's text may not.
    conversation = None if "\0" in session_id else Conversation.objects.filter(pk=session_id).first()
    if conversation is None:
        raise ConversationUnknown(session_id)
    return conversation


def present(items: QuerySet[Item]) -> QuerySet[Item]:
    """Those that were stored and not deleted since."""
    return items.filter(deleted_seq__lt=F("seq"))


def load_items(conversation: Conversation, *, limit: int) -> tuple[list[Item], int]:
    """The latest ``limit`` items in the order of the conversation, and how many earlier ones were left out; what was in
    cold storage comes back. Raises what ``thaw`` does."""
    wanted = present(conversation.items.all()).order_by("-first_seq", "-id")[:limit]
    latest = list(wanted)
    if len(latest) < min(limit, conversation.item_count):
        thaw(conversation)
        latest = list(wanted.all())
    left_out = max(0, conversation.item_count - limit)
    return arrange(reversed(latest)), left_out


def arrange(items: Iterable[Item]) -> list[Item]:
    """Items as the conversation orders them: each follows the item it names as its previous one.

    ``items`` come by first appearance; one whose previous item is not among them goes to the end, as it was then.
    """
    following: dict[str | None, str | None] = {}
    by_id: dict[str, Item] = {}
    first: str | None = None
    last: str | None = None
    for item in items:
        previous = item.previous_item_id
        if previous is None or previous == "root":
            following[item.item_id] = first
            first = item.item_id
        else:
            after = previous if previous in by_id else last
            if after is None:
                following[item.item_id] = None
                first = item.item_id
            else:
                following[item.item_id] = following[after]
                following[after] = item.item_id
        if following[item.item_id] is None:
            last = item.item_id
        by_id[item.item_id] = item
    ordered: list[Item] = []
    while first is not None:
        ordered.append(by_id[first])
        first = following[first]
    return ordered
