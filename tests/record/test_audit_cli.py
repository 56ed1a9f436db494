"""``./avb audit``: whole logs, broken logs, the file of heads, and the export."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from django.db import connection

from agentvoicebox.cli.audit import command
from tenants.audit.models import Entry
from tenants.audit.operations import record
from tests.record.world import World


@pytest.fixture
def avb(world: World, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr("agentvoicebox.cli.tenant.stack_environment", dict)
    for name in ("alpha", "beta", ""):
        record(action="thing.done", target=name or "platform", tenant=name)

    def run(*arguments: str) -> Result:
        return CliRunner().invoke(command, arguments)

    return run


def cut_platform_log() -> None:
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE audit_entry DISABLE TRIGGER USER")
        cursor.execute("DELETE FROM audit_entry WHERE seq = (SELECT max(seq) FROM audit_entry)")


def test_whole_logs_are_said_to_be_whole_and_anchored(avb: Any) -> None:
    result = avb("verify")
    assert result.exit_code == 0, result.output
    lines = result.output.splitlines()
    assert [line.partition(":")[0] for line in lines] == ["alpha", "beta", "platform"]
    assert all(": whole, " in line and " head " in line for line in lines)
    assert set(Entry.objects.filter(action="audit.anchored").values_list("target", flat=True)) == {"alpha", "beta"}
    assert avb("verify", "--tenant", "beta").output.startswith("beta: whole")


def test_a_broken_log_is_named_and_the_others_are_read_all_the_same(avb: Any) -> None:
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE alpha.audit_entry DISABLE TRIGGER USER")
        cursor.execute("UPDATE alpha.audit_entry SET actor_name = 'Eve' WHERE target = 'alpha'")
        cursor.execute("SELECT seq FROM alpha.audit_entry WHERE target = 'alpha'")
        seq = cursor.fetchone()[0]
    result = avb("verify")
    assert result.exit_code == 1
    assert f"alpha: BROKEN, entry {seq} is changed" in result.output
    assert "beta: whole" in result.output
    assert not Entry.objects.filter(action="audit.anchored", target="alpha").exists()


def test_a_file_of_heads_sees_the_platforms_own_tail(avb: Any, tmp_path: Path) -> None:
    heads = tmp_path / "heads.json"
    assert avb("verify", "--heads", str(heads)).exit_code == 0
    kept = json.loads(heads.read_text())
    assert set(kept) == {"alpha", "beta", "public"}
    cut_platform_log()
    assert avb("verify").exit_code == 0, "the log by itself does not know"
    cut = avb("verify", "--heads", str(heads))
    assert cut.exit_code == 1
    assert "platform: BROKEN" in cut.output
    assert json.loads(heads.read_text())["public"] == kept["public"], "what was known stays known"


def test_a_tenant_that_does_not_exist(avb: Any) -> None:
    result = avb("verify", "--tenant", "ghost")
    assert result.exit_code == 1
    assert "ghost" in result.output


def test_the_export_prints_the_log_and_is_in_it(avb: Any) -> None:
    result = avb("export", "--tenant", "alpha")
    assert result.exit_code == 0, result.output
    rows = [json.loads(line) for line in result.stdout.splitlines()]
    assert rows[-1]["action"] == "audit.exported"
    assert (rows[-1]["actor_kind"], rows[-1]["actor_id"][:4]) == ("operator", "cli:")
    assert "alpha" in [row["target"] for row in rows]
    platform = [json.loads(line) for line in avb("export").stdout.splitlines()]
    assert "platform" in [row["target"] for row in platform]


def check_as_documented(export: str) -> subprocess.CompletedProcess[str]:
    """What docs/audit.md tells readers to save as check.py."""
    recipe = (
        (Path(__file__).parents[2] / "docs" / "audit.md").read_text().partition("```python\n")[2].partition("```")[0]
    )
    return subprocess.run(
        [sys.executable, "-c", recipe], input=export, capture_output=True, text=True, timeout=60, check=False
    )


def test_the_documented_recipe_checks_every_entry_of_an_export(avb: Any) -> None:
    record(action="thing.done", target="=1+1", before={"é": 1e22}, after=[1.5, None], tenant="alpha")
    for arguments in (("export", "--tenant", "alpha"), ("export",)):
        export = avb(*arguments).stdout
        head = json.loads(export.splitlines()[-1])["hash"]
        assert check_as_documented(export).stdout == f"whole, up to {head}\n"
        entry = json.loads(export.splitlines()[0])
        for name in entry:
            changed = json.dumps(entry | {name: "another"}) + "\n"
            assert check_as_documented(changed).returncode == 1, name
