"""``avb chat``: talk to an agent in text, over the WebSocket that any client uses."""

import asyncio
import getpass
import json
import sys
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any
from urllib.parse import quote, urlsplit, urlunsplit

import click
import httpx2
import websockets

from agentvoicebox.cli.caller import CallFailed, with_query
from agentvoicebox.cli.tenant import operating
from agentvoicebox.stack.state import read_json, state_dir

GREETING_S = 0.8
"""How long an agent may take to begin its greeting."""
SETTLE_S = 0.1
"""After an answer: a colleague who takes over may go on at once."""
ASK_S = 5.0
KEY_LIFE = timedelta(hours=12)
SHOWN_CHARACTERS = 300


@click.command()
@click.argument("agent", required=False)
@click.option("--version", help="a version's number, or draft; without it the one that takes calls")
@click.option(
    "--var",
    "variables",
    multiple=True,
    metavar="NAME=VALUE",
    help="a variable of the agent's; NAME is caller.NAME where it has no NAME",
)
@click.option("--end-user", default="", help="whom the call is for, as usage, limits and privacy know them")
@click.option("--tenant", help="a tenant's slug: a key is made for this conversation and revoked after it")
@click.option("--key", help="API key; without it the demo key", envvar="AVB_API_KEY")
@click.option("--url", help="ws://… or wss://…/v1/realtime; without it the one that ./avb up started")
@click.option("--timeout", "timeout_s", default=60.0, show_default=True, help="seconds to wait for an answer")
def command(
    agent: str | None,
    version: str | None,
    variables: tuple[str, ...],
    end_user: str,
    tenant: str | None,
    key: str | None,
    url: str | None,
    timeout_s: float,
) -> None:
    """Talk to AGENT in text; without a name to the demo agent. Ctrl-D ends it.

    Tools and hand-offs are shown in dim lines. With a pipe as input every line is a turn, and every answer is one line
    on standard output; all else goes to standard error.
    """
    demo = read_json(state_dir() / "demo.json")
    url, agent = url or demo.get("realtime_url"), agent or demo.get("agent")
    if not (url and agent):
        raise click.ClickException("no demo is set up here: run ./avb up, or give AGENT and --url")
    slug, at, named = agent.removeprefix("agent:").partition("@")
    if at and version:
        raise click.BadParameter(f"{agent!r} names a version already", param_hint="--version")
    version = version or named
    read = _read_variables(variables)
    asked = {"model": f"agent:{slug}" + (f"@{version}" if version else "")}
    if end_user:
        asked["user"] = end_user
    lent: list[Any] = []
    if tenant and not key:
        _lend_key(tenant, lent)
        key = lent[1]
    key = key or demo.get("api_key")
    if not key:
        raise click.ClickException("no demo is set up here: give --key, or --tenant")
    screen = Screen(interactive=sys.stdin.isatty() and sys.stdout.isatty())
    try:
        asked |= name_variables(read, find_declared(url, key, slug, version) if read else None, slug)
        asyncio.run(_converse(with_query(url, asked), key, screen, timeout_s))
    except CallFailed as error:
        raise click.ClickException(str(error)) from error
    except KeyboardInterrupt:
        screen.end()
    finally:
        if lent:
            _take_key(lent[0])


def _read_variables(written: tuple[str, ...]) -> dict[str, str]:
    read = {}
    for each in written:
        name, equals, value = each.partition("=")
        if not equals or not name or name.startswith(("agent.", "call.")):
            raise click.BadParameter(f"{each!r}: write it as name=value or caller.name=value", param_hint="--var")
        read[name] = value
    return read


def find_declared(url: str, key: str, slug: str, version: str) -> list[str] | None:
    """The variables that this version of the agent declares; None where the server does not say. Blocks."""
    parts = urlsplit(url)
    path = f"{parts.path.removesuffix('/v1/realtime')}/api/v1/agents/{quote(slug, safe='')}/"
    root = urlunsplit(parts._replace(scheme=parts.scheme.replace("ws", "http", 1), path=path, query=""))

    def ask(address: str) -> dict[str, Any]:
        answer = httpx2.get(address, headers={"Authorization": f"Bearer {key}"}, timeout=ASK_S)
        return dict(answer.raise_for_status().json()["data"])

    try:
        found = ask(root)
        if version != "draft":
            found = ask(f"{root}versions/{quote(version or str(found['live']), safe='')}/")["definition"]
        return [variable["name"] for variable in found["variables"]]
    except (httpx2.HTTPError, httpx2.InvalidURL, ValueError, KeyError, TypeError):
        return None


def name_variables(read: dict[str, str], declared: list[str] | None, slug: str) -> dict[str, str]:
    """The variables as the address brings them. A name without a dot is the agent's own where it declares it, else the
    caller's; what it does not declare is warned of."""
    asked = {}
    for written, value in read.items():
        name = written if "." in written or written in (declared or ()) else f"caller.{written}"
        if declared is not None and name not in declared:
            there = f"there are {', '.join(declared)}" if declared else "it declares none"
            click.echo(f"warning: the agent {slug!r} has no variable {name!r}; {there}", err=True)
        asked[name if name.startswith("caller.") else f"variables.{name}"] = value
    return asked


