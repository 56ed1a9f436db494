"""How long reports of usage take on a large ledger.

    PYTHONPATH=. .venv/bin/python bench/usage_reports.py --entries 1000000

It starts a PostgreSQL of its own, fills one tenant's ledger with a month of calls through the product's own writer, and
times each report ``--rounds`` times.
"""

import argparse
import json
import os
import random
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

from agentvoicebox.stack.postgres import EmbeddedPostgres

MONTH = (date(2026, 11, 1), date(2026, 11, 30))
BATCH = 5_000


def main() -> None:
    parser = argparse.ArgumentParser(prog="bench/usage_reports.py", description=__doc__)
    parser.add_argument("--entries", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=20)
    arguments = parser.parse_args()
    directory = Path(tempfile.mkdtemp(prefix="avb-bench-"))
    directory.chmod(0o755)
    postgres = EmbeddedPostgres(directory / "postgres", fsync=False)
    try:
        os.environ.update(
            DATABASE_URL=postgres.reserve(), AVB_STATE_DIR=str(directory), AVB_POSTGRES_POOL_SIZE="0",
            DJANGO_SETTINGS_MODULE="agentvoicebox.settings", AVB_ENVIRONMENT="dev",
        )  # fmt: skip
        postgres.start()
        print(json.dumps(run(arguments.entries, arguments.rounds), indent=1))
    finally:
        postgres.stop()
        shutil.rmtree(directory)


def run(entries: int, rounds: int) -> dict[str, Any]:
    import django

    django.setup()
    from django.core.management import call_command
    from django.db import connection, transaction
    from django_tenants.utils import tenant_context

    from tenants.lifecycle.operations import create_tenant
    from tenants.prices.models import Price
    from tenants.usage import queries
    from tenants.usage.models import Day, Entry
    from tenants.usage.operations import store_uses

    call_command("migrate_schemas", shared=True, verbosity=0)
    tenant = create_tenant(slug="bench", name="Bench")
    for meter in ("llm_tokens_in", "llm_tokens_out", "tts_characters", "stt_seconds"):
        for provider, model in (("", ""), ("openai", "model-1")):
            for day in (1, 15):
                Price.objects.create(
                    meter=meter, provider=provider, model=model, amount=Decimal("0.15"), per=1_000_000, currency="EUR",
                    effective_from=date(2026, 11, day),
                )  # fmt: skip
    with tenant_context(tenant):
        began = time.perf_counter()
        written = 0
        for uses in calls(entries):
            with transaction.atomic():
                written += store_uses(uses)
        filled_s = time.perf_counter() - began
        with connection.cursor() as cursor:
            cursor.execute("ANALYZE")
        first, last = MONTH

        def month(group_by: Any, **filters: str) -> Callable[[], Any]:
            return lambda: queries.add_up(group_by, first=first, last=last, **filters)

        def page_of_calls() -> Any:
            page = list(queries.list_calls(first=first, last=last)[:50])
            return queries.add_up_calls([call.session_id for call in page])

        times = {
            **{f"month by {group_by}": month(group_by) for group_by in ("total", "day", "agent", "key", "model")},
            "month of one end user": month("day", end_user="user-7"),
            "a page of 50 calls": page_of_calls,
            "a page of 1000 entries": lambda: queries.read_entries(first=first, last=last, limit=1000),
        }
        return {
            "entries": Entry.objects.count(),
            "rows_of_days": Day.objects.count(),
            "written_per_s": round(written / filled_s),
            "ms": {name: measure(report, rounds) for name, report in times.items()},
        }


def calls(entries: int) -> Any:
    """Batches of uses: calls of 10 agents, 5 keys, 1,000 end users and 3 models, eight meters each."""
    from tenants.usage.operations import Use

    dice, batch, number = random.Random(7), [], 0
    while number * 20 < entries:
        session, agent, key = f"sess_{number}", f"agent-{dice.randrange(10)}", f"key_{dice.randrange(5)}"
        at = datetime(2026, 11, 1, tzinfo=UTC) + timedelta(seconds=dice.random() * 30 * 86_400)
        who = {
            "at": at,
            "session_id": session,
            "agent": agent,
            "key_id": key,
            "end_user": f"user-{dice.randrange(1000)}",
        }
        for answer in range(4):
            tokens = {"llm_tokens_in": Decimal(900), "llm_tokens_cached": Decimal(100), "llm_tokens_out": Decimal(40)}
            model = f"model-{dice.randrange(3)}"
            batch.append(Use(**who, source=f"resp_{answer}", provider="openai", model=model, quantities=tokens))
            spoken = {"tts_characters": Decimal(160)}
            batch.append(Use(**who, source=f"resp_{answer}", provider="kokoro", quantities=spoken))
        batch.append(Use(**who, source="in/1", quantities={"audio_seconds_in": Decimal("93.480")}))
        batch.append(Use(**who, source="out", quantities={"audio_seconds_out": Decimal("41.250")}))
        for item in range(2):
            batch.append(Use(**who, source=f"item_{item}", quantities={"stt_seconds": Decimal(4)}))
        number += 1
        if len(batch) >= BATCH:
            yield batch
            batch = []
    yield batch


def measure(report: Callable[[], Any], rounds: int) -> dict[str, float]:
    taken = []
    for _ in range(rounds):
        began = time.perf_counter()
        report()
        taken.append((time.perf_counter() - began) * 1000)
    return {"median": round(statistics.median(taken), 1), "max": round(max(taken), 1)}


if __name__ == "__main__":
    main()
