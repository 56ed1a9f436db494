"""Adapters and their connections: kept while they are used, one set for each provider as it is configured."""

import asyncio
from contextlib import nullcontext, suppress
from dataclasses import replace

import pytest

from agents.egress.config import EgressConfig
from agents.llm.pool import Pool
from agents.llm.providers import Provider
from agents.llm.types import LlmError
from tests.llm.models import provider, read, words
from tests.llm.server import ChatServer


def make(**fields: str) -> Provider:
    return Provider(fields.pop("name", "one"), "openai", credentials=(("api_key", fields.pop("key", "k")),), model="m")


async def test_connections_are_kept_for_who_asks_again() -> None:
    """A server that keeps them alive: two answers and a refusal, one connection."""
    connections, statuses = 0, [200, 500, 200]

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        body = b'data: {"choices":[{"delta":{"content":"Hi"},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'
        with suppress(asyncio.IncompleteReadError):
            while head := (await reader.readuntil(b"\r\n\r\n")).lower():
                await reader.readexactly(int(head.split(b"content-length:")[1].split(b"\r\n")[0]))
                status = statuses.pop(0)
                writer.write(b"HTTP/1.1 %d X\r\nContent-Length: %d\r\n\r\n%s" % (status, len(body), body))
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
        pool, one = Pool(EgressConfig()), Provider("one", "openai_compatible", url, model="m")
        for status in statuses.copy():
            async with pool.lend(one, "") as adapter:
                with nullcontext() if status == 200 else pytest.raises(LlmError):
                    await read(adapter)
        assert (connections, len(pool)) == (1, 1)
        await pool.aclose()


async def test_a_connection_that_was_closed_meanwhile_costs_nobody_an_answer() -> None:
    """As llama.cpp does it: the answer says that the connection stays, and then it is closed after all."""
    connections = answers = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections, answers
        connections += 1
        body = b'data: {"choices":[{"delta":{"content":"Hi"},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        await reader.readexactly(int(head.split(b"content-length:")[1].split(b"\r\n")[0]))
        answers += 1
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
        with suppress(asyncio.IncompleteReadError):
            await reader.readuntil(b"\r\n\r\n")  # the next request comes, and is not answered any more
        writer.transport.abort()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
        pool, one = Pool(EgressConfig()), Provider("one", "openai_compatible", url, model="m")
        for _ in range(3):
            async with pool.lend(one, "") as adapter:
                assert words(await read(adapter)) == "Hi"
        assert (connections, answers) == (3, 3)
        await pool.aclose()


async def test_one_provider_has_one_set_and_an_adapter_for_each_model() -> None:
    pool = Pool(EgressConfig())
    async with pool.lend(make(), "m") as first, pool.lend(make(), "m") as second, pool.lend(make(), "n") as third:
        assert first is second
        assert first.client is third.client
        assert (first.model, third.model, len(pool)) == ("m", "n", 1)
    await pool.aclose()


async def test_changed_credentials_are_another_set() -> None:
    pool = Pool(EgressConfig())
    async with pool.lend(make(), "m") as before, pool.lend(make(key="new"), "m") as after:
        assert before.client is not after.client
    await pool.aclose()


async def test_of_those_that_nobody_uses_only_so_many_are_kept() -> None:
    pool = Pool(EgressConfig(), providers=2)
    async with pool.lend(make(name="used"), "m") as used:
        for name in ("a", "b", "c"):
            async with pool.lend(make(name=name), "m") as last:
                pass
        assert len(pool) == 2
        assert not used.client.is_closed
        assert not last.client.is_closed
    assert len(pool) == 2
    await pool.aclose()
    assert used.client.is_closed
    assert len(pool) == 0


async def test_who_was_idle_for_too_long_is_closed() -> None:
    pool = Pool(EgressConfig(), idle_s=0.2)
    await pool.start()
    async with pool.lend(make(), "m") as adapter:
        await asyncio.sleep(0.4)
        assert not adapter.client.is_closed
    await asyncio.sleep(1.0)
    assert adapter.client.is_closed
    await pool.aclose()


async def test_only_where_a_tenant_chose_the_address_the_guard_asks() -> None:
    pool = Pool(EgressConfig())
    async with ChatServer() as server:
        own = provider("own", server)
        async with (
            pool.lend(own, "m") as platforms,
            pool.lend(replace(own, tenant="alpha"), "m") as tenants,
            pool.lend(replace(make(), tenant="alpha"), "m") as fixed,
        ):
            kinds = [type(adapter.client).__name__ for adapter in (platforms, tenants, fixed)]
        assert kinds == ["AsyncClient", "EgressClient", "AsyncClient"]
    await pool.aclose()
