"""How long a caller waits for the first word when the first model of a chain is well, dead or silent.

    .venv/bin/python bench/failover.py [--rounds 30] [--stalls 3]

Two scripted models on loopback, each with its first token after 50 ms; circuit breakers in a Valkey of its own, as in
production. The baseline is the first model asked without a chain, limits or breakers around it.
"""

import argparse
import asyncio
import sys
import tempfile
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import redis
from product import describe_machine

from agents.egress.breaker import RedisBreakers
from agents.egress.config import EgressConfig
from agents.llm.choice import Platform
from agents.llm.failover import Failover
from agents.llm.openai_compatible import OpenAiCompatible
from agents.llm.pool import Pool
from agents.llm.providers import ModelRef, Provider
from agents.llm.scripted import ScriptedLlm
from agents.llm.types import Finished, LanguageModel, Message, Request
from agentvoicebox.stack import ports
from agentvoicebox.stack.valkey import EmbeddedValkey

FIRST_TOKEN_MS = 50
ASK = Request((Message("user", "Good morning!"),))
FAILURES = 5
"""What opens a breaker."""


async def first_word_ms(model: LanguageModel, expected: str) -> float:
    began = time.perf_counter()
    first_ms = 0.0
    async with aclosing(model.stream(ASK)) as deltas:
        async for delta in deltas:
            first_ms = first_ms or (time.perf_counter() - began) * 1000
            if isinstance(delta, Finished) and delta.provider != expected:
                raise SystemExit(f"{delta.provider} answered, not {expected}")
    return first_ms


@asynccontextmanager
async def silent_server() -> AsyncGenerator[str, None]:
    """Takes every request and answers none."""
    open_writers = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        open_writers.append(writer)
        await reader.read()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
        for writer in open_writers:
            writer.close()


class Bench:
    def __init__(self, redis_url: str, backup_url: str, rounds: int) -> None:
        self._redis = redis.Redis.from_url(redis_url)
        self._breakers = RedisBreakers(redis_url, 0.1)
        self._backup_url = backup_url
        self._rounds = rounds
        self._baseline_ms = 0.0

    async def baseline(self, url: str) -> None:
        model = OpenAiCompatible("first", url, "", "m")
        self._print("baseline: one model, nothing around it", await self._measure(model, "first", self._rounds))
        await model.aclose()

    async def chain(self, name: str, first_url: str, expected: str, *, rounds: int = 0, opened: bool = False) -> None:
        """``opened``: the first model's breaker is open; else each round begins as if nobody had failed yet."""
        chain = tuple(
            ModelRef(Provider(provider, "openai_compatible", url, model="m"))
            for provider, url in (("first", first_url), ("second", self._backup_url))
        )
        model = Failover(Platform({}, chain), self._breakers, Pool(EgressConfig()))
        if opened:
            self._redis.flushall()
            for _ in range(FAILURES):
                permit = await self._breakers.ask("llm:first")
                await permit.fail()
        times = await self._measure(model, expected, rounds or self._rounds, None if opened else self._forget)
        self._print(name, times)
        await model.aclose()

    async def stop(self) -> None:
        await self._breakers.stop()
        self._redis.close()

    async def _forget(self) -> None:
        self._redis.flushall()

    async def _measure(
        self, model: LanguageModel, expected: str, rounds: int, before: Callable[[], Awaitable[None]] | None = None
    ) -> list[float]:
        times = []
        for number in range(rounds + (rounds > 3)):  # where there are enough, the first only opens connections
            if before:
                await before()
            times.append(await first_word_ms(model, expected))
            if number == 0 and rounds > 3:
                times.clear()
        return sorted(times)

    def _print(self, name: str, times: list[float]) -> None:
        middle = times[len(times) // 2]
        self._baseline_ms = self._baseline_ms or middle
        at_95 = times[min(len(times) - 1, int(0.95 * len(times)))]
        print(f"  {name:52}{middle:10.1f}{at_95:10.1f}{middle - self._baseline_ms:+12.1f}{len(times):8}")


async def run(redis_url: str, rounds: int, stalls: int) -> None:
    async with (
        ScriptedLlm(first_token_ms=FIRST_TOKEN_MS) as first,
        ScriptedLlm(first_token_ms=FIRST_TOKEN_MS) as second,
        silent_server() as silent,
    ):
        dead = f"http://127.0.0.1:{ports.find_free_port()}/v1"
        bench = Bench(redis_url, second.url, rounds)
        print(f"  {'time to the first word, ms':52}{'p50':>10}{'p95':>10}{'to baseline':>12}{'rounds':>8}")
        await bench.baseline(first.url)
        await bench.chain("first is well", first.url, "first")
        await bench.chain("first is dead, first call", dead, "second")
        await bench.chain("first is dead, breaker open", dead, "second", opened=True)
        await bench.chain("first is silent, first call", silent, "second", rounds=stalls)
        await bench.chain("first is silent, breaker open", silent, "second", opened=True)
        await bench.stop()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--stalls", type=int, default=3, help="rounds that wait for a silent model, 5 s each")
    arguments = parser.parse_args()
    print(describe_machine())
    with tempfile.TemporaryDirectory(prefix="avb bench ") as state:
        Path(state).chmod(0o755)
        valkey = EmbeddedValkey(Path(state) / "valkey", persistent=False)
        valkey.start()
        try:
            asyncio.run(run(valkey.url, arguments.rounds, arguments.stalls))
        finally:
            valkey.stop()


if __name__ == "__main__":
    main()
