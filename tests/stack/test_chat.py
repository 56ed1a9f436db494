"""What ``avb chat`` shows."""

import click
import pytest

from agentvoicebox.cli.chat import SHOWN_CHARACTERS, Screen, _read_variables, name_variables


def test_what_is_said_cannot_steer_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    screen = Screen(interactive=True)
    screen.say("\x1b]0;title\x07Hello,\x1b[2J\r zoë 你好\n")
    screen.end()
    screen.note("crm: find() → \x1b[1A\x9b2Kfine")
    shown = capsys.readouterr().out
    assert "]0;titleHello,[2J zoë 你好\n" in shown
    assert "[1A2Kfine" in shown
    for sign in ("\x07", "\r", "\x9b", "\x1b[2J", "\x1b[1A"):
        assert sign not in shown


def test_a_script_gets_one_line_for_each_answer_and_the_rest_beside_it(capsys: pytest.CaptureFixture[str]) -> None:
    screen = Screen(interactive=False)
    screen.say("Welcome.")
    screen.end(greeting=True)
    screen.say("One\n\ntwo ")
    screen.pause()
    screen.note("x" * 1_000)
    screen.say("three.")
    screen.end()
    screen.end()
    shown = capsys.readouterr()
    assert shown.out == "One two three.\n\n", "an answer without words is an empty line"
    assert shown.err.startswith("Welcome.\n")
    assert len(shown.err) < SHOWN_CHARACTERS + 40


def test_variables_are_named_as_the_agent_declares_them(capsys: pytest.CaptureFixture[str]) -> None:
    read = _read_variables(("room=7", "name=Ann", "caller.tier=a=b", "hotel.city=Rome"))
    declared = ["room", "caller.name", "hotel.city"]
    asked = {
        "variables.room": "7", "caller.name": "Ann", "caller.tier": "a=b", "variables.hotel.city": "Rome",
    }  # fmt: skip
    assert name_variables(read, declared, "hotel") == asked
    warned = capsys.readouterr().err
    assert warned == (
        "warning: the agent 'hotel' has no variable 'caller.tier'; there are room, caller.name, hotel.city\n"
    )
    assert name_variables({"room": "7"}, None, "hotel") == {"caller.room": "7"}, "where nobody says what there is"
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("written", ["room", "=7", "call.id=1", "agent.name=x"])
def test_what_is_no_variable_is_refused(written: str) -> None:
    with pytest.raises(click.BadParameter, match=r"write it as name=value or caller.name=value"):
        _read_variables((written,))
