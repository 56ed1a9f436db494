"""Which agent a call gets, with which version and variables, and how those are refused that cannot be had."""

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest
from channels.db import database_sync_to_async
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django_tenants.utils import schema_context

from agents.models import Agent
from agents.operations import create_agent, publish_agent, update_agent
from agents.queries import find_agent
from agents.routing.models import RoutingRule
from agents.routing.operations import create_rule
from agents.tools.types import McpServer, ToolSpec
from agentvoicebox import admission, directory
from realtime.archive.events import CallStarted, UsageMetered
from realtime.runtime.active_agents import ActiveAgent, ActiveAgents, active_agent_key
from realtime.runtime.door import VALUE_CHARACTERS, VALUES
from realtime.runtime.ports import AgentUnavailable
from realtime.runtime.secrets import ClientSecrets, secret_key
from tenants.encryption.errors import KeySourceUnavailable
from tenants.keys.operations import change_key
from tenants.keys.queries import find_key
from tenants.limits.allowance import fingerprint
from tests.record.world import World
from tests.rest.conftest import Connect
from tests.rest.office import Office, Socket, key_of, office

__all__ = ["office"]

CALLER_NAME = {"name": "caller.name", "default": None}


def make(slug: str, *, publish: bool = True, **fields: Any) -> None:
    with schema_context("alpha"):
        agent = create_agent(**{"slug": slug, "name": slug.title(), "instructions": f"You are {slug}.", **fields})
        if publish:
            publish_agent(agent=agent)


def publish_again(slug: str, **fields: Any) -> None:
    with schema_context("alpha"):
        publish_agent(agent=update_agent(agent=find_agent(slug), **fields))


def add_rule(**fields: Any) -> None:
    with schema_context("alpha"):
        create_rule(**{"name": "a rule", **fields})


in_thread = database_sync_to_async


@pytest.fixture(autouse=True)
async def tidy(world: World) -> AsyncIterator[None]:
    """Sockets read in a thread of their own: what they are to see is committed, and is taken away again."""
    yield
    await in_thread(_tidy)()


def _tidy() -> None:
    with schema_context("alpha"):
        RoutingRule.objects.all().delete()
        Agent.objects.exclude(slug="alpha-desk").delete()
        Agent.objects.filter(slug="alpha-desk").update(is_default=True)


async def instructions(socket: Socket) -> str:
    return str((await socket.until("session.created"))["session"]["instructions"])


def started(office: Office) -> CallStarted:
    return [event for _, event in office.archive.events if isinstance(event, CallStarted)][-1]


async def test_who_answers_is_decided_in_this_order(office: Office, world: World) -> None:
    for slug in ("model", "query", "keyed", "ruled"):
        await in_thread(make)(slug)
    plain, keyed = await key_of(world), await key_of(world, agent="keyed")
    assert await instructions(office.call(plain)) == "Secret of alpha"
    await in_thread(add_rule)(agent="ruled", conditions={"channels": ["websocket"]})
    assert await instructions(office.call(plain)) == "You are ruled."
    assert await instructions(office.call(keyed)) == "You are keyed."
    assert await instructions(office.call(keyed, "model=gpt-realtime&agent=query")) == "You are query."
    assert await instructions(office.call(keyed, "model=agent:model&agent=query")) == "You are model."
    assert (started(office).agent, started(office).agent_version) == ("model", 1)


async def test_a_rule_reads_what_the_address_says_of_the_caller(office: Office, world: World) -> None:
    await in_thread(make)("gold")
    await in_thread(add_rule)(agent="gold", conditions={"attributes": {"caller.tier": ["gold"]}})
    key = await key_of(world)
    assert await instructions(office.call(key, "model=gpt-realtime&caller.tier=gold")) == "You are gold."
    assert await instructions(office.call(key, "model=gpt-realtime&caller.tier=tin")) == "Secret of alpha"


async def test_a_default_agent_that_was_never_published_leaves_the_plain_assistant(
    office: Office, world: World
) -> None:
    await in_thread(make)("fresh", publish=False, is_default=True)
    assert "helpful" in await instructions(office.call(await key_of(world)))


