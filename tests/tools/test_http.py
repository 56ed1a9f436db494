"""HTTP tools against a real server on loopback: what is sent, what is read, and what no argument can do."""

import asyncio
import base64
import json
import threading
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest

from agents.egress.client import EgressClient, open_client
from agents.egress.config import EgressConfig
from agents.tools import http
from agents.tools.credentials import ApiKey, BasicLogin, BearerToken, Credential, Tokens
from agents.tools.http import (
    HttpToolInvalid,
    RequestRefused,
    origin_of,
    prepare,
    read_http_tool,
    run_http,
    variables_of,
)
from agents.tools.outcome import Outcome
from agents.tools.types import RECEIPT_CHARACTERS, ToolContext
from tenants.keys.networks import read_network
from tests.tools.servers import HttpServer, http_server, reply

CONTEXT = ToolContext(
    tenant="alpha", session_id="sess_1", call_id="call_1", agent="desk", agent_version=3,
    values={"caller.name": "Ann Müller", "caller.tier": "gold"},
)  # fmt: skip
JSON = {"Content_Type": "application/json"}


@pytest.fixture
async def server() -> AsyncIterator[HttpServer]:
    async with http_server() as found:
        yield found


@pytest.fixture
async def client() -> AsyncIterator[EgressClient]:
    async with open_client(EgressConfig(private_networks=(read_network("127.0.0.0/8"),))) as found:
        yield found


async def run(
    client: EgressClient,
    request: dict[str, Any],
    arguments: dict[str, Any] | None = None,
    *,
    response: dict[str, Any] | None = None,
    credential: Credential | None = None,
    context: ToolContext = CONTEXT,
    timeout_s: float = 5.0,
) -> Outcome:
    tool = read_http_tool(request, response, credential=credential)
    return await run_http(tool, arguments or {}, context, client, Tokens(), timeout_s)


async def test_a_request_is_filled_and_its_answer_is_read(server: HttpServer, client: EgressClient) -> None:
    path = "/orders/A%2F7%20%C3%BC?state=open&tag=a&tag=b%26c&n=3"
    server.answers[path] = reply(200, b'{"order": {"status": "sent", "items": [{"n": 1}, {"n": 2}]}}', **JSON)
    request = {
        "method": "POST",
        "url": f"{server.url}/orders/{{{{arguments.id}}}}",
        "query": {
            "state": "{{arguments.state}}", "tag": "{{arguments.tags}}", "n": "{{arguments.n}}",
            "no": "{{arguments.missing}}",
        },
        "headers": {"X-Caller": "{{caller.name}}", "X-Missing": "{{caller.unknown}}"},
        "body": {
            "n": "{{arguments.n}}", "yes": "{{arguments.yes}}", "note": "for {{caller.name}}, {{arguments.n}} pieces",
            "nested": [{"tags": "{{arguments.tags}}"}, "{{arguments.missing}}"], "gone": "{{arguments.missing}}",
            "null": "{{arguments.nothing}}", "fixed": 1.5,
        },
    }  # fmt: skip
    arguments = {"id": "A/7 ü", "state": "open", "tags": ["a", "b&c"], "n": 3, "yes": True, "nothing": None}
    answer = await run(client, request, arguments, response={"select": "$.order", "fields": {"status": "$.status"}})
    assert answer.error is None
    assert json.loads(answer.output) == {"status": "sent"}
    (asked,) = server.asked
    assert (asked.method, asked.path) == ("POST", path)
    assert asked.headers["x-caller"] == "Ann Müller"
    assert "x-missing" not in asked.headers
    assert asked.headers["content-type"] == "application/json"
    assert json.loads(asked.body) == {
        "n": 3, "yes": True, "note": "for Ann Müller, 3 pieces", "nested": [{"tags": ["a", "b&c"]}], "null": None,
        "fixed": 1.5,
    }  # fmt: skip
    assert answer.sent["url"] == server.url + path
    assert answer.answered["status"] == 200
    assert answer.healthy is True


@pytest.mark.parametrize(
    "value",
    ["..", ".", "", "../admin", "..\\admin", "a/../b", "x/..", "\n", "a\r\nHost: evil", "\0"],
)
def test_a_value_stays_inside_its_segment(value: str) -> None:
    template = read_http_tool({"method": "GET", "url": "https://api.example/v1/orders/{{arguments.id}}/items"}).request
    with pytest.raises(RequestRefused, match="no name of one thing"):
        prepare(template, {"id": value}, {})


