"""One breaker for all gateways: what one process has found out, the other need not."""

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from agents.egress.breaker import RedisBreakers
from tests.llm.models import Chain, end
from tests.llm.server import ChatServer, chat

REPOSITORY = Path(__file__).parents[2]
OPEN_S = 2.0
OTHER_GATEWAY = """
import asyncio, json, sys
from agents.egress.breaker import RedisBreakers
from agents.egress.config import EgressConfig
from agents.llm.choice import Platform
from agents.llm.failover import Failover
from agents.llm.pool import Pool
from agents.llm.providers import ModelRef, Provider
from agents.llm.types import Finished, Message, Request

async def main(redis_url, open_s, *urls):
    chain = tuple(
        ModelRef(Provider(name, "openai_compatible", url, model="small"))
        for name, url in zip(("first", "second"), urls)
    )
    breakers = RedisBreakers(redis_url, 2.0, open_s=float(open_s))
    model = Failover(Platform({}, chain), breakers, Pool(EgressConfig()))
    async for delta in model.stream(Request((Message("user", "Hi"),))):
        if isinstance(delta, Finished):
            print(json.dumps(delta.provider))
    await model.aclose()
    await breakers.stop()

asyncio.run(main(*sys.argv[1:]))
"""


async def ask_elsewhere(valkey_url: str, *servers: ChatServer) -> str:
    """Who answers in another process."""
    arguments = ("-c", OTHER_GATEWAY, valkey_url, str(OPEN_S), *[server.url for server in servers])
    environ = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-P", *arguments, stdout=asyncio.subprocess.PIPE, cwd=REPOSITORY, env=environ
    )
    out, _ = await process.communicate()
    assert process.returncode == 0
    return str(json.loads(out))


@pytest.fixture
async def breakers(valkey_url: str) -> Any:
    shared = RedisBreakers(valkey_url, 2.0, open_s=OPEN_S)
    yield shared
    await shared.stop()


async def test_what_one_process_found_out_the_other_need_not(valkey_url: str, breakers: RedisBreakers) -> None:
    async with ChatServer() as first, ChatServer() as second, Chain(first, second, breakers=breakers) as here:
        first.status = 500
        second.say({"content": "I stand in."})
        for _ in range(4):
            assert end(await here.ask()).provider == "second"
        # The fifth failure in a row is seen elsewhere, and opens it here.
        assert await ask_elsewhere(valkey_url, first, second) == "second"
        opened = asyncio.get_running_loop().time()
        assert end(await here.ask()).provider == "second"
        assert len(first.requests) == 5
        # When its time is over one probe is enough for both, wherever it is made.
        await asyncio.sleep(max(0.0, opened + OPEN_S + 0.1 - asyncio.get_running_loop().time()))
        first.status, first.events = 200, chat({"content": "Here I am."})
        assert await ask_elsewhere(valkey_url, first, second) == "first"
        assert end(await here.ask()).provider == "first"
        assert len(first.requests) == 7


async def test_while_redis_is_away_each_process_counts_for_itself() -> None:
    async with ChatServer() as first, ChatServer() as second:
        away = RedisBreakers("redis://127.0.0.1:9/0", 0.1)
        first.status = 500
        second.say({"content": "I stand in."})
        async with Chain(first, second, breakers=away) as chain:
            for _ in range(7):
                assert end(await chain.ask()).provider == "second"
        assert len(first.requests) == 5
