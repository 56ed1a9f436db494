"""``./avb agent``: what it says, and what is there then."""

from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from django_tenants.utils import tenant_context

from agents.documents import read_document
from agents.models import Agent
from agents.operations import create_agent
from agents.queries import find_agent
from agents.trials.assignment import Arm
from agents.trials.operations import start_trial
from agentvoicebox.cli import agent as cli
from tenants.audit.models import Entry
from tests.record.world import World

FILE = "schema: 1\nslug: {slug}\nname: Night\ninstructions: |\n  Be brief.\n  Be kind.\n"


@pytest.fixture
def avb(world: World, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr("agentvoicebox.cli.tenant.stack_environment", dict)

    def run(*arguments: str, tenant: str = "alpha", typed: str = "") -> Result:
        return CliRunner().invoke(cli.command, [*arguments, *(["--tenant", tenant] if tenant else [])], input=typed)

    return run


def test_a_file_is_applied_published_and_applied_again(avb: Any, world: World, tmp_path: Path) -> None:
    file = tmp_path / "night.yaml"
    file.write_text(FILE.format(slug="night"))
    assert avb("apply", str(file)).output == "night is made\n"
    assert avb("apply", str(file)).output == "night is as it was\n"
    first = avb("apply", str(file), "--publish", "--note", "First night.")
    assert first.output == "night is as it was\nnight version 1 is published and takes calls\n"
    again = avb("apply", "-", "--publish", typed=file.read_text())
    assert again.output == "night is as it was\nnight version 1 takes calls and is the same\n"
    file.write_text(file.read_text() + "voice: marin\n")
    changed = avb("apply", str(file), "--publish")
    assert changed.output == "night changed: voice\nnight version 2 is published and takes calls\n"
    with tenant_context(world.alpha.tenant):
        entry = Entry.objects.filter(action="agent.published", target="night").earliest("seq")
        assert (entry.actor_kind, entry.after["note"]) == ("operator", "First night.")


def test_of_several_files_all_are_applied_or_none(avb: Any, world: World, tmp_path: Path) -> None:
    names = [tmp_path / f"{slug}.yaml" for slug in ("one", "two")]
    names[0].write_text("schema: 1\nslug: one\nname: One\ncolleagues: [{agent: two}]\n")
    names[1].write_text("schema: 1\nslug: two\nname: Two\ncolleagues: [{agent: one}]\nspeed: 9\n")
    refused = avb("apply", *map(str, names), "--publish")
    assert refused.exit_code == 1
    assert refused.output == (
        f"Error: {names[1]}: the agent 'two' cannot be as it is:\n"
        "  speed: Ensure this value is less than or equal to 1.5.\n"
    ), "nothing is said of what was taken back"
    with tenant_context(world.alpha.tenant):
        assert Agent.objects.count() == 1
    names[1].write_text(names[1].read_text().replace("speed: 9\n", ""))
    applied = avb("apply", *map(str, names), "--publish")
    assert applied.exit_code == 0, applied.output
    with tenant_context(world.alpha.tenant):
        assert Agent.objects.filter(live__number=1).count() == 3


def test_what_is_exported_is_what_is_applied(avb: Any) -> None:
    exported = avb("export", "alpha-desk").output
    assert read_document(exported)["instructions"] == "Secret of alpha"
    assert avb("apply", "-", typed=exported).output == "alpha-desk is as it was\n"


def test_versions_are_listed_compared_and_switched(avb: Any) -> None:
    avb("apply", "-", typed=FILE.format(slug="alpha-desk") + "languages: [en, es]\n")
    assert avb("list").output == "alpha-desk  version 1, draft is ahead     Night  (default)\n"
    shown = avb("diff", "alpha-desk").output
    assert 'name:\n-"Alpha desk"\n+"Night"\n' in shown
    assert "instructions:\n@@ -1 +1,2 @@\n-Secret of alpha\n+Be brief.\n+Be kind.\n" in shown
    assert 'languages:\n-[]\n+["en", "es"]\n' in shown
    waits = avb("publish", "alpha-desk", "--note", "Kinder.", "--no-activate").output
    assert waits == "alpha-desk version 2 is published and waits: ./avb agent activate alpha-desk 2\n"
    assert avb("activate", "alpha-desk", "2").output == "alpha-desk version 2 takes calls\n"
    assert avb("rollback", "alpha-desk").output == "alpha-desk version 1 takes calls\n"
    listed = avb("versions", "alpha-desk").output.splitlines()
    assert listed[0].startswith("-    2  ")
    assert listed[0].endswith("at the command line  Kinder.")
    assert listed[1].startswith("*    1  ")
    assert (
        avb("diff", "alpha-desk", "2", "draft").output
        == "alpha-desk: nothing differs between version 2 and the draft\n"
    )
    assert avb("reset", "alpha-desk").output == "the draft of alpha-desk is version 1 again\n"
    assert avb("diff", "alpha-desk").output == "alpha-desk: nothing differs between version 1 and the draft\n"


def test_an_agent_is_shown(avb: Any, world: World) -> None:
    with tenant_context(world.alpha.tenant):
        create_agent(
            slug="draft", name="Draft", tools=[{"type": "builtin", "name": "end_call"}], fallback_models=["groq"]
        )
    shown = avb("show", "draft").output
    assert "draft  Draft\n  calls     draft, takes no calls\n" in shown
    assert "  model     the default, then groq\n" in shown
    assert "  tools     end_call\n" in shown
    assert '"slug": "draft"' in avb("show", "draft", "--json").output
    assert '"live": null' in avb("list", "--json").output
    assert "published" in avb("show", "alpha-desk").output


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("show", "nobody"), "There is no agent 'nobody'."),
        (("rollback", "alpha-desk"), "has no earlier version"),
        (("activate", "alpha-desk", "9"), "has no version '9'"),
        (("diff", "alpha-desk", "live"), "a version is a number, or draft; got 'live'"),
        (("diff", "alpha-desk", "9"), "has no version '9'"),
        (("list", "--tenant", "nosuch"), "nosuch"),
    ],
)
def test_refusals_are_one_line(avb: Any, arguments: tuple[str, ...], words: str) -> None:
    result = avb(*arguments, tenant="" if "--tenant" in arguments else "alpha")
    assert (result.exit_code, result.output.count("\n")) == (1, 1)
    assert words in result.output