@operating
def _lend_key(slug: str, lent: list[Any]) -> None:
    """Appends the key and its secret."""
    from django.utils import timezone

    from tenants.keys.operations import issue_key
    from tenants.lifecycle.queries import find_tenant
    from tenants.permissions import Scope

    name = f"./avb chat of {getpass.getuser()}"
    scopes = [Scope.REALTIME, Scope.AGENTS_READ]
    lent += issue_key(tenant=find_tenant(slug), name=name, scopes=scopes, expires_at=timezone.now() + KEY_LIFE)


@operating
def _take_key(key: Any) -> None:
    from tenants.keys.operations import revoke_key

    revoke_key(key=key)


class Screen:
    """What the person, or the script, sees."""

    def __init__(self, *, interactive: bool) -> None:
        self.interactive = interactive
        self._answer = ""

    def say(self, words: str) -> None:
        """More of the agent's answer."""
        words = _plain(words)
        if not words:
            return
        if self.interactive:
            click.echo(words if self._answer else click.style("agent  ", fg="green") + words, nl=False)
        self._answer += words

    def pause(self) -> None:
        """Between two things that the agent says in one answer."""
        if self._answer and not self._answer[-1].isspace():
            self.say(" ")

    def end(self, *, greeting: bool = False) -> None:
        """The answer is over. A greeting answers no line of a script."""
        if self.interactive and self._answer:
            click.echo()
        elif not self.interactive and (self._answer or not greeting):
            click.echo(" ".join(self._answer.split()), err=greeting)
        self._answer = ""

    def note(self, words: str) -> None:
        """Something that is not said."""
        if self.interactive and self._answer:
            click.echo()
            self._answer = ""
        words = _plain(words if len(words) <= SHOWN_CHARACTERS else f"{words[:SHOWN_CHARACTERS]} …")
        click.echo(click.style(f"  {words}", dim=True), err=not self.interactive)


def _plain(words: str) -> str:
    """Without the signs that a terminal would obey: models and tools repeat what others wrote."""
    return "".join(sign for sign in words if sign.isprintable() or sign in "\n\t")


class Chat:
    """One conversation. ``approves(tool)`` says whether a tool may run that wants to be allowed. ``over`` is set when
    the other side has hung up; ``fault`` says why, where that was one."""

    def __init__(
        self, socket: websockets.ClientConnection, screen: Screen, approves: Callable[[str], Awaitable[bool]]
    ) -> None:
        self._socket = socket
        self._approves = approves
        self._screen = screen
        self._changed = asyncio.Event()
        self._begun = False
        self._open: set[str] = set()
        self._owed: list[dict[str, Any]] = []
        self._answered = self._refused = 0
        self.over = asyncio.Event()
        self.fault = ""
        self._approvals: list[dict[str, Any]] = []
        self._session: dict[str, Any] = {}

    async def send(self, kind: str, **fields: Any) -> None:
        try:
            await self._socket.send(json.dumps({"type": kind, **fields}))
        except websockets.ConnectionClosed:
            self.over.set()

    async def add(self, item: dict[str, Any]) -> None:
        await self.send("conversation.item.create", item=item)

    async def hear_greeting(self, timeout_s: float) -> None:
        """If there is one."""
        try:
            await self._until(lambda: self._begun, GREETING_S)
        except CallFailed:
            return
        await self._until(self._quiet, timeout_s)
        self._screen.end(greeting=True)

    async def ask(self, words: str, timeout_s: float) -> None:
        """One turn, to the end of its answer. Raises CallFailed."""
        wanted, refused = self._answered + 1, self._refused
        content = [{"type": "input_text", "text": words}]
        await self.add({"type": "message", "role": "user", "content": content})
        await self.send("response.create")
        await self._until(lambda: self._refused > refused or (self._answered >= wanted and self._quiet()), timeout_s)
        while not self.over.is_set():
            while self._approvals:
                request = self._approvals.pop()
                approve = await self._approves(f"{request['server_label']}: {request['name']}({request['arguments']})")
                response = {"type": "mcp_approval_response", "approval_request_id": request["id"], "approve": approve}
                await self.add(response)
            await asyncio.sleep(SETTLE_S)
            if self._quiet() and not self._approvals:
                break
            await self._until(self._quiet, timeout_s)
        self._screen.end()

    def _quiet(self) -> bool:
        return not self._open and not self._owed

    async def _until(self, holds: Callable[[], bool], timeout_s: float) -> None:
        while not holds() and not self.over.is_set():
            self._changed.clear()
            try:
                async with asyncio.timeout(timeout_s):
                    await self._changed.wait()
            except TimeoutError:
                raise CallFailed(f"the server said nothing for {timeout_s:g} s") from None

    async def listen(self) -> None:
        try:
            async for frame in self._socket:
                await self._hear(json.loads(frame))
                self._changed.set()
            if self._socket.close_code not in (1000, 1001):
                self.fault = self.fault or f"{self._socket.close_code} {self._socket.close_reason}"
        except websockets.ConnectionClosedError as error:
            self.fault = self.fault or f"the other side hung up ({error.rcvd or 'without a word'})"
        finally:
            self.over.set()
            self._changed.set()

    async def _hear(self, event: dict[str, Any]) -> None:
        match event["type"]:
            case "session.created" | "session.updated":
                self._session = event["session"]
            case "error":
                self._refused += 1
                if self._session:
                    self._screen.note(f"error: {event['error']['message']}")
                else:
                    self.fault = str(event["error"]["message"])
            case "response.created":
                self._begun = True
                self._open.add(event["response"]["id"])
            case "response.output_item.added" if event["item"]["type"] == "message":
                self._screen.pause()
            case "response.output_text.delta" | "response.output_audio_transcript.delta":
                self._screen.say(event["delta"])
            case "conversation.item.done":
                self._show(event["item"])
            case "response.done":
                await self._finish(event["response"])

    def _show(self, item: dict[str, Any]) -> None:
        match item["type"]:
            case "mcp_call" if item["server_label"] == "hand_off":
                name = item["name"].removeprefix("hand_off_to_")
                told = f"could not be handed over to {name}: {item['error']['message']}" if item["error"] else ""
                self._screen.note(told or f"handed over to {name}")
            case "mcp_call":
                came = item["error"]["message"] if item["error"] else item["output"]
                self._screen.note(f"{item['server_label']}: {item['name']}({item['arguments']}) → {came}")
            case "function_call":
                self._screen.note(f"the agent asks its client: {item['name']}({item['arguments']})")
                self._owed.append(item)
            case "mcp_approval_request":
                self._approvals.append(item)

    async def _finish(self, response: dict[str, Any]) -> None:
        if response["status"] not in ("completed", "cancelled"):
            details = response["status_details"] or {}
            reason = (details.get("error") or {}).get("message") or details.get("reason") or ""
            self._screen.note(f"the answer ended as {response['status']}: {reason}")
        owed, self._owed = self._owed, []
        for call in owed:
            output = {"error": f"This client is a terminal: it cannot do {call['name']}."}
            await self.add({"type": "function_call_output", "call_id": call["call_id"], "output": json.dumps(output)})
        if owed:
            await self.send("response.create")
        else:
            self._answered += 1
        self._open.discard(response["id"])