async def test_versions_are_named_by_who_may_read_agents(office: Office, world: World) -> None:
    await in_thread(make)("front")
    await in_thread(publish_again)("front", instructions="You are the second.")
    await in_thread(lambda: update_in("front", instructions="You are the draft."))()
    key = await key_of(world)
    assert await instructions(office.call(key, "model=agent:front")) == "You are the second."
    assert await instructions(office.call(key, "model=agent:front@1")) == "You are front."
    assert await instructions(office.call(key, "model=gpt-realtime&agent=front@draft")) == "You are the draft."
    assert started(office).agent_version == 0
    found = await in_thread(find_key)(key)
    await in_thread(change_key)(key=found, scopes=["realtime"])
    assert await instructions(office.call(key, "model=agent:front")) == "You are the second."
    assert await office.call(key, "model=agent:front@1").refusal() == (
        3000, "invalid_request_error", "insufficient_scope",
    )  # fmt: skip


def update_in(slug: str, **fields: Any) -> None:
    with schema_context("alpha"):
        update_agent(agent=find_agent(slug), **fields)


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ("model=agent:nobody", "agent_not_found"),
        ("model=agent:beta-desk", "agent_not_found"),
        ("model=agent:%00", "agent_not_found"),
        ("model=gpt-realtime&agent=nobody", "agent_not_found"),
        ("model=gpt-5", "invalid_model"),
        ("model=agent:fresh", "agent_not_published"),
        ("model=agent:front@7", "version_not_found"),
        ("model=agent:front@latest", "version_not_found"),
        ("model=agent:front", "missing_variable"),
    ],
)
async def test_an_agent_that_cannot_be_had_is_refused_with_its_reason(
    office: Office, world: World, query: str, code: str
) -> None:
    await in_thread(make)("fresh", publish=False)
    await in_thread(make)("front", instructions="Greet {{ caller.name }}.", variables=[CALLER_NAME])
    assert await office.call(await key_of(world), query).refusal() == (4000, "invalid_request_error", code)


async def test_the_address_brings_the_callers_variables_as_text_and_no_template(office: Office, world: World) -> None:
    await in_thread(make)(
        "front",
        instructions="Greet {{ caller.name }} ({{ caller.id }}) on {{ call.channel }}.",
        variables=[CALLER_NAME, {"name": "caller.id", "default": "nobody"}],
    )
    key = await key_of(world)
    said = await instructions(
        office.call(key, "model=agent:front&caller.name=Ann%20%7B%7B%20agent.slug%20%7D%7D&user=u1")
    )
    assert said == "Greet Ann {{ agent.slug }} (u1) on websocket."


@pytest.mark.parametrize(
    ("query", "code", "words"),
    [
        (f"caller.name={'a' * (VALUE_CHARACTERS + 1)}", "invalid_variable", str(VALUE_CHARACTERS)),
        ("caller.na%00me=a", "invalid_variable", "letters"),
        ("caller.name=a%00", "invalid_variable", "NUL"),
        ("caller.__class__=a", "invalid_variable", "letters"),
        ("caller.id=a", "invalid_variable", "OpenAI-Safety-Identifier"),
        ("&".join(f"caller.v{n}=a" for n in range(VALUES + 1)), "too_many_variables", str(VALUES)),
    ],
)
async def test_variables_of_an_address_have_bounds(
    office: Office, world: World, query: str, code: str, words: str
) -> None:
    call = office.call(await key_of(world), f"model=gpt-realtime&{query}")
    assert await call.refusal() == (4000, "invalid_request_error", code)
    assert words in call.events[0]["error"]["message"]


