"""Agents in the whole product: two hand a spoken call over, versions change under live calls, tools are spoken about,
a provider that is gone is not noticed, and all of it from a terminal too."""

import asyncio
import json
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
import websockets

from agentvoicebox.cli.caller import Turn
from agentvoicebox.stack.ports import find_free_port
from speech.stt.whisper import Whisper
from tests.llm.server import ChatServer, called, chat
from tests.system.product import Product, words
from tests.system.words import TEXTS, clip_24khz, hear, word_error_rate

CLIP = "librivox-0930.wav"
FILLER = "One moment, please."
SHIPPED = "Your order was shipped on Monday morning."
INVOICE = "I am the colleague for invoices, and I will look at yours."
MORE = "Yes, that invoice was paid last week."


def publish(product: Product, slug: str, **fields: Any) -> None:
    """An agent, made or changed, whose new version takes calls."""
    fields = {"name": slug.title(), "instructions": f"You are {slug}.", **fields}
    known = {agent["slug"] for agent in product.ask("GET", "agents/")["results"]}
    if slug in known:
        product.ask("PATCH", f"agents/{slug}/", fields)
    else:
        product.ask("POST", "agents/", {"slug": slug, **fields})
    product.ask("POST", f"agents/{slug}/publish/", {"note": "for a test"})


@pytest.fixture
def team(breakable: Product) -> Product:
    """``front`` hands over to ``invoices``."""
    publish(breakable, "invoices", voice="cedar", greeting="Welcome to invoices.")
    colleague = {"agent": "invoices", "mode": "hand_off", "when": "questions about invoices", "returns": True}
    publish(breakable, "front", voice="marin", colleagues=[colleague])
    return breakable


async def answered(turn: Turn, text: str) -> None:
    """Until all of this was said in the turn's answer; 20 s at most."""
    for _ in range(200):
        if text in turn.answer:
            return
        await asyncio.sleep(0.1)
    raise AssertionError(f"said was: {turn.answer!r}")


async def test_two_agents_hand_a_spoken_call_over(team: Product, llm: ChatServer, whisper: Whisper) -> None:
    llm.turns = [
        chat(called(0, "call_1", "hand_off_to_invoices", '{"reason": "an invoice"}'), reason="tool_calls"),
        chat(*words(INVOICE)),
        chat(*words(MORE)),
    ]
    asked = len(llm.requests)
    updates: list[dict[str, Any]] = []

    def watch(event: dict[str, Any]) -> None:
        if event["type"] == "session.updated":
            updates.append(event["session"])

    async with team.call("front", on_event=watch, end_user="caller-of-two") as caller:
        first = await caller.speak(clip_24khz(CLIP))
        await answered(first, INVOICE)
        await caller.hear_out(first)
        second = await caller.speak(clip_24khz("cards-005.wav"))
        await answered(second, MORE)
        session_id = caller.session["id"]
    assert caller.errors == []
    assert word_error_rate([TEXTS[CLIP]], [first.said]) <= 0.15
    assert first.answer == INVOICE, "nobody greets again"
    assert word_error_rate([INVOICE, MORE], [hear(whisper, first.pcm), hear(whisper, second.pcm)]) <= 0.2
    front, invoices, again = llm.requests[asked:]
    assert [tool["function"]["name"] for tool in front["tools"]] == ["hand_off_to_invoices"]
    assert front["messages"][0]["content"].startswith("You are front.")
    for request in (invoices, again):
        assert request["messages"][0]["content"].startswith("You are invoices.")
        assert request["messages"][1]["content"] == first.said, "the whole call is known to the colleague"
    assert updates[-1]["audio"]["output"]["voice"] == "cedar"

    items = await team.stored(session_id, lambda items: len(items) >= 5 and items[-1]["text"] == MORE)
    by_agent = [(item["type"], item["role"], item["agent"]) for item in items]
    assert by_agent == [
        ("message", "user", "front"),
        ("mcp_call", "", "front"),
        ("message", "assistant", "invoices"),
        ("message", "user", "invoices"),
        ("message", "assistant", "invoices"),
    ]
    assert items[1]["receipt"]["outcome"] == "completed"
    assert set(items[2]["timings_ms"]) >= {"first_token", "first_audio"}

    # Whoever calls the same agent again soon is taken by the colleague, who does not greet.
    llm.turns = [chat(*words("Welcome back."))]
    async with talk(team, "front", end_user="caller-of-two") as again_call:
        assert await again_call.ask("It is me again.") == "Welcome back."
    assert llm.requests[-1]["messages"][0]["content"].startswith("You are invoices.")