@asynccontextmanager
async def _connect(
    url: str, key: str, screen: Screen, approves: Callable[[str], Awaitable[bool]]
) -> AsyncIterator[Chat]:
    """Raises CallFailed."""
    try:
        socket = await websockets.connect(url, additional_headers={"Authorization": f"Bearer {key}"}, max_size=None)
    except (OSError, websockets.WebSocketException) as error:
        raise CallFailed(f"{url.partition('?')[0]} cannot be reached: {error}") from error
    chat = Chat(socket, screen, approves)
    listening = asyncio.create_task(chat.listen())
    try:
        await chat.send("session.update", session={"type": "realtime", "output_modalities": ["text"]})
        yield chat
    finally:
        listening.cancel()
        await asyncio.gather(listening, return_exceptions=True)
        await socket.close()


async def _converse(url: str, key: str, screen: Screen, timeout_s: float) -> None:
    """Raises CallFailed."""
    lines = _read_lines()

    async def approves(tool: str) -> bool:
        if not screen.interactive:
            screen.note(f"not allowed, as nobody can be asked: {tool}")
            return False
        click.echo(f"\n       allow {_plain(tool)}? [y/N] ", nl=False)
        return (await lines.get() or "").strip().lower() in ("y", "yes")

    async with _connect(url, key, screen, approves) as chat:
        await chat.hear_greeting(timeout_s)
        while not chat.over.is_set():
            if screen.interactive:
                click.echo(click.style("you    ", fg="cyan"), nl=False)
            line = await _first(lines, chat.over)
            if line is None:
                break
            if line.strip():
                await chat.ask(line.strip(), timeout_s)
        if chat.fault:
            raise CallFailed(chat.fault)
        if chat.over.is_set():
            screen.note("the agent has ended the call")
        elif screen.interactive:
            click.echo()


def _read_lines() -> "asyncio.Queue[str | None]":
    """Standard input by lines, then None. A thread waits for them: it may be left behind in a read."""
    loop = asyncio.get_running_loop()
    lines: asyncio.Queue[str | None] = asyncio.Queue()

    def read() -> None:
        try:
            for line in sys.stdin:
                loop.call_soon_threadsafe(lines.put_nowait, line)
            loop.call_soon_threadsafe(lines.put_nowait, None)
        except RuntimeError:
            return  # the conversation is over, and its loop closed

    threading.Thread(target=read, daemon=True).start()
    return lines


async def _first(lines: "asyncio.Queue[str | None]", over: asyncio.Event) -> str | None:
    """The next line, or None when either side has had enough."""
    line, end = asyncio.create_task(lines.get()), asyncio.create_task(over.wait())
    try:
        await asyncio.wait({line, end}, return_when=asyncio.FIRST_COMPLETED)
        return line.result() if line.done() else None
    finally:
        line.cancel()
        end.cancel()
