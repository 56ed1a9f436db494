"""The caller of ``./avb call``, as far as it needs no product."""

import pytest

from agentvoicebox.cli.caller import with_query


@pytest.mark.parametrize(
    ("url", "asked", "expected"),
    [
        ("ws://h/v1/realtime", {"model": "agent:desk"}, "ws://h/v1/realtime?model=agent%3Adesk"),
        ("ws://h/v1/realtime?user=alice", {"model": "m"}, "ws://h/v1/realtime?model=m&user=alice"),
        (
            "ws://h/v1/realtime?model=mine",
            {"model": "m", "user": "a b&c"},
            "ws://h/v1/realtime?model=mine&user=a+b%26c",
        ),
    ],
)
def test_what_an_address_asks_for_already_is_kept(url: str, asked: dict[str, str], expected: str) -> None:
    assert with_query(url, asked) == expected
