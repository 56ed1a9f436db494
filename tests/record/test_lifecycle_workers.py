"""Real processes: a worker killed while it makes a tenant, and many tenants migrated side by side."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from django.conf import settings
from django.core.management import CommandError, call_command
from django.db import connection
from django_tenants.utils import schema_exists, tenant_context

from agents.models import Agent
from agentvoicebox.cli.tenant import command
from tenants.audit.models import Entry
from tenants.lifecycle import operations
from tenants.lifecycle.fleet import migrate_tenants
from tenants.lifecycle.platform_keys import issue_platform_key
from tenants.models import Tenant, TenantStatus
from tests.record.world import Api, World

ROOT = Path(__file__).parents[2]
GATE = 4_242
SLUGS = ("gone-1", "gone-2", "gone-3", "gone-4")


def wait_for(what: Callable[[], Any], timeout_s: float = 60.0) -> Any:
    deadline = time.monotonic() + timeout_s
    while not (found := what()):
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.1)
    return found


def environment() -> dict[str, str]:
    """One for the workers and the command line, as ``./avb up`` gives to its processes."""
    return {
        **os.environ,
        "AVB_SECRET_KEY": settings.SECRET_KEY,
        "DATABASE_URL": database_url(),
        "DJANGO_SETTINGS_MODULE": "agentvoicebox.settings",
    }


def database_url() -> str:
    """Of the test database, which has another name than DATABASE_URL says."""
    return os.environ["DATABASE_URL"].rpartition("/")[0] + "/" + connection.settings_dict["NAME"]


@pytest.fixture
def drop_schemas(committed: World) -> Iterator[None]:
    yield
    with connection.cursor() as cursor:
        for slug in SLUGS:
            cursor.execute(f"DROP SCHEMA IF EXISTS {slug.replace('-', '_')} CASCADE")


StartWorker = Callable[[], "subprocess.Popen[bytes]"]


@pytest.fixture
def start_worker(valkey_url: str, tmp_path: Path) -> Iterator[StartWorker]:
    workers: list[subprocess.Popen[bytes]] = []

    def start() -> subprocess.Popen[bytes]:
        with (tmp_path / f"worker-{len(workers)}.log").open("wb") as log:
            workers.append(
                subprocess.Popen(
                    [
                        *(sys.executable, "-P", "-m", "celery", "-A", "celery_workers.default", "worker", "-B"),
                        *("-Q", "default", "--pool", "threads", "--concurrency", "2"),
                    ],
                    cwd=ROOT,
                    env={**environment(), "REDIS_URL": valkey_url, "PYTHONPATH": str(ROOT)},
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
            )
        return workers[-1]

    yield start
    for worker in workers:
        if worker.poll() is None:
            worker.send_signal(signal.SIGKILL)
            worker.wait()
    for log in sorted(tmp_path.glob("worker-*.log")):
        print(log.read_text())


@pytest.fixture
def closed_gate(committed: World) -> Iterator[Callable[[], None]]:
    """Work on a tenant stops before its fourth step, until the gate is opened."""
    keeper = connection.copy()
    with connection.cursor() as cursor, keeper.cursor() as kept:
        kept.execute("SELECT pg_advisory_lock(%s)", [GATE])
        cursor.execute(
            f"""
            CREATE FUNCTION wait_at_gate() RETURNS trigger LANGUAGE plpgsql AS $$
            BEGIN PERFORM pg_advisory_xact_lock_shared({GATE}); RETURN NEW; END $$;
            CREATE TRIGGER wait_at_gate BEFORE UPDATE ON tenants_tenant
            FOR EACH ROW WHEN (NEW.work_done = 3) EXECUTE FUNCTION wait_at_gate();
            """
        )

    def open_gate() -> None:
        with keeper.cursor() as kept:
            kept.execute("SELECT pg_advisory_unlock_all()")

    yield open_gate
    open_gate()
    keeper.close()
    with connection.cursor() as cursor:
        cursor.execute("DROP TRIGGER wait_at_gate ON tenants_tenant; DROP FUNCTION wait_at_gate()")


def test_a_creation_killed_half_way_is_seen_and_finished_by_the_next_worker(
    committed: World, drop_schemas: None, start_worker: StartWorker, closed_gate: Callable[[], None]
) -> None:
    first = start_worker()
    api = Api(issue_platform_key(name="robot")[1])
    assert api("POST", "tenants/", {"slug": "gone-1", "name": "Gone"})[0] == 202

    def progress() -> dict[str, Any]:
        return api("GET", "tenants/gone-1/")[1]["data"]["progress"]

    wait_for(lambda: Tenant.objects.get(slug="gone-1").work_done == 2)
    seen = progress()
    assert seen["done"] == 2
    assert seen["step"]
    assert seen["total"] > 2
    assert seen["error"] == ""
    assert schema_exists("gone_1")
    first.kill()
    first.wait()
    assert Tenant.objects.get(slug="gone-1").status == TenantStatus.CREATING
    closed_gate()
    start_worker()
    wait_for(lambda: Tenant.objects.get(slug="gone-1").status == TenantStatus.ACTIVE)
    done = progress()
    assert (done["step"], done["error"]) == ("", "")
    with tenant_context(Tenant.objects.get(slug="gone-1")):
        assert Agent.objects.count() == 0
    assert Entry.objects.filter(action="tenant.created", target="gone-1").count() == 1
    assert Tenant.objects.get(slug="beta").status == TenantStatus.ACTIVE


def test_an_erasure_that_is_due_is_done_by_a_worker(
    committed: World, drop_schemas: None, start_worker: StartWorker
) -> None:
    start_worker()
    tenant = operations.create_tenant(slug="gone-1", name="Gone")
    operations.request_deletion(tenant=tenant, confirmation="gone-1", grace_days=0)
    Tenant.objects.filter(pk=tenant.pk).update(delete_after=tenant.created_at)
    wait_for(lambda: Entry.objects.filter(action="tenant.erased", target="gone-1").exists())
    assert not schema_exists("gone_1")
    assert not Tenant.objects.filter(slug="gone-1").exists()
    with tenant_context(committed.beta.tenant):
        assert Agent.objects.filter(slug="beta-desk").exists()


# --- many tenants ---


def fill(slugs: tuple[str, ...]) -> None:
    """Tenants with empty schemas, as an older version could have left them."""
    with connection.cursor() as cursor:
        for slug in slugs:
            schema_name = slug.replace("-", "_")
            Tenant.objects.create(slug=slug, name=slug, schema_name=schema_name)
            cursor.execute(f"CREATE SCHEMA {schema_name}")


@pytest.mark.parametrize("processes", [1, 2])
def test_a_tenant_that_fails_stops_no_other(
    committed: World, drop_schemas: None, processes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", database_url())
    monkeypatch.setenv("DJANGO_SETTINGS_MODULE", "agentvoicebox.settings")
    fill(SLUGS)
    with connection.cursor() as cursor:
        cursor.execute("CREATE TABLE gone_2.agents_agent (id int)")
    number, outcomes = migrate_tenants(processes)
    by_slug = {outcome.slug: outcome for outcome in outcomes}
    assert number == len(by_slug) == 6
    assert 'agents.0001_initial: relation "agents_agent" already exists' in by_slug["gone-2"].error
    assert [slug for slug, outcome in by_slug.items() if outcome.error] == ["gone-2"]
    assert by_slug["gone-4"].migrations > 0
    assert by_slug["beta"].migrations == 0
    for slug in ("gone-1", "gone-3", "gone-4"):
        with tenant_context(Tenant.objects.get(slug=slug)):
            assert Agent.objects.count() == 0
    assert "agents_agent" in Tenant.objects.get(slug="gone-2").work_error
    assert Entry.objects.filter(action="tenant.migration_failed", target="gone-2").count() == 1


def test_the_command_shows_what_failed_and_says_so_at_the_end(
    committed: World, drop_schemas: None, capsys: pytest.CaptureFixture[str]
) -> None:
    fill(SLUGS[:1])
    call_command("migrate_tenants", parallel=1)
    assert "gone-1" in capsys.readouterr().out
    call_command("migrate_tenants", parallel=1, verbosity=0)
    assert capsys.readouterr().out == ""
    with connection.cursor() as cursor:
        cursor.execute("DROP SCHEMA gone_1 CASCADE")
    with pytest.raises(CommandError, match=r"1 of 3 tenants were not migrated:\n  gone-1  There is no schema"):
        call_command("migrate_tenants", parallel=1)
    with pytest.raises(CommandError, match="--parallel"):
        call_command("migrate_tenants", parallel=0)
    with connection.cursor() as cursor:
        cursor.execute("CREATE SCHEMA gone_1")
    call_command("migrate_tenants", parallel=1)
    assert Tenant.objects.get(slug="gone-1").work_error == ""


# --- the command line ---


@pytest.fixture
def avb(committed: World, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """``./avb tenant …`` in this process; gives what it prints."""
    monkeypatch.setattr("agentvoicebox.cli.tenant.stack_environment", dict)
    monkeypatch.setattr(os, "environ", os.environ.copy())

    def run(*arguments: str, fails: bool = False) -> str:
        result = CliRunner().invoke(command, arguments)
        assert (result.exit_code != 0) is fails, result.output
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
        return result.output

    return run


def test_the_command_sets_itself_up(committed: World) -> None:
    listed = subprocess.run(
        [sys.executable, "-P", "-m", "agentvoicebox.cli", "tenant", "list"],
        cwd=ROOT,
        env={**environment(), "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert [line.split()[:2] for line in listed.stdout.splitlines()] == [["alpha", "active"], ["beta", "active"]]


def test_a_life_at_the_command_line(drop_schemas: None, start_worker: StartWorker, avb: Callable[..., str]) -> None:
    start_worker()
    assert "gone-1 is active" in avb("create", "gone-1", "--name", "Gone", "--domain", "gone.example")
    assert "a tenant 'gone-1' exists" in avb("create", "gone-1", fails=True).lower()
    assert '"gone.example"' in avb("show", "gone-1")
    assert "suspended" in avb("suspend", "gone-1", "--reason", "unpaid")
    assert "unpaid" in avb("list")
    assert "active" in avb("resume", "gone-1")
    assert "confirm its deletion" in avb("delete", "gone-1", "--confirm", "gone", fails=True)
    assert "erased after" in avb("delete", "gone-1", "--confirm", "gone-1")
    assert "gone-1 is active" in avb("undelete", "gone-1")
    assert "no tenant 'gone-1' was erased" in avb("certificate", "gone-1", fails=True)
    avb("delete", "gone-1", "--confirm", "gone-1", "--grace-days", "0")
    wait_for(lambda: not Tenant.objects.filter(slug="gone-1").exists())
    shown = avb("certificate", "gone-1")
    assert "valid: signed by" in shown
    assert '"requested_by"' in shown
    assert "Signed with another key" in avb("certificate", "gone-1", "--public-key", "x", fails=True)
    secret = avb("key", "robot").split()[-1]
    assert Api(secret)("GET", "tenants/")[0] == 200
    public_id = avb("keys").split()[0]
    avb("revoke-key", public_id)
    assert Api(secret)("GET", "tenants/")[0] == 401
    assert {entry.actor_kind for entry in Entry.objects.filter(action__startswith="tenant.suspended")} == {"operator"}
    assert "There is no tenant 'nobody'" in avb("show", "nobody", fails=True)