class Talk:
    """A call in text."""

    def __init__(self, socket: websockets.ClientConnection) -> None:
        self._socket = socket
        self.session_id = ""

    async def event(self, wanted: str) -> dict[str, Any]:
        async with asyncio.timeout(30):
            while True:
                event: dict[str, Any] = json.loads(await self._socket.recv())
                assert event["type"] != "error", event
                if event["type"] == wanted:
                    return event

    async def ask(self, text: str) -> str:
        item = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": text}]}
        for event in ({"type": "conversation.item.create", "item": item}, {"type": "response.create"}):
            await self._socket.send(json.dumps(event))
        output = (await self.event("response.done"))["response"]["output"]
        return "".join(part["text"] for item in output if item["type"] == "message" for part in item["content"])


@asynccontextmanager
async def talk(product: Product, agent: str, *, end_user: str = "") -> AsyncIterator[Talk]:
    url = f"{product.demo['realtime_url']}?model=agent:{agent}" + (f"&user={end_user}" if end_user else "")
    headers = {"Authorization": f"Bearer {product.demo['api_key']}"}
    async with websockets.connect(url, additional_headers=headers, max_size=None) as socket:
        call = Talk(socket)
        call.session_id = (await call.event("session.created"))["session"]["id"]
        session = {"type": "realtime", "output_modalities": ["text"]}
        await socket.send(json.dumps({"type": "session.update", "session": session}))
        await call.event("session.updated")
        yield call


async def test_live_calls_keep_their_version_while_others_are_published_and_taken_back(
    breakable: Product, llm: ChatServer
) -> None:
    def says(number: int) -> None:
        publish(breakable, "shift", instructions=f"You are version {number}.")

    async def version_of(call: Talk) -> str:
        await call.ask("Who are you?")
        return str(llm.requests[-1]["messages"][0]["content"])

    await asyncio.to_thread(says, 1)
    live = (await asyncio.to_thread(breakable.ask, "GET", "agents/shift/"))["live"]
    async with talk(breakable, "shift") as first:
        assert await version_of(first) == "You are version 1."
        await asyncio.to_thread(says, 2)
        async with talk(breakable, "shift") as second:
            assert await version_of(second) == "You are version 2."
            assert await version_of(first) == "You are version 1."
            await asyncio.to_thread(breakable.ask, "POST", "agents/shift/rollback/", {})
            async with talk(breakable, "shift") as third:
                assert await version_of(third) == "You are version 1."
                assert await version_of(second) == "You are version 2."
                assert await version_of(first) == "You are version 1."
    calls = {}
    for call in (first, second, third):
        await breakable.stored(call.session_id, lambda items: len(items) >= 2)
        row = await asyncio.to_thread(breakable.ask, "GET", f"conversations/{call.session_id}/")
        calls[call.session_id] = row["agent_version"]
    assert list(calls.values()) == [live, live + 1, live]


class Orders(BaseHTTPRequestHandler):
    """A shop's server that thinks for three seconds."""

    asked: list[str] = []

    def do_GET(self) -> None:
        self.asked.append(self.path)
        time.sleep(3)
        body = json.dumps({"order": {"status": "shipped", "day": "Monday"}}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def shop() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Orders)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join(5)


@pytest.fixture
def seller(breakable: Product, shop: str) -> Iterator[Product]:
    """``seller`` looks orders up, and says something meanwhile."""
    breakable.ask(
        "POST",
        "tools/",
        {
            "name": "find_order",
            "description": "Finds an order.",
            "parameters": {"type": "object", "properties": {"number": {"type": "string"}}, "required": ["number"]},
            "request": {"method": "GET", "url": f"{shop}/orders/{{{{arguments.number}}}}"},
            "response": {"select": "$.order"},
        },
    )
    filler = {"after_ms": 500, "phrases": [FILLER]}
    publish(breakable, "seller", tools=[{"type": "http", "name": "find_order"}], filler=filler)
    yield breakable
    breakable.ask("DELETE", "agents/seller/")
    breakable.ask("DELETE", "tools/find_order/")


