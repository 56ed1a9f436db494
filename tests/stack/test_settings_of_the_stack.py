"""Commands beside a running stack: its servers, its settings, and never another master key."""

import base64
import json
import os
import secrets
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from agents.llm.choice import read_platform
from agentvoicebox.cli.encryption import command as encryption
from agentvoicebox.cli.manage import LANGUAGE_MODELS, stack_environment
from agentvoicebox.cli.up import command as up
from agentvoicebox.cli.up import describe
from agentvoicebox.stack.ports import find_free_port
from agentvoicebox.stack.running import Run, started_at_ticks
from agentvoicebox.stack.state import REPOSITORY

DATABASE_URL = "postgresql://avb@127.0.0.1:1/avb"
MASTER_KEY = base64.b64encode(secrets.token_bytes(32)).decode()
REFUSED = [
    "create_tenant", "delete_tenant", "rename_schema", "clone_tenant", "create_missing_schemas", "create_domain",
    "delete_domain", "create_tenant_superuser",
]  # fmt: skip


@pytest.fixture
def stack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    """A run with one process, which has a master key of its own; nothing is set in this shell."""
    names = ("DATABASE_URL", "REDIS_URL", "AVB_MASTER_KEY", "AVB_MASTER_KEY_PREVIOUS", "AVB_SECRET_KEY")
    for name in (*names, *LANGUAGE_MODELS, "AVB_LLM_MODEL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AVB_STATE_DIR", str(tmp_path))
    environment = {
        "AVB_MASTER_KEY": MASTER_KEY, "AVB_SECRET_KEY": "the stack's", "AVB_EMAIL_URL": "console:", "VAULT_ADDR": "v",
        "AVB_SERVICE": "gateway", "HOME": "/elsewhere", "OPENAI_BASE_URL": "http://127.0.0.1:1/v1",
        "AVB_LLM_MODEL": "tiny",
    }  # fmt: skip
    process = subprocess.Popen([sys.executable, "-c", "input()"], env=environment, stdin=subprocess.PIPE)
    run = Run(tmp_path)
    seen = {"pid": process.pid, "started_at_ticks": started_at_ticks(process.pid)}
    run.write({"database_url": DATABASE_URL, "redis_url": "redis://127.0.0.1:1/0", "services": {"gateway": seen}})
    with run.held():
        yield run
    process.communicate(b"\n", timeout=10)


def test_what_the_stack_was_started_with_counts_where_nothing_is_set_here(
    stack: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VAULT_ADDR", "mine")
    found = stack_environment()
    assert found["DATABASE_URL"] == DATABASE_URL
    assert (found["AVB_MASTER_KEY"], found["AVB_SECRET_KEY"]) == (MASTER_KEY, "the stack's")
    assert (found["AVB_EMAIL_URL"], found["VAULT_ADDR"]) == ("console:", "mine")
    assert found["HOME"] == os.environ["HOME"]
    assert found.get("AVB_SERVICE") == os.environ.get("AVB_SERVICE")
    assert not {"master_key", "secret_key"} & {path.name for path in Path(found["AVB_STATE_DIR"]).iterdir()}


def test_the_stacks_language_models_are_known_where_none_is_named_here(
    stack: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = read_platform(stack_environment())
    assert (list(found.providers), found.default and found.default.model) == (["openai-compatible"], "tiny")
    monkeypatch.setenv("GROQ_API_KEY", "mine")
    assert "OPENAI_BASE_URL" not in stack_environment()


def test_a_model_that_nobody_names_stops_up_before_anything_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AVB_STATE_DIR", str(tmp_path))
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:1/v1")
    monkeypatch.delenv("AVB_LLM_MODEL", raising=False)
    for arguments in ([], ["--detach"]):
        ended = CliRunner().invoke(up, ["--port", str(find_free_port()), *arguments])
        words = "Error: AVB_LLM_MODEL must name a model that http://127.0.0.1:1/v1 serves\n"
        assert (ended.exit_code, ended.output) == (1, words)
    assert not list(tmp_path.rglob("*.log"))


@pytest.mark.parametrize("name", ["AVB_MASTER_KEY", "AVB_MASTER_KEY_PREVIOUS"])
def test_another_master_key_than_the_stacks_is_refused(stack: Run, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv("AVB_MASTER_KEY", MASTER_KEY)
    assert stack_environment()["AVB_MASTER_KEY"] == MASTER_KEY
    other = base64.b64encode(secrets.token_bytes(32)).decode()
    monkeypatch.setenv(name, other)
    with pytest.raises(click.ClickException, match=f"^{name} is set here, and not as the running stack has it"):
        stack_environment()
    for subcommand in ("status", "rotate-master"):
        result = CliRunner().invoke(encryption, [subcommand])
        assert result.exit_code == 1
        assert f"{name} is set here" in result.output
        assert other not in result.output


def test_for_another_database_the_shells_own_key_counts(stack: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://other/avb")
    monkeypatch.setenv("AVB_MASTER_KEY", "file:/mine")
    found = stack_environment()
    assert (found["AVB_MASTER_KEY"], "AVB_EMAIL_URL" in found) == ("file:/mine", "AVB_EMAIL_URL" in os.environ)


def test_nothing_is_read_of_a_process_that_is_no_more(stack: Run) -> None:
    document = stack.read()
    document["services"]["gateway"]["started_at_ticks"] -= 1
    stack.write(document)
    assert stack.environment() == {}


def test_nothing_is_taken_from_a_stack_that_is_down(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mine = {"pid": os.getpid(), "started_at_ticks": started_at_ticks(os.getpid())}
    run = Run(tmp_path)
    run.write({"services": {"gateway": mine}})
    assert run.environment() == {}


@pytest.mark.parametrize("name", REFUSED)
def test_commands_that_pass_by_the_audit_log_name_the_right_one(name: str) -> None:
    ended = subprocess.run(
        [sys.executable, "-P", "manage.py", name, "--help"],
        cwd=REPOSITORY, capture_output=True, text=True, check=False, env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
    )  # fmt: skip
    assert ended.returncode == 1
    assert f"{name} would pass by the audit log; " in ended.stderr
    assert "./avb" in ended.stderr or "/api/v1/tenants/" in ended.stderr


@pytest.mark.parametrize(
    ("base_url", "there"),
    [
        ("http://127.0.0.1:8000", "http://platform.localhost:8000/admin/"),
        ("http://[::1]:8080", "http://platform.localhost:8080/admin/"),
        ("http://192.0.2.7:8000", "http://192.0.2.7:8000/admin/"),
    ],
)
def test_up_says_where_the_platforms_admin_is(base_url: str, there: str) -> None:
    demo = json.loads('{"email": "e", "password": "p", "api_key": "k", "agent": "a", "realtime_url": "r"}')
    said = describe(demo | {"base_url": base_url}, "")
    assert f"Platform   {there}  " in said
    assert "./avb people operator" in said