def test_all_that_keeps_a_draft_from_calls_is_listed(avb: Any) -> None:
    text = "schema: 1\nslug: night\nname: Night\ninstructions: '{{ x }}'\ncolleagues: [{agent: nobody}]\n"
    result = avb("apply", "-", "--publish", typed=text)
    assert result.exit_code == 1
    assert "\n  instructions: Line 1: nobody knows a variable 'x'" in result.output
    assert "\n  colleagues[0].agent: There is no agent 'nobody'.\n" in result.output
    assert avb("show", "night").exit_code == 1


def test_the_tenant_is_said_where_there_are_several(avb: Any, world: World) -> None:
    result = avb("list", tenant="")
    assert (result.exit_code, "say which tenant: --tenant SLUG (alpha, beta)" in result.output) == (1, True)
    world.beta.tenant.status = "suspended"
    world.beta.tenant.save()
    assert avb("list", tenant="").output.startswith("alpha-desk")
    with tenant_context(world.beta.tenant):
        assert find_agent("beta-desk").name == "Beta desk"


def test_what_cannot_be_published_yet_is_kept_and_warned_of(avb: Any) -> None:
    text = "schema: 1\nslug: night\nname: Night\ninstructions: '{% for a in b %}{% endfor %}'\ngreeting: '{{ x }}'\n"
    result = avb("apply", "-", typed=text + "tools: [{type: http, name: nosuch}]\n")
    assert (result.exit_code, result.stdout) == (0, "night is made\n")
    assert result.stderr.startswith("night: the draft cannot be published yet:\n  instructions: Line 1: A loop may not")
    assert "\n  greeting: Line 1: nobody knows a variable 'x'" in result.stderr
    assert "\n  tools[0].name: " in result.stderr
    assert avb("show", "night").exit_code == 0


def test_a_name_that_is_nearly_right_is_guessed_and_no_place_is_said_twice(avb: Any, tmp_path: Path) -> None:
    file = tmp_path / "night.yaml"
    file.write_text("schema: 1\nslug: night\nname: Night\ngreting: Hi\n")
    refused = avb("apply", str(file)).output
    assert refused.startswith(f"Error: {file}: the agent 'night' cannot be as it is:\n  greting: There is no field")
    assert refused.endswith(" Did you mean 'greeting'?\n")
    file.write_text("schema: 1\nslug: night\nname: Night\nlimits: {turn: 3}\ntools: [{type: htp}]\n")
    refused = avb("apply", str(file)).output
    assert (
        "\n  limits.turn: There is no such field; there are duration_s, turns, tool_rounds. Did you mean 'turns'?"
        in refused
    )
    assert '\n  tools[0].type: Use one of function, http, mcp, python, builtin; got "htp".\n' in refused
    file.write_text("slug: night\n")
    assert avb("apply", str(file)).output == f"Error: {file}: A document says schema: 1; there is none.\n"


def test_a_publish_that_is_refused_names_its_file(avb: Any, tmp_path: Path) -> None:
    names = [tmp_path / f"{slug}.yaml" for slug in ("one", "two")]
    names[0].write_text("schema: 1\nslug: one\nname: One\n")
    names[1].write_text("schema: 1\nslug: two\nname: Two\ngreeting: '{{ x'\n")
    refused = avb("apply", *map(str, names), "--publish")
    assert (refused.exit_code, refused.output) == (
        1,
        f"Error: {names[1]}: the agent 'two' cannot be as it is:\n"
        "  greeting: Line 1: A '{{' is not closed: '}}' is missing behind it.\n",
    )


def test_a_trial_is_seen(avb: Any, world: World) -> None:
    avb("publish", "alpha-desk", "--no-activate")
    with tenant_context(world.alpha.tenant):
        start_trial(agent=find_agent("alpha-desk"), arms=[Arm(1, 90), Arm(2, 10)])
    assert "trial of versions 1, 2" in avb("list").output
    listed = avb("versions", "alpha-desk").output
    assert listed.endswith("\na trial runs: version 1 (weight 90), version 2 (weight 10)\n")