async def test_a_secret_holds_the_callers_variables_and_the_browser_brings_none(
    office: Office, world: World, connect: Connect, secrets: ClientSecrets
) -> None:
    await in_thread(make)("front", instructions="Greet {{ caller.name }}.", variables=[CALLER_NAME])
    http = connect(await key_of(world))
    session: dict[str, Any] = {"type": "realtime", "model": "agent:front"}
    missing = (await http.post("/v1/realtime/client_secrets", json={"session": session})).json()["error"]
    assert (missing["code"], missing["param"]) == ("missing_variable", "session.prompt.variables")
    session["prompt"] = {"id": "front", "variables": {"caller.name": "Ann"}}
    made = (await http.post("/v1/realtime/client_secrets", json={"session": session})).json()
    assert made["session"]["instructions"] == "Greet Ann."
    assert await instructions(office.call(made["value"], "")) == "Greet Ann."
    refused = office.call(made["value"], "caller.name=Eve")
    assert await refused.refusal() == (4000, "invalid_request_error", "invalid_variable")
    assert "client secret" in refused.events[0]["error"]["message"]


async def test_a_browser_reads_no_instructions_of_other_agents(office: Office, world: World, connect: Connect) -> None:
    for slug in ("front", "greeter", "internal"):
        await in_thread(make)(slug)
    key = await key_of(world)
    body = {"session": {"type": "realtime", "model": "agent:front", "prompt": {"id": "agent:greeter"}}}
    made = (await connect(key).post("/v1/realtime/client_secrets", json=body)).json()
    call = office.call(made["value"], "")
    assert await instructions(call) == "You are greeter."
    call.send(type="session.update", session={"type": "realtime", "prompt": {"id": "internal"}}, event_id="mine")
    told = (await call.until("error"))["error"]
    assert (told["code"], told["param"], told["event_id"]) == ("agent_not_found", "session.prompt.id", "mine")
    for slug in ("agent:front", "greeter"):
        seen = len(call.events)
        call.send(type="session.update", session={"type": "realtime", "prompt": {"id": slug}})
        async with asyncio.timeout(10):
            while len(call.events) == seen:  # noqa: ASYNC110 - a test polls
                await asyncio.sleep(0.005)
        said = call.events[-1]["session"]["instructions"]
        assert said == f"You are {slug.removeprefix('agent:')}."
    trusted = office.call(key)
    await trusted.until("session.created")
    trusted.send(type="session.update", session={"type": "realtime", "prompt": {"id": "internal"}})
    assert (await trusted.until("session.updated"))["session"]["instructions"] == "You are internal."


async def test_a_secret_for_a_version_needs_a_maker_who_may_read_agents(
    office: Office, world: World, connect: Connect
) -> None:
    await in_thread(make)("front")
    await in_thread(publish_again)("front", instructions="You are the second.")
    key = await key_of(world)
    body = {"session": {"type": "realtime", "model": "agent:front@1"}}
    made = (await connect(key).post("/v1/realtime/client_secrets", json=body)).json()
    assert await instructions(office.call(made["value"], "")) == "You are front."
    found = await in_thread(find_key)(key)
    await in_thread(change_key)(key=found, scopes=["realtime"])
    assert (await office.call(made["value"], "").refusal())[2] == "insufficient_scope"
    answer = await connect(key).post("/v1/realtime/client_secrets", json=body)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "insufficient_scope")


async def test_what_opens_a_clients_mcp_servers_is_sealed_while_a_secret_waits(
    office: Office, world: World, http: httpx2.AsyncClient, secrets: ClientSecrets, valkey_url: str
) -> None:
    import redis

    server = {
        "type": "mcp", "server_label": "crm", "server_url": "https://crm.example/mcp?token=t0k3n-in-url",
        "authorization": "t0k3n-of-oauth", "headers": {"X-Key": "t0k3n-in-header"},
    }  # fmt: skip
    session = {"type": "realtime", "instructions": "Hm.", "tools": [server, {"type": "function", "name": "look"}]}
    made = (await http.post("/v1/realtime/client_secrets", json={"session": session})).json()
    with redis.Redis.from_url(valkey_url) as client:
        kept = client.get(secret_key(made["value"]))
        size = client.zrange("avb:alpha:client_secret_sizes", 0, -1)
    assert b"t0k3n" not in kept
    assert b"Hm." in kept
    assert any(each.endswith(f":{len(kept)}".encode()) for each in size), "what is counted is what lies there"
    asked: list[McpServer] = []
    tools = office.voice.ports.tools

    async def list_tools(server: McpServer, *, tenant: str) -> tuple[ToolSpec, ...]:
        asked.append(server)
        return ()

    tools.list_tools = list_tools  # type: ignore[method-assign]
    call = office.call(made["value"], "")
    opened = (await call.until("session.created"))["session"]
    assert [tool["type"] for tool in opened["tools"]] == ["mcp", "function"]
    await call.until("mcp_list_tools.completed")
    assert asked[0].url.endswith("token=t0k3n-in-url")
    assert dict(asked[0].headers) == {"X-Key": "t0k3n-in-header", "Authorization": "Bearer t0k3n-of-oauth"}