@pytest.mark.parametrize(
    "value", ["{{caller.name}}", "a?admin=1", "a#b", "@evil.example/", "//evil.example", "%2e%2e", "ü"]
)
def test_no_value_changes_where_a_request_goes(value: str) -> None:
    request = {
        "method": "POST", "url": "https://api.example:8443/v1/{{arguments.id}}", "query": {"q": "{{arguments.id}}"},
        "headers": {"X-Id": "{{arguments.id}}"}, "body": {"id": "{{arguments.id}}"},
    }  # fmt: skip
    made = prepare(read_http_tool(request).request, {"id": value}, {"caller.name": "Ann"})
    assert origin_of(made.url) == "https://api.example:8443"
    path, _, query = made.url.removeprefix("https://api.example:8443/v1/").partition("?")
    assert not set(path) & set("/?#@{")
    assert query.count("=") == 1
    assert json.loads(made.body or b"") == {"id": value}, "what is put in is not read as a template"


@pytest.mark.parametrize("value", ["a\r\nX-Admin: 1", "a\nb", "a\0", "x" * 4_001])
def test_a_header_stays_one_line(value: str) -> None:
    request = {"method": "GET", "url": "https://api.example/", "headers": {"X-Id": "{{arguments.id}}"}}
    with pytest.raises(RequestRefused, match="X-Id"):
        prepare(read_http_tool(request).request, {"id": value}, {})


def test_what_a_path_needs_must_be_there() -> None:
    template = read_http_tool({"method": "GET", "url": "https://api.example/{{arguments.id}}/{{caller.id}}"}).request
    with pytest.raises(RequestRefused, match=r"arguments\.id is needed"):
        prepare(template, {"id": None}, {"caller.id": "7"})
    with pytest.raises(RequestRefused, match=r"caller\.id is needed"):
        prepare(template, {"id": "7"}, {})


@pytest.mark.parametrize(
    "arguments",
    [{"text": "x" * 300_000}, {"text": "\ud800"}, {"text": float("nan")}],
)
async def test_arguments_that_make_no_request_are_refused(client: EgressClient, arguments: dict[str, Any]) -> None:
    body = {"method": "POST", "url": "https://api.example/", "body": {"text": "{{arguments.text}}"}}
    answer = await run(client, body, arguments)
    assert answer.outcome == "refused"
    assert answer.error is not None
    assert answer.healthy is None


BAD: list[tuple[dict[str, Any], str]] = [
    ({"url": "https://{{arguments.host}}/x"}, "request.url"),
    ({"url": "{{arguments.url}}"}, "request.url"),
    ({"url": "https://api.example{{arguments.id}}"}, "request.url"),
    ({"url": "https://api.example:{{arguments.id}}/"}, "request.url"),
    ({"url": "https://user:secret@api.example/"}, "request.url"),
    ({"url": "https://api.example@evil.example/"}, "request.url"),
    ({"url": "ftp://api.example/"}, "request.url"),
    ({"url": "file:///etc/passwd"}, "request.url"),
    ({"url": "https:///x"}, "request.url"),
    ({"url": "https://api.example:99999/"}, "request.url"),
    ({"url": "https://api.example/x?a=1"}, "request.url"),
    ({"url": "https://api.example/x#a"}, "request.url"),
    ({"url": "https://api.example\\evil/"}, "request.url"),
    ({"url": "https://api.example/ x"}, "request.url"),
    ({"url": "https://api.example/" + "x" * 2_000}, "request.url"),
    ({"url": "https://api.example/{{arguments.id | upper}}"}, "request.url"),
    ({"url": "https://api.example/{{ arguments.__class__() }}"}, "request.url"),
    ({"url": "https://api.example/{% for x in y %}"}, "request.url"),
    ({"body": {"a": "{{ 7 * 7 }}"}}, "request.body"),
    ({"query": {"{{arguments.id}}": "a"}}, "request.query"),
    ({"query": {"a": "{{arguments.other}}"}}, "request.query"),
    ({"headers": {"Host": "evil.example"}}, "request.headers.Host"),
    ({"headers": {"Authorization": "Bearer x"}}, "request.headers.Authorization"),
    ({"headers": {"X-Id": "a\r\nHost: evil"}}, "request.headers.X-Id"),
    ({"headers": {"X Id": "a"}}, "request.headers.X Id"),
    ({"headers": {"X-Id": 5}}, "request.headers[...]"),
    ({"method": "TRACE"}, "request.method"),
    ({"method": "GET", "body": {}}, "request.body"),
    ({"body": "x" * 40_000}, "request.body"),
    ({"surprise": 1}, "request"),
]


@pytest.mark.parametrize(("change", "param"), BAD, ids=lambda value: str(value)[:60])
def test_a_template_that_could_be_turned_is_refused(change: dict[str, Any], param: str) -> None:
    good = {"method": "POST", "url": "https://api.example/{{arguments.id}}"}
    parameters = {"type": "object", "properties": {"id": {"type": "string"}}, "required": ["id"]}
    read_http_tool(good, parameters=parameters)
    with pytest.raises(HttpToolInvalid) as refused:
        read_http_tool(good | change, parameters=parameters)
    assert refused.value.param == param
    assert refused.value.message


