"""Amazon Bedrock: what is asked and how it is signed, what comes back in real frames, and how it goes wrong."""

import asyncio
import base64
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from agents.llm.bedrock import Bedrock
from agents.llm.providers import Provider
from agents.llm.types import Finished, Image, LlmError, Message, Request, TextDelta, ToolCall, ToolCallDelta
from tests.llm.models import ASK, TOOL, read
from tests.llm.server import CUT, ConverseServer, frame

MODEL = "eu.anthropic.claude-haiku-4-5-v1:0"
WHO = {"provider": "bedrock", "model": MODEL}
KEYS = (("region", "eu-central-1"), ("access_key_id", "AKIDEXAMPLE"), ("secret_access_key", "of-the-tests"))
STARTED = ("messageStart", {"role": "assistant"})
USAGE = {"inputTokens": 9, "outputTokens": 3, "totalTokens": 18, "cacheReadInputTokens": 4, "cacheWriteInputTokens": 2}
COUNTS = ("metadata", {"usage": USAGE, "metrics": {"latencyMs": 10}})


def text(words: str) -> tuple[str, Any]:
    return "contentBlockDelta", {"contentBlockIndex": 0, "delta": {"text": words}}


def tool(index: int, call_id: str, name: str, *pieces: str) -> list[tuple[str, Any]]:
    started = {"toolUse": {"toolUseId": call_id, "name": name}}
    deltas = [
        ("contentBlockDelta", {"contentBlockIndex": index, "delta": {"toolUse": {"input": piece}}}) for piece in pieces
    ]
    return [("contentBlockStart", {"contentBlockIndex": index, "start": started}), *deltas]


def stopped(reason: str = "end_turn") -> tuple[str, Any]:
    return "messageStop", {"stopReason": reason}


def connect(server: ConverseServer, *credentials: tuple[str, str], **fields: Any) -> Bedrock:
    return Bedrock(Provider("bedrock", "bedrock", server.origin, credentials or KEYS, **fields), MODEL)


async def test_words_and_counts_come_back() -> None:
    async with ConverseServer() as server:
        server.events = [STARTED, text("Hi "), text("there."), stopped(), COUNTS]
        deltas = await read(connect(server), replace(ASK, max_tokens=50))
        assert deltas == [TextDelta("Hi "), TextDelta("there."), Finished("stop", 15, 3, 4, **WHO)]
        [asked] = server.requests
        assert asked["path"] == "/model/eu.anthropic.claude-haiku-4-5-v1%3A0/converse-stream"
        assert asked["system"] == [{"text": "Be brief."}]
        assert asked["messages"] == [{"role": "user", "content": [{"text": "Hi"}]}]
        assert asked["inferenceConfig"] == {"maxTokens": 50, "temperature": 0.3}
        assert "toolConfig" not in asked


async def test_frames_that_come_in_pieces_are_put_together() -> None:
    async with ConverseServer() as server:
        whole = b"".join(server.encode(event) for event in [STARTED, text("Hi"), stopped(), COUNTS])
        server.events = [("", whole[place : place + 7]) for place in range(0, len(whole), 7)]
        assert (await read(connect(server)))[0] == TextDelta("Hi")


async def test_the_request_is_signed_as_aws_checks_it() -> None:
    async with ConverseServer() as server:
        server.events = [STARTED, text("Hi"), stopped(), COUNTS]
        await read(connect(server, *KEYS, ("session_token", "token-of-the-tests")))
        head, body = server.headers[0], server.bodies[0]
        sent = dict(line.split(": ", 1) for line in head.split("\r\n")[1:] if ": " in line)
        assert sent["x-amz-security-token"] == "token-of-the-tests"
        # The same request by botocore's own rules, at the moment that it says.
        url = f"{server.origin}{server.requests[0]['path']}"
        signer = SigV4Auth(Credentials("AKIDEXAMPLE", "of-the-tests", "token-of-the-tests"), "bedrock", "eu-central-1")
        again = AWSRequest("POST", url, headers={"Content-Type": "application/json"}, data=body)
        again.headers["X-Amz-Date"] = sent["x-amz-date"].upper()
        again.headers["X-Amz-Security-Token"] = "token-of-the-tests"
        again.context["timestamp"] = sent["x-amz-date"].upper()
        signature = signer.signature(signer.string_to_sign(again, signer.canonical_request(again)), again)
        assert sent["authorization"].endswith(f"signature={signature}")