async def test_a_slow_tool_is_bridged_by_a_spoken_filler(seller: Product, llm: ChatServer, whisper: Whisper) -> None:
    llm.turns = [
        chat(called(0, "call_1", "find_order", '{"number": "4711"}'), reason="tool_calls"),
        chat(*words(SHIPPED)),
    ]
    async with seller.call("seller") as caller:
        turn = await caller.speak(clip_24khz(CLIP))
        await answered(turn, SHIPPED)
        session_id = caller.session["id"]
    assert caller.errors == []
    assert turn.answer == FILLER + SHIPPED
    assert word_error_rate([f"{FILLER} {SHIPPED}"], [hear(whisper, turn.pcm)]) <= 0.2
    assert Orders.asked == ["/orders/4711"]
    read = llm.requests[-1]["messages"][-1]
    assert (read["role"], json.loads(read["content"])) == ("tool", {"status": "shipped", "day": "Monday"})
    items = await seller.stored(session_id, lambda items: len(items) >= 4 and items[-1]["text"] == SHIPPED)
    [ran] = [item for item in items if item["type"] == "mcp_call"]
    assert (ran["receipt"]["tool"], ran["receipt"]["outcome"]) == ("find_order", "completed")
    assert ran["receipt"]["took_ms"] >= 3_000
    assert json.loads(ran["receipt"]["asked"]) == {"number": "4711"}


async def test_a_provider_that_is_gone_is_not_noticed_by_the_caller(
    breakable: Product, llm: ChatServer, whisper: Whisper
) -> None:
    nobody = f"http://127.0.0.1:{find_free_port()}/v1"
    provider = {"name": "gone", "kind": "openai_compatible", "base_url": nobody, "model": "any"}
    await asyncio.to_thread(breakable.ask, "POST", "providers/", provider)
    await asyncio.to_thread(publish, breakable, "steady", model="gone", fallback_models=["scripted"])
    llm.say(*words(SHIPPED))
    async with breakable.call("steady") as caller:
        turn = await caller.speak(clip_24khz(CLIP))
    assert caller.errors == []
    assert (turn.status, turn.answer) == ("completed", SHIPPED)
    assert word_error_rate([SHIPPED], [hear(whisper, turn.pcm)]) <= 0.2
    assert llm.requests[-1]["model"] == "scripted"
    assert 'agentvoicebox_llm_failovers_total{provider="tenant:openai_compatible"' in breakable.get("/metrics")


def test_talking_to_an_agent_from_a_terminal(team: Product, llm: ChatServer) -> None:
    llm.turns = [
        chat(*words("Hello there.")),
        chat(called(0, "call_1", "hand_off_to_invoices", "{}"), reason="tool_calls"),
        chat(*words(INVOICE)),
    ]
    talked = team.avb("chat", "front", "--var", "name=Ann", written="Hi!\n\nMy invoice, please.\n")
    assert talked.returncode == 0, talked.stderr
    assert talked.stdout.splitlines() == ["Hello there.", INVOICE]
    assert "handed over to invoices" in talked.stderr


def test_a_terminal_runs_no_tools_but_shows_those_of_the_server(seller: Product, llm: ChatServer) -> None:
    llm.turns = [
        chat(called(0, "call_1", "find_order", '{"number": "4711"}'), reason="tool_calls"),
        chat(*words(SHIPPED)),
    ]
    talked = seller.avb("chat", "seller", written="Where is my order?\n")
    assert talked.returncode == 0, talked.stderr
    assert talked.stdout.splitlines()[-1].endswith(SHIPPED)
    assert 'find_order({"number": "4711"})' in talked.stderr
    assert "Monday" in talked.stderr


def test_a_terminal_names_version_tenant_and_what_is_wrong(team: Product, llm: ChatServer) -> None:
    team.ask("PATCH", "agents/front/", {"instructions": "You are the draft."})
    llm.say(*words("I am only a draft."))
    drafted = team.avb("chat", "front", "--version", "draft", "--tenant", "demo", written="Who are you?\n")
    assert (drafted.returncode, drafted.stdout.strip()) == (0, "I am only a draft."), drafted.stderr
    assert llm.requests[-1]["messages"][0]["content"].startswith("You are the draft.")
    lent = [key for key in team.ask("GET", "keys/")["results"] if key["name"].startswith("./avb chat")]
    assert lent
    assert {key["status"] for key in lent} == {"revoked"}
    missing = team.avb("chat", "nobody", written="Hi\n")
    assert missing.returncode == 1
    assert "There is no agent 'nobody'" in missing.stderr
    wrong = team.avb("chat", "front", "--var", "call.id=1", written="")
    assert wrong.returncode == 2
    assert "caller.name=value" in wrong.stderr
