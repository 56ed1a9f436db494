"""``avb agent``: the agents of one tenant, by the same operations as REST and the admin."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import IO, Any

import click

from agentvoicebox.cli.tenant import operating

DEMO = "demo"


@click.group()
def command() -> None:
    """Keep agents in YAML files, publish them, roll them back. Works on the running stack, or on DATABASE_URL and
    REDIS_URL.

    A file changes the draft; callers hear the draft once it is published. Calls in progress go on as they are.
    """


Said = list[tuple[str, bool]]
"""Lines, each with whether it is a warning."""


def in_tenant(function: Callable[..., Said | None]) -> Callable[..., None]:
    """With ``--tenant``, in its schema and one transaction; refusals as lines. The lines that a command gives are shown
    once all that it did is committed."""

    @click.option("--tenant", "owner", help="the tenant's slug; without it the only one, or demo")
    @operating
    @wraps(function)
    def run(*args: Any, owner: str | None, **kwargs: Any) -> None:
        from django.db import transaction
        from django_tenants.utils import tenant_context

        from agents.loading import AgentRefused
        from agents.operations import NothingToRollBack

        try:
            with tenant_context(_find_tenant(owner)), transaction.atomic(), blaming("the agent"):
                said = function(*args, **kwargs)
        except (AgentRefused, NothingToRollBack) as error:
            raise click.ClickException(error.message) from error
        for line, warns in said or ():
            click.echo(line, err=warns)

    return run


@contextmanager
def blaming(what: str) -> Iterator[None]:
    """Says of ``what`` that it cannot be as it is."""
    from agents.documents import DocumentInvalid
    from agents.operations import AgentInvalid

    try:
        yield
    except DocumentInvalid as error:
        raise click.ClickException(f"{what}: {error.message}") from error
    except AgentInvalid as error:
        raise click.ClickException("\n  ".join([f"{what} cannot be as it is:", *_lines(error)])) from error


def _lines(error: Any) -> list[str]:
    return [f"{place}: {words}" for place, found in error.errors.items() for words in found]


def _find_tenant(slug: str | None) -> Any:
    from tenants.lifecycle.queries import find_tenant
    from tenants.models import Tenant, TenantStatus

    if slug is not None:
        return find_tenant(slug)
    names = list(Tenant.objects.filter(status=TenantStatus.ACTIVE).order_by("slug").values_list("slug", flat=True)[:20])
    if len(names) == 1 or DEMO in names:
        return find_tenant(names[0] if len(names) == 1 else DEMO)
    known = ", ".join(names) if names else "there is none yet; ./avb tenant create makes one"
    raise click.ClickException(f"say which tenant: --tenant SLUG ({known})")


@command.command("list")
@click.option("--json", "as_json", is_flag=True, help="one JSON array")
@in_tenant
def list_(as_json: bool) -> None:
    """All agents: which version takes calls, and whether the draft is ahead of it."""
    from agents.models import Agent

    agents = list(Agent.objects.select_related("live", "standby"))
    if as_json:
        click.echo(json.dumps([_shape(agent) for agent in agents], indent=2))
        return
    width = max([len(agent.slug) for agent in agents], default=0)
    for agent in agents:
        default = "  (default)" if agent.is_default else ""
        click.echo(f"{agent.slug:<{width}}  {_say(agent):<28}  {agent.name}{default}")
    if not agents:
        click.echo("there are no agents; ./avb agent apply FILE makes one", err=True)


@command.command()
@click.argument("slug")
@click.option("--json", "as_json", is_flag=True, help="one JSON object, with all fields of the draft")
@in_tenant
def show(slug: str, as_json: bool) -> None:
    """One agent: who it is, and which version takes calls."""
    agent = _find(slug)
    if as_json:
        click.echo(json.dumps(_shape(agent), indent=2, ensure_ascii=False))
        return
    click.echo(f"{agent.slug}  {agent.name}{' (default)' if agent.is_default else ''}")
    lines = {
        "calls": _say(agent),
        "standby": f"version {agent.standby.number}" if agent.standby else "",
        "voice": agent.voice,
        "language": agent.language or ", ".join(agent.languages),
        "model": ", then ".join(filter(None, [agent.model or "the default", *agent.fallback_models])),
        "tools": ", ".join(str(tool.get("name") or tool.get("server")) for tool in agent.tools),
        "colleagues": ", ".join(colleague["agent"] for colleague in agent.colleagues),
        "changed": f"{agent.updated_at:%Y-%m-%d %H:%M %Z}",
    }
    for name, value in lines.items():
        if value:
            click.echo(f"  {name:<10}{value}")
    if agent.live:
        click.echo(f"  {'published':<10}{_when(agent.live)}")


@command.command()
@click.argument("files", nargs=-1, required=True, type=click.File("rb"))
@click.option("--publish", is_flag=True, help="publish what is not live already as it is in the file")
@click.option("--note", default="", help="what is new, for people; with --publish")
@in_tenant
def apply(files: tuple[IO[bytes], ...], publish: bool, note: str) -> Said:
    """Bring drafts to what YAML files say; - reads from standard input. All of them, or none when one is refused."""
    from agents.documents import read_document

    said, applied = [], []
    for file in files:
        name = str(getattr(file, "name", "standard input"))
        with blaming(name):
            fields = read_document(file.read())
        slug = fields.get("slug")
        with blaming(f"{name}: the agent {slug!r}"):
            done = _apply(fields)
        changed = f"changed: {', '.join(done.changed)}" if done.changed else "is as it was"
        said.append((f"{done.agent.slug} {'is made' if done.created else changed}", False))
        applied.append((name, done.agent.slug))
    for name, slug in applied:
        if publish:
            with blaming(f"{name}: the agent {slug!r}"):
                said.append((_publish_changed(slug, note), False))
        else:
            said += [(line, True) for line in _warn(slug)]
    return said


def _publish_changed(slug: str, note: str) -> str:
    """Unless the live version says the same; what there is to say of it."""
    from agents.operations import publish_agent
    from agents.queries import read_definition
    from agents.versions import DRAFT, differ

    agent = _find(slug)
    if agent.live is not None and not differ(agent.live.definition, read_definition(agent, DRAFT)):
        return f"{slug} version {agent.live.number} takes calls and is the same"
    return f"{slug} version {publish_agent(agent=agent, note=note).number} is published and takes calls"


def _warn(slug: str) -> list[str]:
    """What keeps the draft from being published."""
    from agents.checks import AgentInvalid, freeze
    from agents.versions import definition_of

    try:
        freeze(slug, definition_of(_find(slug)))
    except AgentInvalid as error:
        return [f"{slug}: the draft cannot be published yet:", *(f"  {line}" for line in _lines(error))]
    return []


@command.command()
@click.argument("slug")
@in_tenant
def export(slug: str) -> None:
    """Print the draft as one YAML document, for Git."""
    from agents.documents import write_document

    click.echo(write_document(_find(slug)), nl=False)


@command.command()
@click.argument("slug")
@click.option("--note", default="", help="what is new, for people")
@click.option("--activate/--no-activate", default=True, show_default=True, help="let new calls get it at once")
@in_tenant
def publish(slug: str, note: str, activate: bool) -> None:
    """Make the draft a version, which is never changed again."""
    from agents.operations import publish_agent

    version = publish_agent(agent=_find(slug), note=note, activate=activate)
    rest = "takes calls" if activate else f"waits: ./avb agent activate {slug} {version.number}"
    click.echo(f"{slug} version {version.number} is published and {rest}")


@command.command()
@click.argument("slug")
@in_tenant
def versions(slug: str) -> None:
    """What was published, the latest first; * takes calls, - took them before."""
    from agents.queries import list_versions

    agent = _find(slug)
    trial = _trial(agent)
    for version in list_versions(agent).defer("definition").order_by("-number"):
        mark = "*" if version.is_live else "-" if version.is_standby else " "
        click.echo(f"{mark} {version.number:>4}  {_when(version)}".rstrip())
    if trial is not None:
        arms = ", ".join(f"version {arm.version} (weight {arm.weight:g})" for arm in trial.shares)
        click.echo(f"a trial runs: {arms}")


@command.command()
@click.argument("slug")
@click.argument("first", metavar="FROM", required=False)
@click.argument("last", metavar="TO", default="draft")
@in_tenant
def diff(slug: str, first: str | None, last: str) -> None:
    """What differs between two versions: numbers, or draft. Without FROM and TO: from what takes calls to the draft."""
    from agents.queries import read_definition
    from agents.versions import differ

    agent = _find(slug)
    if first is None and agent.live is None:
        raise click.ClickException(f"{slug} has no version that takes calls; say FROM and TO, numbers or draft")
    names = [_check_name(first or str(agent.live.number)), _check_name(last)]
    before, after = (read_definition(agent, name) for name in names)
    changes = differ(before, after)
    if not changes:
        click.echo(f"{slug}: nothing differs between {_call(names[0])} and {_call(names[1])}")
    for change in changes:
        if "lines" in change:
            click.echo("\n".join([f"{change['field']}:", *change["lines"][2:]]))
        else:
            old, new = (json.dumps(change[side], ensure_ascii=False) for side in ("before", "after"))
            click.echo(f"{change['field']}:\n-{old}\n+{new}")


@command.command()
@click.argument("slug")
@click.argument("number", type=click.IntRange(1))
@in_tenant
def activate(slug: str, number: int) -> None:
    """Let new calls get a version that was published before."""
    from agents.operations import activate_version
    from agents.queries import find_version

    activate_version(version=find_version(_find(slug), number))
    click.echo(f"{slug} version {number} takes calls")


@command.command()
@click.argument("slug")
@in_tenant
def rollback(slug: str) -> None:
    """Go back to the version that took calls before; done twice, it is taken back."""
    from agents.operations import roll_back_agent

    agent = roll_back_agent(agent=_find(slug))
    click.echo(f"{slug} version {agent.live and agent.live.number} takes calls")


@command.command()
@click.argument("slug")
@click.argument("number", type=click.IntRange(1), required=False)
@in_tenant
def reset(slug: str, number: int | None) -> None:
    """Throw the draft's changes away: it becomes a version again, the live one when no number is given."""
    from agents.operations import reset_draft
    from agents.queries import find_version

    agent = _find(slug)
    version = agent.live if number is None else find_version(agent, number)
    if version is None:
        raise click.ClickException(f"{slug} has no version that takes calls; say which number the draft shall be")
    reset_draft(agent=agent, version=version)
    click.echo(f"the draft of {slug} is version {version.number} again")


