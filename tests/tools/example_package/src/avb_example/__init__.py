"""Tools of a shop, as an example of a package of tools."""

import threading
import time
from dataclasses import dataclass
from typing import Annotated, Literal

from agents.tools.sdk import Meta, ToolContext, ToolFailed, tool


@dataclass
class Order:
    number: str
    status: Literal["packed", "sent"]
    for_whom: str


@tool(integration="warehouse", timeout_s=2.0, calls_per_minute=30)
async def find_order(
    number: Annotated[str, Meta(pattern="^[0-9]{6}$")], context: ToolContext, with_items: bool = False
) -> Order:
    """Looks up an order of the caller.

    Any order of the last year can be found.

    Args:
        number: the six digits on the invoice,
            without spaces
        with_items (bool): also tell what is in it
    """
    if number == "000000":
        raise ToolFailed("There is no order 000000.")
    return Order(number, "sent", context.values.get("caller.name", ""))


@tool
def read_slowly(seconds: float) -> str:
    """Reads an old file."""
    time.sleep(seconds)
    return f"read by {threading.current_thread().name}"


@tool
def break_down() -> str:
    """Fails."""
    raise RuntimeError("password=" + "2retnuh"[::-1])


def no_tool() -> str:
    return "a function without the decorator"