def test_an_address_needs_what_it_requires() -> None:
    parameters = {"type": "object", "properties": {"id": {"type": "string"}}}
    with pytest.raises(HttpToolInvalid, match=r"parameters\.required"):
        read_http_tool({"method": "GET", "url": "https://api.example/{{arguments.id}}"}, parameters=parameters)


def test_a_request_tells_its_variables() -> None:
    request = {
        "method": "GET",
        "url": "https://a.example/{{caller.id}}",
        "query": {"a": ["{{agent.slug}}", "{{arguments.x}}"]},
    }
    assert variables_of(request) == {"caller.id", "agent.slug"}


@pytest.mark.parametrize(
    ("answer", "message", "healthy"),
    [
        (reply(404, b'{"detail": "no order 7"}', **JSON), '404 Not Found: {"detail": "no order 7"}', True),
        (reply(422, b"state must be open or closed", Content_Type="text/plain"), "state must be open", True),
        (reply(401, b"key sk_live_1 is wrong", Content_Type="text/plain"), "does not accept our credential", True),
        (reply(429, b"", Retry_After="12"), "try again in 12 s", True),
        (reply(302, b"", Location="http://169.254.169.254/latest/meta-data/"), "redirects are not followed", True),
        (reply(500, b"Traceback: password=hunter2", Content_Type="text/plain"), "500 Internal Server Error.", False),
        (reply(400, b"\x89PNG", Content_Type="image/png"), "400 Bad Request.", True),
    ],
)
async def test_errors_tell_the_model_what_it_can_use(
    server: HttpServer, client: EgressClient, answer: bytes, message: str, healthy: bool
) -> None:
    server.answers["/x"] = answer
    said = await run(client, {"method": "GET", "url": f"{server.url}/x"})
    assert said.error is not None
    assert said.error.type == "http_error"
    assert said.error.code == int(answer.split()[1])
    assert message in said.error.message
    assert "sk_live" not in said.error.message
    assert "hunter2" not in said.error.message
    assert (said.outcome, said.healthy) == ("failed", healthy)
    assert len(server.asked) == 1


async def test_a_long_error_is_cut(server: HttpServer, client: EgressClient) -> None:
    server.answers["/x"] = reply(400, b"x" * 100_000, Content_Type="text/plain")
    said = await run(client, {"method": "GET", "url": f"{server.url}/x"})
    assert said.error is not None
    assert len(said.error.message) < 600
    assert len(json.dumps([said.sent, said.answered])) < RECEIPT_CHARACTERS


SECRET = "s3cr3t/äöü+value=="
LOGIN = f"ann:{SECRET}".encode()


@pytest.mark.parametrize(
    ("credential", "header", "expected"),
    [
        (ApiKey("k", "X-Api-Key", "abcd-secret"), "x-api-key", "abcd-secret"),
        (ApiKey("k", "Authorization", "abcd-secret", prefix="Token "), "authorization", "Token abcd-secret"),
        (BearerToken("k", "abcd-secret"), "authorization", "Bearer abcd-secret"),
        (
            BasicLogin("k", "ann", SECRET),
            "authorization",
            "Basic " + base64.b64encode(f"ann:{SECRET}".encode()).decode(),
        ),
    ],
)
async def test_a_credential_is_sent_and_never_shown(
    server: HttpServer, client: EgressClient, credential: Credential, header: str, expected: str
) -> None:
    async def echo(asked: Any, writer: asyncio.StreamWriter) -> None:
        writer.write(reply(200, json.dumps([asked.headers, SECRET, "abcd-secret"]).encode(), **JSON))

    server.answers["/x"] = echo
    said = await run(client, {"method": "GET", "url": f"{server.url}/x"}, credential=credential)
    assert server.asked[0].headers[header] == expected
    shown = json.dumps([said.output, said.sent, said.answered], ensure_ascii=False) + repr(said) + repr(credential)
    assert said.sent["credential"] == "k"
    assert expected not in shown
    assert expected.rpartition(" ")[2] not in shown
    assert "•••" in said.output
    assert "secret" not in repr(credential)