def _find(slug: str) -> Any:
    from agents.queries import find_agent

    return find_agent(slug)


def _apply(fields: dict[str, Any]) -> Any:
    """By the same shape as REST. Raises AgentInvalid."""
    from rest_framework.exceptions import ValidationError

    from agents.operations import AgentInvalid, apply_agent
    from agents.serializers import AgentSerializer
    from agents.shapes import nearest

    shape = AgentSerializer(data=fields)
    try:
        shape.is_valid(raise_exception=True)
    except ValidationError as error:
        known = [name for name, field in shape.fields.items() if not field.read_only]
        found = {
            place: [
                f"{words}{nearest(place, wanted=known) if words.code == 'unknown_parameter' else ''}"
                for words in listed
            ]
            for place, listed in shape.errors.items()
        }
        raise AgentInvalid(found) from error
    return apply_agent(**shape.validated_data)


def _check_name(name: str) -> str:
    if name != "draft" and not (name.isascii() and name.isdecimal() and len(name) < 10):
        raise click.ClickException(f"a version is a number, or draft; got {name!r}")
    return name


def _call(version: str) -> str:
    return "the draft" if version == "draft" else f"version {version}"


def _trial(agent: Any) -> Any:
    """The one that runs, or None."""
    from agents.trials.models import TrialStatus
    from agents.trials.queries import list_trials

    return list_trials(agent, status=TrialStatus.RUNNING).first()


def _shape(agent: Any) -> Any:
    from agents.serializers import AgentSerializer

    return json.loads(json.dumps(AgentSerializer(agent).data, default=str))


def _say(agent: Any) -> str:
    """Which version takes calls, in a few words."""
    from agents.versions import has_changes

    if agent.live is None:
        return "draft, takes no calls"
    ahead = ", draft is ahead" if has_changes(agent) else ""
    if (trial := _trial(agent)) is not None:
        return f"trial of versions {', '.join(str(arm.version) for arm in trial.shares)}{ahead}"
    return f"version {agent.live.number}{ahead}"


def _when(version: Any) -> str:
    note = f"  {version.note}" if version.note else ""
    return f"{version.created_at:%Y-%m-%d %H:%M %Z}  {version.published_by}{note}"