async def test_an_api_key_needs_no_signature() -> None:
    async with ConverseServer() as server:
        server.events = [STARTED, text("Hi"), stopped(), COUNTS]
        await read(connect(server, ("region", "eu-central-1"), ("api_key", "bedrock-key")))
        assert "authorization: bearer bedrock-key" in server.headers[0]


async def test_awss_own_chain_is_asked_off_the_loop(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "credentials").write_text(
        "[voice]\naws_access_key_id = AKIDFILE\naws_secret_access_key = of-the-file\n"
    )
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_PROFILE", "voice")
    threads = []
    find = Bedrock._find_credentials

    def noted(self: Bedrock) -> Any:
        threads.append(threading.current_thread())
        return find(self)

    monkeypatch.setattr(Bedrock, "_find_credentials", noted)
    async with ConverseServer() as server:
        server.events = [STARTED, text("Hi"), stopped(), COUNTS]
        model = connect(server, ("region", "eu-central-1"))
        await asyncio.gather(*[read(model) for _ in range(3)])
        assert "credential=akidfile/" in server.headers[0]
        # Once for all of them.
        assert len(threads) == 1
        assert threads[0] is not threading.main_thread()


async def test_a_tenant_never_gets_the_platforms_account(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDPLATFORM")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "of-the-platform")
    async with ConverseServer() as server:
        with pytest.raises(LlmError) as error:
            await read(connect(server, ("region", "eu-central-1"), tenant="alpha"))
        assert error.value.code == "llm_auth"
        assert server.requests == []


async def test_no_credentials_at_all_are_an_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    async with ConverseServer() as server:
        with pytest.raises(LlmError) as error:
            await read(connect(server, ("region", "eu-central-1")))
        assert (error.value.code, error.value.message) == ("llm_auth", "AWS's own chain finds no credentials.")


@pytest.mark.parametrize("region", ["", "eu-central-1.evil.example/", "Frankfurt"])
def test_a_region_is_part_of_an_address_and_so_it_is_checked(region: str) -> None:
    with pytest.raises(LlmError):
        Bedrock(Provider("bedrock", "bedrock", "", (("region", region),)), MODEL)


async def test_tools_go_out_and_two_calls_come_back() -> None:
    async with ConverseServer() as server:
        calls = [*tool(0, "tooluse_1", "add", '{"a":', "1}"), *tool(1, "tooluse_2", "now")]
        server.events = [STARTED, *calls, stopped("tool_use"), COUNTS]
        request = replace(ASK, tools=(TOOL | {"description": "Adds."}, {"type": "function", "name": "now"}))
        assert await read(connect(server), request) == [
            ToolCallDelta(0, "", "tooluse_1", "add"),
            ToolCallDelta(0, '{"a":'),
            ToolCallDelta(0, "1}"),
            ToolCallDelta(1, "", "tooluse_2", "now"),
            Finished("tool_calls", 15, 3, 4, **WHO),
        ]
        add, now = (each["toolSpec"] for each in server.requests[0]["toolConfig"]["tools"])
        assert add == {"name": "add", "description": "Adds.", "inputSchema": {"json": {"type": "object"}}}
        assert now == {"name": "now", "inputSchema": {"json": {"type": "object", "properties": {}}}}
        assert "toolChoice" not in server.requests[0]["toolConfig"]


@pytest.mark.parametrize(("choice", "sent"), [("required", {"any": {}}), ("add", {"tool": {"name": "add"}})])
async def test_which_tool_to_call(choice: str, sent: dict[str, Any]) -> None:
    async with ConverseServer() as server:
        server.events = [STARTED, text("Hi"), stopped(), COUNTS]
        await read(connect(server), replace(ASK, tools=(TOOL,), tool_choice=choice))
        assert server.requests[0]["toolConfig"]["toolChoice"] == sent
        await read(connect(server), replace(ASK, tools=(TOOL,), tool_choice="none"))
        assert "toolConfig" not in server.requests[1]


async def test_a_conversation_is_brought_into_the_form_that_it_wants() -> None:
    dot = base64.b64encode(b"dot").decode()
    seen = (Image(f"data:image/jpeg;base64,{dot}"), Image("https://a.example/b.png"))
    messages = (
        Message("user", "What is this?", images=seen),
        Message("assistant", "", tool_calls=(ToolCall("call.1", "look", "{"),)),
        Message("tool", "", tool_call_id="call.1"),
    )
    async with ConverseServer() as server:
        server.events = [STARTED, text("A dot."), stopped(), COUNTS]
        await read(connect(server), Request(messages))
        question, call, answer = server.requests[0]["messages"]
        assert question["content"] == [
            {"text": "What is this?"},
            {"image": {"format": "jpeg", "source": {"bytes": dot}}},
            {"text": "[an image that you cannot see]"},
        ]
        assert call["content"] == [
            {"toolUse": {"toolUseId": "call_1", "name": "look", "input": {"malformed_arguments": "{"}}}
        ]
        assert answer == {
            "role": "user",
            "content": [{"toolResult": {"toolUseId": "call_1", "content": [{"text": " "}]}}],
        }
        # A conversation with calls wants their tools, even where none may be called any more.
        assert server.requests[0]["toolConfig"]["tools"][0]["toolSpec"]["name"] == "look"


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        ("throttlingException", "llm_rate_limited"), ("internalServerException", "llm_unavailable"),
        ("modelStreamErrorException", "llm_unavailable"), ("validationException", "llm_refused"),
        ("serviceUnavailableException", "llm_unavailable"),
    ],
)  # fmt: skip
async def test_an_exception_in_the_stream_has_a_code_and_quotes_nothing(kind: str, code: str) -> None:
    async with ConverseServer() as server:
        server.events = [STARTED, (kind, {"message": "You said Hi."})]
        with pytest.raises(LlmError) as error:
            await read(connect(server))
        assert error.value.code == code
        assert "You said" not in error.value.message


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (403, "llm_auth"),
        (429, "llm_rate_limited"),
        (424, "llm_unavailable"),
        (400, "llm_refused"),
        (503, "llm_unavailable"),
    ],
)
async def test_a_refusal_has_a_code(status: int, code: str) -> None:
    async with ConverseServer() as server:
        server.status = status
        with pytest.raises(LlmError) as error:
            await read(connect(server))
        assert error.value.code == code


BROKEN = frame({":message-type": "event", ":event-type": "contentBlockDelta"}, b"{}")[:-1] + b"\0"


@pytest.mark.parametrize(
    ("last", "code"),
    [(CUT, "llm_unavailable"), (STARTED, "llm_bad_response"), (("", BROKEN), "llm_bad_response"),
     (("", b"<html>no stream at all</html>"), "llm_bad_response")],
    ids=["cut", "no end", "wrong checksum", "no frames"],
)  # fmt: skip
async def test_an_answer_that_breaks_off_is_an_error(last: Any, code: str) -> None:
    async with ConverseServer() as server:
        server.events = [STARTED, text("We"), last]
        with pytest.raises(LlmError) as error:
            await read(connect(server))
        assert error.value.code == code


async def test_an_answer_without_its_counts_is_one() -> None:
    async with ConverseServer() as server:
        server.events = [STARTED, text("We"), stopped("max_tokens")]
        assert (await read(connect(server)))[-1] == Finished("length", **WHO)