async def test_a_key_in_the_query_is_not_shown(server: HttpServer, client: EgressClient) -> None:
    credential = ApiKey("k", "api_key", "abcd secret+1", place="query")

    async def echo(asked: Any, writer: asyncio.StreamWriter) -> None:
        writer.write(reply(400, asked.path.encode(), Content_Type="text/plain"))

    server.answers["/x?a=1&api_key=abcd+secret%2B1"] = echo
    request = {"method": "GET", "url": f"{server.url}/x", "query": {"a": "1"}}
    said = await run(client, request, credential=credential)
    assert server.asked[0].path == "/x?a=1&api_key=abcd+secret%2B1"
    assert said.error is not None
    assert "secret" not in json.dumps([said.error.message, said.sent, said.answered])
    assert said.sent["url"].endswith("/x?a=1")


async def test_a_slow_service_is_not_waited_for(server: HttpServer, client: EgressClient) -> None:
    async def stall(asked: Any, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(30)

    server.answers["/x"] = stall
    said = await run(client, {"method": "GET", "url": f"{server.url}/x"}, timeout_s=0.2)
    assert (said.outcome, said.healthy) == ("timeout", False)
    assert said.sent["url"].endswith("/x")


@pytest.mark.parametrize(
    "url",
    ["http://127.0.0.1:{port}/", "http://localhost:{port}/", "http://[::1]:{port}/", "http://2130706433:{port}/",
     "https://169.254.169.254/latest/meta-data/", "http://0x7f.1:{port}/", "https://10.0.0.1/"],
)  # fmt: skip
async def test_our_own_network_is_not_asked(server: HttpServer, url: str) -> None:
    async with open_client(EgressConfig(http=True)) as guarded:
        said = await run(guarded, {"method": "GET", "url": url.format(port=server.port)})
    assert said.outcome == "refused"
    assert said.error is not None
    assert said.error.message == "The service's address may not be asked."
    assert "refused" in said.answered
    assert server.asked == []
    assert said.healthy is None


async def test_a_service_that_is_not_there_is_unhealthy(client: EgressClient, free_port: Any) -> None:
    said = await run(client, {"method": "GET", "url": f"http://127.0.0.1:{free_port()}/"})
    assert (said.outcome, said.healthy) == ("failed", False)


async def test_cancelling_is_no_answer(server: HttpServer, client: EgressClient) -> None:
    asked = asyncio.Event()

    async def stall(_: Any, writer: asyncio.StreamWriter) -> None:
        asked.set()
        await asyncio.sleep(30)

    server.answers["/x"] = stall
    task = asyncio.create_task(run(client, {"method": "GET", "url": f"{server.url}/x"}))
    await asked.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_two_tenants_values_do_not_meet(server: HttpServer, client: EgressClient) -> None:
    server.answers |= {f"/{name}": reply(200, name.encode(), Content_Type="text/plain") for name in ("alpha", "beta")}
    request = {"method": "GET", "url": f"{server.url}/{{{{caller.house}}}}"}
    contexts = [replace(CONTEXT, tenant=name, values={"caller.house": name}) for name in ("alpha", "beta") * 5]
    answers = await asyncio.gather(*(run(client, request, context=context) for context in contexts))
    assert [answer.output for answer in answers] == ["alpha", "beta"] * 5


async def test_an_answer_that_is_much_to_map_holds_up_nobody(
    server: HttpServer, client: EgressClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows: Any = [{"a": [number, number + 1], "b": {"c": number}} for number in range(300)]
    for _ in range(25):
        rows = [rows]
    body = json.dumps(rows).encode()
    assert len(body) < http.LOOP_BYTES, "it is small enough to be begun with on the event loop"
    server.answers["/"] = reply(200, body, **JSON)
    request = {"method": "GET", "url": f"{server.url}/"}
    mapping = {"select": "$..*", "fields": {f"f{number}": "$..[?@.zz]" for number in range(32)}}
    on_loop: list[float] = []
    read = http._read

    def watch(*arguments: Any) -> Any:
        began = time.thread_time()
        try:
            return read(*arguments)
        finally:
            if threading.current_thread() is threading.main_thread():
                on_loop.append(time.thread_time() - began)

    monkeypatch.setattr(http, "_read", watch)
    monkeypatch.setattr(http, "MAP_S", 0.05)
    outcome = await run(client, request, response=mapping)
    assert outcome.error is not None
    assert (outcome.error.message, outcome.healthy) == ("The answer is too large for its mapping.", True)
    assert outcome.sent["url"] == f"{server.url}/"
    assert max(on_loop) < 0.1, "it would be seconds"


async def test_what_one_request_is_filled_with_is_bounded_before_it_is_built() -> None:
    request = {"method": "POST", "url": "https://a.example/", "body": ["{{arguments}}"] * 1_800}
    template = read_http_tool(request).request
    began = time.thread_time()
    with pytest.raises(RequestRefused, match="too long for this request"):
        prepare(template, {"x": "y" * 60_000}, {})
    assert time.thread_time() - began < 0.2
    prepare(template, {"x": 1}, {})
