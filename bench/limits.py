"""What a check of limits and of a key costs, beside the round trip to Redis that is part of it.

    .venv/bin/python bench/limits.py [--checks 20000] [--callers 16]

One Valkey of its own on loopback. Alone: one caller, one check after the other. Together: as many
callers at once on one event loop, as a gateway under load has them.
"""

import argparse
import asyncio
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from product import describe_machine

from agentvoicebox.stack.valkey import EmbeddedValkey
from tenants.keys import credential as credentials
from tenants.keys.credential import Credential
from tenants.keys.secret import draw_secret, hash_secret
from tenants.limits.allowance import Allowance, Party
from tenants.limits.counters import Limiter

NUMBERS = {
    "requests_per_minute": 10**6,
    "tokens_per_minute": 10**9,
    "concurrent_sessions": 10**6,
    "sessions_per_end_user": 10**6,
    "audio_minutes_per_day": 10**6,
    "connections_per_second": 10**6,
}


def print_row(name: str, times_s: list[float]) -> float:
    ordered = sorted(times_s)
    at = lambda share: ordered[min(len(ordered) - 1, int(share * len(ordered)))] * 1e6  # noqa: E731
    print(f"  {name:52}{at(0.5):9.0f}{at(0.99):9.0f}{ordered[-1] * 1e6:9.0f}")
    return at(0.99)


async def measure(work: Callable[[], Awaitable[Any]], count: int) -> list[float]:
    times = []
    for _ in range(count):
        began = time.perf_counter()
        await work()
        times.append(time.perf_counter() - began)
    return times


async def measure_together(work: Callable[[], Awaitable[Any]], count: int, callers: int) -> list[float]:
    parts = await asyncio.gather(*(measure(work, count // callers) for _ in range(callers)))
    return [one for part in parts for one in part]


async def run(url: str, checks: int, callers: int) -> None:
    limiter = Limiter(url, 2.0, connections=callers)
    raw = limiter._redis
    exact = Party(tenant="full", key_id="key_1", allowance=Allowance(tenant=NUMBERS | {"requests_per_minute": 1_000}))
    party = Party(
        tenant="bench",
        key_id="key_1",
        end_user="caller",
        allowance=Allowance(tenant=NUMBERS, key=NUMBERS, end_user=NUMBERS),
    )
    secret = draw_secret("live")
    known = Credential(
        kind="key", id="key_1", name="bench", tenant="bench", scopes=frozenset({"realtime"}),
        allowance=Allowance(tenant=NUMBERS), secret_hash=hash_secret(secret), networks=("127.0.0.0/8",),
    )  # fmt: skip
    await credentials.keep(raw, known, 3_600)

    async def find() -> None:
        found = await credentials.recall(raw, hash_secret(secret))
        assert found is not None
        found.require("realtime", "127.0.0.1")

    request = party.counters("requests_per_minute", 1)[:1]
    response = [*party.counters("requests_per_minute", 1), *party.counters("tokens_per_minute", 1_000)]
    door = [*party.counters("connections_per_second", 1), *party.counters("audio_minutes_per_day", 1)]
    full = exact.counters("requests_per_minute", 1)
    for _ in range(1_100):
        await limiter.ask(full)
    rows: list[tuple[str, Callable[[], Awaitable[Any]]]] = [
        ("Redis round trip (PING)", raw.ping),
        ("one counter: a request", lambda: limiter.ask(request)),
        ("six counters: a response at three levels", lambda: limiter.ask(response)),
        ("six counters and three places: a new session", lambda: limiter.ask([*door, *party.places("sess_1")])),
        ("a full exact window of 1,000: refused", lambda: limiter.ask(full)),
        ("a known key: Redis, constant-time check, scope, network", find),
    ]
    for title, taken in (("one after the other", 1), (f"{callers} at once on one event loop", callers)):
        print(f"\n{title}\n  {'µs':52}{'p50':>9}{'p99':>9}{'max':>9}")
        for name, work in rows:
            await measure(work, 200)
            print_row(name, await measure_together(work, checks, taken))
    kept = await raw.get(credentials.credential_key(known.secret_hash))
    times = []
    for _ in range(checks):
        began = time.perf_counter()
        found = credentials.decode(kept, hash_secret(secret))
        assert found is not None
        found.require("realtime", "127.0.0.1")
        times.append(time.perf_counter() - began)
    print(f"\nwithout Redis\n  {'µs':52}{'p50':>9}{'p99':>9}{'max':>9}")
    print_row("a known key: what comes after the lookup", times)
    await limiter.stop()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checks", type=int, default=20_000)
    parser.add_argument("--callers", type=int, default=16)
    arguments = parser.parse_args()
    print(describe_machine())
    with tempfile.TemporaryDirectory(prefix="avb-bench-") as directory:
        server = EmbeddedValkey(Path(directory), persistent=False)
        server.reserve()
        try:
            asyncio.run(run(server.start(), arguments.checks, arguments.callers))
        finally:
            server.stop()


if __name__ == "__main__":
    main()
