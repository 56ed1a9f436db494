"""Credentials against a real token endpoint on loopback."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from agents.egress.client import EgressClient, open_client
from agents.egress.config import EgressConfig
from agents.tools.credentials import (
    KEPT_TOKENS,
    MARGIN_S,
    TOKEN_S,
    ClientCredentials,
    CredentialFailed,
    SignedToken,
    Tokens,
    redact,
)
from agents.tools.http import read_http_tool, run_http
from agents.tools.outcome import Outcome
from agents.tools.types import ToolContext
from tenants.keys.networks import read_network
from tests.tools.servers import Asked, HttpServer, http_server, reply

CONTEXT = ToolContext(tenant="alpha", session_id="s", call_id="c", agent="desk", agent_version=1)
JSON = {"Content_Type": "application/json"}
SECRET = "cl:ient/secret+1"


class Clock:
    now = 1_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
async def server() -> AsyncIterator[HttpServer]:
    """Gives tokens t1, t2, … for 3600 s, and lets in whoever has the newest."""
    async with http_server() as found:
        issued: list[str] = []

        async def token(asked: Asked, writer: asyncio.StreamWriter) -> None:
            issued.append(f"token-{len(issued) + 1}")
            await asyncio.sleep(0.02)
            writer.write(reply(200, json.dumps({"access_token": issued[-1], "expires_in": 3600}).encode(), **JSON))

        async def api(asked: Asked, writer: asyncio.StreamWriter) -> None:
            good = asked.headers.get("authorization") == f"Bearer {issued[-1] if issued else ''}"
            writer.write(
                reply(200 if good else 401, asked.headers["authorization"].encode(), Content_Type="text/plain")
            )

        found.answers |= {"/token": token, "/api": api}
        yield found


@pytest.fixture
async def client() -> AsyncIterator[EgressClient]:
    async with open_client(EgressConfig(private_networks=(read_network("127.0.0.0/8"),))) as found:
        yield found


def credential_of(server: HttpServer, **fields: Any) -> ClientCredentials:
    return ClientCredentials(
        name="crm", token_url=f"{server.url}/token", client_id="us:er", client_secret=SECRET, **fields
    )


async def run(server: HttpServer, client: EgressClient, tokens: Tokens, credential: Any, **change: Any) -> Outcome:
    tool = read_http_tool({"method": "POST", "url": f"{server.url}/api", "body": {"a": 1}}, credential=credential)
    return await run_http(tool, {}, replace(CONTEXT, **change), client, tokens, 5.0)


def asked_of(server: HttpServer, path: str) -> list[Asked]:
    return [asked for asked in server.asked if asked.path == path]


async def test_many_calls_wait_for_one_token(server: HttpServer, client: EgressClient) -> None:
    tokens, credential = Tokens(), credential_of(server, scope="orders", audience="crm")
    answers = await asyncio.gather(*(run(server, client, tokens, credential) for _ in range(20)))
    # The server repeats the token, and still it is in no answer.
    assert [answer.output for answer in answers] == ["Bearer •••"] * 20
    (asked,) = asked_of(server, "/token")
    assert asked.body == b"grant_type=client_credentials&scope=orders&audience=crm"
    assert base64.b64decode(asked.headers["authorization"].removeprefix("Basic ")) == b"us%3Aer:cl%3Aient%2Fsecret%2B1"
    assert (await run(server, client, tokens, credential)).error is None
    assert len(asked_of(server, "/token")) == 1


async def test_the_secret_can_go_in_the_body(server: HttpServer, client: EgressClient) -> None:
    assert (await run(server, client, Tokens(), credential_of(server, authentication="body"))).error is None
    (asked,) = asked_of(server, "/token")
    assert b"client_id=us%3Aer&client_secret=cl%3Aient%2Fsecret%2B1" in asked.body
    assert "authorization" not in asked.headers


async def test_a_token_is_fetched_anew_shortly_before_it_ends(server: HttpServer, client: EgressClient) -> None:
    clock = Clock()
    tokens, credential = Tokens(clock), credential_of(server)
    await run(server, client, tokens, credential)
    clock.now += 3600 - MARGIN_S - 1
    await run(server, client, tokens, credential)
    assert len(asked_of(server, "/token")) == 1
    clock.now += 1
    assert (await run(server, client, tokens, credential)).error is None
    assert len(asked_of(server, "/token")) == 2


async def test_a_refused_token_is_fetched_anew_once(server: HttpServer, client: EgressClient) -> None:
    tokens, credential = Tokens(), credential_of(server)
    await run(server, client, tokens, credential)
    # Somebody else had a token issued: ours is refused from now on.
    await client.post(f"{server.url}/token")
    assert (await run(server, client, tokens, credential)).error is None
    assert len(asked_of(server, "/token")) == 3
    assert [json.loads(asked.body) for asked in asked_of(server, "/api")] == [{"a": 1}] * 3
    server.answers["/api"] = reply(401)
    refused = await run(server, client, tokens, credential)
    assert refused.error is not None
    assert refused.error.code == 401
    assert len(asked_of(server, "/api")) == 5, "once more, and no more"


async def test_two_tenants_never_share_a_token(server: HttpServer, client: EgressClient) -> None:
    tokens, credential = Tokens(), credential_of(server)
    await run(server, client, tokens, credential)
    await run(server, client, tokens, credential, tenant="beta")
    await run(server, client, tokens, replace(credential, client_secret="another"))
    assert len(asked_of(server, "/token")) == 3


@pytest.mark.parametrize(
    ("answer", "message", "healthy"),
    [
        (reply(401, b'{"error": "invalid_client", "error_description": "cl:ient/secret+1"}', **JSON),
         "answered 401 (invalid_client).", None),
        (reply(400, b"<html>", Content_Type="text/html"), "answered 400.", None),
        (reply(500, b"{}", **JSON), "answered 500.", False),
        (reply(302, b"", Location="https://evil.example/"), "answered 302.", None),
        (reply(200, b"nonsense", **JSON), "without a usable access_token", None),
        (reply(200, b'{"access_token": "a\\r\\nX-Admin: 1"}', **JSON), "without a usable access_token", None),
        (reply(200, b'{"access_token": "abc", "token_type": "mac"}', **JSON), "of another type than Bearer", None),
    ],
)  # fmt: skip
async def test_a_failure_says_what_failed(
    server: HttpServer, client: EgressClient, answer: bytes, message: str, healthy: bool | None
) -> None:
    server.answers["/token"] = answer
    failed = await run(server, client, Tokens(), credential_of(server))
    assert failed.error is not None
    assert message in failed.error.message
    assert "'crm'" in failed.error.message
    assert "secret" not in failed.error.message
    assert (failed.outcome, failed.healthy) == ("failed", healthy)
    assert asked_of(server, "/api") == []


async def test_a_token_endpoint_inside_our_network_is_not_asked(server: HttpServer, client: EgressClient) -> None:
    async with open_client(EgressConfig(http=True)) as guarded:
        with pytest.raises(CredentialFailed, match="cannot be asked"):
            await Tokens().token(credential_of(server), guarded, tenant="alpha")
    assert server.asked == []


async def test_a_token_without_an_end_is_kept_for_a_while(server: HttpServer, client: EgressClient) -> None:
    clock = Clock()
    tokens, credential = Tokens(clock), credential_of(server)
    server.answers["/token"] = reply(200, b'{"access_token": "abc", "expires_in": "soon"}', **JSON)
    for after_s, fetches in ((0, 1), (TOKEN_S - MARGIN_S - 1, 1), (1, 2)):
        clock.now += after_s
        assert await tokens.token(credential, client, tenant="alpha") == "abc"
        assert len(server.asked) == fetches


async def test_who_hangs_up_takes_the_token_from_nobody(server: HttpServer, client: EgressClient) -> None:
    tokens, credential = Tokens(), credential_of(server)
    first, second = (asyncio.create_task(tokens.token(credential, client, tenant="alpha")) for _ in range(2))
    await asyncio.sleep(0.005)
    first.cancel()
    assert await second == "token-1"
    assert len(server.asked) == 1


async def test_only_so_many_tokens_are_kept(server: HttpServer, client: EgressClient) -> None:
    tokens = Tokens()
    server.answers["/token"] = reply(200, b'{"access_token": "abc", "expires_in": 3600}', **JSON)
    for number in range(KEPT_TOKENS + 5):
        await tokens.token(credential_of(server, scope=str(number)), client, tenant="alpha")
    assert len(tokens._kept) == KEPT_TOKENS
    await tokens.token(credential_of(server, scope=str(KEPT_TOKENS)), client, tenant="alpha")
    assert len(server.asked) == KEPT_TOKENS + 5


def pem(key: Any) -> str:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


RSA = rsa.generate_private_key(public_exponent=65537, key_size=2048)
EC = ec.generate_private_key(ec.SECP256R1())
SHARED = "0123456789abcdef0123456789abcdef"


@pytest.mark.parametrize(
    ("algorithm", "key", "proof"),
    [("HS256", SHARED, SHARED), ("RS256", pem(RSA), RSA.public_key()), ("ES256", pem(EC), EC.public_key())],
)
async def test_each_call_is_signed(
    server: HttpServer, client: EgressClient, algorithm: Any, key: str, proof: Any
) -> None:
    server.answers["/api"] = reply(200, b"yes", Content_Type="text/plain")
    credential = SignedToken(
        "crm", algorithm, key, issuer="us", subject="desk", audience="crm", key_id="k1", lifetime_s=60,
        claims={"role": "reader"},
    )  # fmt: skip
    for _ in range(2):
        assert (await run(server, client, Tokens(), credential)).output == "yes"
    first, second = (asked.headers["authorization"].removeprefix("Bearer ") for asked in server.asked)
    claims = jwt.decode(first, proof, algorithms=[algorithm], audience="crm", issuer="us")
    assert claims["exp"] - claims["iat"] == 60
    assert (claims["sub"], claims["role"]) == ("desk", "reader")
    assert jwt.get_unverified_header(first)["kid"] == "k1"
    assert claims["jti"] != jwt.decode(second, proof, algorithms=[algorithm], audience="crm")["jti"]
    assert key not in repr(credential)


async def test_a_key_that_cannot_sign_says_so(server: HttpServer, client: EgressClient) -> None:
    failed = await run(server, client, Tokens(), SignedToken("crm", "RS256", "no key at all"))
    assert failed.error is not None
    assert failed.error.message == "The credential 'crm' cannot sign: its key is none for RS256."


def test_what_is_repeated_is_taken_out() -> None:
    assert redact('{"a": "x\\"y-secret"} x"y-secret', {'x"y-secret'}) == '{"a": "•••"} •••'
    assert redact("abc", {"abc"}) == "abc", "taking out so little would tell more than it hides"