async def test_a_secret_whose_tools_cannot_be_unsealed_opens_nothing_for_now(
    office: Office, world: World, http: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: object, **__: object) -> bytes:
        raise KeySourceUnavailable("Vault does not answer.")

    server = {"type": "mcp", "server_label": "crm", "server_url": "https://crm.example/mcp", "authorization": "t0k3n"}
    body = {"session": {"type": "realtime", "tools": [server]}}
    made = (await http.post("/v1/realtime/client_secrets", json=body)).json()
    monkeypatch.setattr("realtime.rest.sealed_tools.unseal", away)
    assert await office.call(made["value"], "").refusal() == (1013, "server_error", "service_unavailable")
    monkeypatch.setattr("realtime.rest.sealed_tools.seal", away)
    assert (await http.post("/v1/realtime/client_secrets", json=body)).status_code == 503


@pytest.mark.parametrize(
    ("prompt", "code", "param"),
    [
        ({"id": "nobody"}, "agent_not_found", "id"),
        ({"id": "a\0b"}, "agent_not_found", "id"),
        ({"id": "fresh"}, "agent_not_published", "id"),
        ({"id": "front", "version": "9", "variables": {"caller.name": "A"}}, "version_not_found", "version"),
        ({"id": "front", "version": "draft"}, "version_not_found", "version"),
        ({"id": "front"}, "missing_variable", "variables"),
        ({"id": "front", "variables": {"caller.name": "a" * 1_001}}, "invalid_variable", "variables"),
        ({"id": "front", "variables": {"call.id": "mine"}}, "invalid_variable", "variables"),
        ({"id": "front", "variables": {f"v{n}": "" for n in range(65)}}, "invalid_variable", "variables"),
    ],
)
async def test_a_prompt_that_cannot_be_used_is_refused_everywhere_in_the_same_words(
    office: Office, world: World, http: httpx2.AsyncClient, prompt: dict[str, Any], code: str, param: str
) -> None:
    await in_thread(make)("fresh", publish=False)
    await in_thread(make)("front", instructions="Greet {{ caller.name }}.", variables=[CALLER_NAME])
    body = {"session": {"type": "realtime", "prompt": prompt}}
    answer = await http.post("/v1/realtime/client_secrets", json=body)
    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error["param"]) == (400, code, f"session.prompt.{param}")
    call = office.call(await key_of(world))
    await call.until("session.created")
    call.send(type="session.update", session={"type": "realtime", "prompt": prompt}, event_id="mine")
    told = (await call.until("error"))["error"]
    assert (told["code"], told["param"], told["event_id"]) == (code, f"session.prompt.{param}", "mine")
    assert told["message"] == error["message"]
    assert not call.task.done()


async def test_a_stored_prompt_takes_the_place_of_the_instructions(office: Office, world: World) -> None:
    await in_thread(make)("front", instructions="Greet {{ caller.name }}.", variables=[CALLER_NAME])
    call = office.call(await key_of(world))
    await call.until("session.created")
    prompt = {"id": "agent:front", "version": "1", "variables": {"caller.name": {"type": "input_text", "text": "Ann"}}}
    call.send(type="session.update", session={"type": "realtime", "prompt": prompt})
    session = (await call.until("session.updated"))["session"]
    assert (session["instructions"], session["prompt"]["id"]) == ("Greet Ann.", "agent:front")
    call.send(type="response.create", response={"prompt": {**prompt, "variables": {"caller.name": "Bob"}}})
    await call.until("response.done")
    asked = office.voice.ports.model.requests[-1]  # type: ignore[attr-defined]
    assert asked.messages[0].text.startswith("Greet Bob.")


async def test_who_comes_back_soon_is_taken_by_the_colleague_who_does_not_greet_again(
    office: Office, world: World, active: ActiveAgents, valkey_url: str
) -> None:
    for slug in ("front", "billing"):
        await in_thread(make)(slug, greeting=f"This is {slug}.")
    active.remember("alpha", "websocket", "ann", ActiveAgent("front", "billing"))
    await active.stop()
    key = await key_of(world)
    again = office.call(key, "model=agent:front&user=ann")
    assert await instructions(again) == "You are billing."
    assert started(office).agent == "billing"
    await asyncio.sleep(0.6)
    assert "response.created" not in [event["type"] for event in again.events]
    other = office.call(key, "model=agent:front&user=bob")
    assert (await other.until("response.output_audio_transcript.done"))["transcript"] == "This is front."
    # Another end user, another agent, a named version: as they were asked for.
    assert await instructions(office.call(key, "model=agent:front&user=bob")) == "You are front."
    assert await instructions(office.call(key, "model=agent:front@1&user=ann")) == "You are front."
    assert await instructions(office.call(key, "model=gpt-realtime&user=ann")) == "Secret of alpha"
    assert await instructions(office.call(key, "model=agent:front")) == "You are front."


async def test_a_colleague_who_is_gone_leaves_the_call_where_it_goes(
    office: Office, world: World, active: ActiveAgents
) -> None:
    await in_thread(make)("front")
    active.remember("alpha", "websocket", "ann", ActiveAgent("front", "retired"))
    await active.stop()
    assert await instructions(office.call(await key_of(world), "model=agent:front&user=ann")) == "You are front."


@pytest.fixture
def active(valkey_url: str) -> ActiveAgents:
    return ActiveAgents(valkey_url, 1.0, 60)


async def test_what_is_remembered_names_nobody_and_lapses(active: ActiveAgents, valkey_url: str) -> None:
    import redis

    active.remember("alpha", "websocket", "ann@example.org", ActiveAgent("front", "billing"))
    await active.stop()
    with redis.Redis.from_url(valkey_url) as client:
        [name] = client.keys("avb:alpha:active_agent:*")
        assert name.decode() == active_agent_key("alpha", "websocket", "ann@example.org")
        assert name.decode() == f"avb:alpha:active_agent:websocket:{fingerprint('ann@example.org')}"
        assert 55 <= client.ttl(name) <= 60
    off = ActiveAgents(valkey_url, 1.0, 0)
    assert await off.recall("alpha", "websocket", "ann@example.org") is None
    off.remember("alpha", "phone", "ann@example.org", ActiveAgent("front", "billing"))
    await off.stop()
    with redis.Redis.from_url(valkey_url) as client:
        assert client.keys("avb:alpha:active_agent:phone:*") == []


async def test_without_redis_nobody_is_remembered_and_nothing_waits() -> None:
    away = ActiveAgents("redis://127.0.0.1:9/0", 0.1, 60)
    began = time.monotonic()
    away.remember("alpha", "websocket", "ann", ActiveAgent("front", "billing"))
    assert await away.recall("alpha", "websocket", "ann") is None
    await away.stop()
    assert time.monotonic() - began < 5


async def test_a_colleague_is_filled_in_from_what_the_call_brought_and_not_from_what_others_assume(
    office: Office, world: World
) -> None:
    await in_thread(make)(
        "front",
        instructions="{{ caller.name }} {{ tone }}",
        variables=[{"name": "caller.name", "default": "unknown"}, {"name": "tone", "default": "formal"}],
    )
    await in_thread(make)("billing", instructions="Be {{ tone }}.", variables=[{"name": "tone", "default": "casual"}])
    await in_thread(make)("strict", instructions="{{ caller.name }}", variables=[CALLER_NAME])
    call = office.call(await key_of(world), "model=agent:front")
    assert await instructions(call) == "unknown formal"
    directory = office.voice.ports.directory
    values = {"call.id": "sess_1", "call.channel": "websocket"}
    assert (await directory.load("alpha", "billing", values, subject="sess_1")).instructions == "Be casual."
    with pytest.raises(AgentUnavailable, match=r"caller\.name"):
        await directory.load("alpha", "strict", values, subject="sess_1")
    with pytest.raises(AgentUnavailable, match="There is no agent 'nobody'"):
        await directory.load("alpha", "nobody", values, subject="sess_1")


async def test_a_rule_that_waits_for_the_first_words_asks_a_model_and_counts_what_that_took(
    office: Office, world: World
) -> None:
    await in_thread(make)("billing")
    await in_thread(add_rule)(agent="billing", conditions={"intent": "a question about an invoice"})
    call = office.call(await key_of(world))
    assert await instructions(call) == "Secret of alpha"
    office.voice.ports.model.words = ("1",)  # type: ignore[attr-defined]
    item = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "My invoice?"}]}
    call.send(type="conversation.item.create", item=item)
    call.send(type="response.create")
    await call.until("response.done")
    asked = office.voice.ports.model.requests  # type: ignore[attr-defined]
    assert "a question about an invoice" in asked[0].messages[0].text
    assert asked[1].messages[0].text.startswith("You are billing.")
    spent = [event for _, event in office.archive.events if isinstance(event, UsageMetered) and event.source == "route"]
    assert [event.quantities["llm_tokens_in"] for event in spent] == [7]


async def test_a_database_that_hangs_holds_no_call(
    office: Office, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def hang(*_: object) -> str:
        time.sleep(0.5)
        return "late"

    monkeypatch.setattr(directory, "READ_S", 0.05)
    for name in ("_load", "_fill"):
        monkeypatch.setattr(directory, name, hang)
    began, agents = time.monotonic(), office.voice.ports.directory
    with pytest.raises(AgentUnavailable, match="at the moment"):
        await agents.load("alpha", "billing", {}, subject="ann")
    assert time.monotonic() - began < 0.4
    await asyncio.sleep(0.6)
    call = office.call(await key_of(world))
    await call.until("session.created")
    call.send(type="session.update", session={"type": "realtime", "prompt": {"id": "front"}}, event_id="mine")
    assert (await call.until("error"))["error"]["code"] == "service_unavailable"
    assert not call.task.done()
    await asyncio.sleep(0.6)


async def test_credentials_that_cannot_be_unsealed_are_a_reason_to_come_again(
    office: Office, world: World, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: object, **__: object) -> None:
        raise KeySourceUnavailable("Vault does not answer.")

    key = await key_of(world)
    monkeypatch.setattr("agents.loading.resolve_models", away)
    assert await office.call(key).refusal() == (1013, "server_error", "service_unavailable")
    assert (await connect(key).post("/v1/realtime/client_secrets")).status_code == 503
    with pytest.raises(AgentUnavailable, match="at the moment"):
        await office.voice.ports.directory.load("alpha", "alpha-desk", {}, subject="ann")


async def test_a_call_is_let_in_with_few_questions_to_the_database(
    office: Office, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[list[str]] = []
    read = admission._read

    def watched(*arguments: Any) -> Any:
        with CaptureQueriesContext(connection) as captured:
            found = read(*arguments)
        asked.append([query["sql"] for query in captured.captured_queries])
        return found

    monkeypatch.setattr(admission, "_read", watched)
    await in_thread(make)("front")
    key = await key_of(world)
    for query in ("model=gpt-realtime", "model=gpt-realtime", "model=agent:front", "model=agent:front&user=ann"):
        await instructions(office.call(key, query))
    # BEGIN, the schema, the time-out; rules, agent, trial, recordings, redaction; COMMIT.
    assert [len(each) for each in asked[1:]] == [9, 8, 9], asked
    assert all(sum("statement_timeout" in sql for sql in each) == 1 for each in asked)
