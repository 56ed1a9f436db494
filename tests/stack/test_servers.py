"""The embedded servers keep their data, their address and their password over a restart."""

import os
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest
import redis

from agentvoicebox.stack import accounts
from agentvoicebox.stack.commands import StartFailed
from agentvoicebox.stack.postgres import EmbeddedPostgres
from agentvoicebox.stack.valkey import EmbeddedValkey

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root has to become somebody else")


def write_row(url: str) -> None:
    with psycopg.connect(url) as connection:
        connection.execute("CREATE TABLE note (text text)")
        connection.execute("INSERT INTO note VALUES ('kept')")


def read_row(url: str) -> str:
    with psycopg.connect(url) as connection:
        return connection.execute("SELECT text FROM note").fetchone()[0]


def test_postgres_keeps_data_and_address_over_stop_start_and_restart(world_readable_tmp_path: Path) -> None:
    server = EmbeddedPostgres(world_readable_tmp_path / "postgres")
    with server as url:
        write_row(url)
        assert server.restart() == url
        assert read_row(url) == "kept"
    assert server.pid is None
    with EmbeddedPostgres(world_readable_tmp_path / "postgres") as later:
        assert later == url
        assert read_row(later) == "kept"


def test_postgres_survives_being_killed(world_readable_tmp_path: Path) -> None:
    server = EmbeddedPostgres(world_readable_tmp_path / "postgres")
    write_row(server.start())
    os.killpg(server.pid, 9)
    server.stop()
    with EmbeddedPostgres(world_readable_tmp_path / "postgres") as url:
        assert read_row(url) == "kept"


def test_postgres_wants_the_password(world_readable_tmp_path: Path) -> None:
    with EmbeddedPostgres(world_readable_tmp_path / "postgres", fsync=False) as url:
        password = url.split(":")[2].split("@")[0]
        with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
            psycopg.connect(url.replace(password, "wrong"))
    assert (world_readable_tmp_path / "postgres" / "server.json").stat().st_mode & 0o777 == 0o600


@as_root
def test_postgres_runs_as_nobody_where_the_account_can_reach(world_readable_tmp_path: Path) -> None:
    server = EmbeddedPostgres(world_readable_tmp_path / "postgres", fsync=False)
    with server:
        assert server.data == world_readable_tmp_path / "postgres" / "data"
        assert Path(f"/proc/{server.pid}").stat().st_uid == accounts.unprivileged_account().uid


@as_root
def test_postgres_keeps_its_data_outside_a_closed_directory(
    tmp_path: Path, world_readable_tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(accounts, "OUTSIDE", (world_readable_tmp_path / "lib",))
    tmp_path.chmod(0o700)
    with EmbeddedPostgres(tmp_path / "postgres", fsync=False) as url:
        write_row(url)
    again = EmbeddedPostgres(tmp_path / "postgres", fsync=False)
    with again as url:
        assert again.data.is_relative_to(world_readable_tmp_path / "lib")
        assert read_row(url) == "kept"


def test_postgres_refuses_data_of_another_version(world_readable_tmp_path: Path) -> None:
    server = EmbeddedPostgres(world_readable_tmp_path / "postgres", fsync=False)
    server.prepare()
    (server.data / "PG_VERSION").write_text("15\n")
    with pytest.raises(StartFailed, match="was made by PostgreSQL 15, this one is 18"):
        server.start()


def test_postgres_says_what_went_wrong(world_readable_tmp_path: Path) -> None:
    server = EmbeddedPostgres(world_readable_tmp_path / "postgres", fsync=False)
    server.prepare()
    with (server.data / "postgresql.conf").open("a") as configuration:
        configuration.write("shared_buffers = nonsense\n")
    with pytest.raises(StartFailed, match=r'(?s)ended with status 1 while starting:.*"shared_buffers"'):
        server.start()
    assert server.pid is None


def test_valkey_keeps_keys_address_and_settings(tmp_path: Path) -> None:
    server = EmbeddedValkey(tmp_path / "a path with spaces")
    with server as url:
        client = redis.Redis.from_url(url)
        client.set("note", "kept")
        assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
        assert client.config_get("appendfsync") == {"appendfsync": "everysec"}
        assert server.restart() == url
        assert redis.Redis.from_url(url).get("note") == b"kept"
    with EmbeddedValkey(tmp_path / "a path with spaces") as later:
        assert later == url
        assert redis.Redis.from_url(later).get("note") == b"kept"


def test_valkey_wants_the_password(tmp_path: Path) -> None:
    with EmbeddedValkey(tmp_path, persistent=False) as url:
        with pytest.raises(redis.AuthenticationError):
            redis.Redis.from_url("redis://" + url.split("@")[1]).ping()
        with pytest.raises(redis.AuthenticationError):
            redis.Redis.from_url("redis://:wrong@" + url.split("@")[1]).ping()


def test_a_taken_port_is_given_up(tmp_path: Path) -> None:
    first = EmbeddedValkey(tmp_path / "first", persistent=False)
    with first:
        second = EmbeddedValkey(tmp_path / "second", persistent=False)
        second.reserve()
        (tmp_path / "second" / "server.json").write_text(f'{{"password": "x", "port": {first.port}}}')
        second = EmbeddedValkey(tmp_path / "second", persistent=False)
        with second:
            assert second.port != first.port


def test_the_fixtures_are_what_the_environment_names(postgres_url: str, valkey_url: str) -> None:
    assert os.environ["DATABASE_URL"] == postgres_url
    assert os.environ["REDIS_URL"] == valkey_url
    with psycopg.connect(postgres_url) as connection:
        assert connection.execute("SHOW fsync").fetchone() == ("off",)
    assert redis.Redis.from_url(valkey_url).dbsize() == 0


def test_servers_end_with_whoever_started_them(world_readable_tmp_path: Path) -> None:
    script = """
import os, pathlib, signal, sys
from agentvoicebox.stack.postgres import EmbeddedPostgres
from agentvoicebox.stack.valkey import EmbeddedValkey
directory = pathlib.Path(sys.argv[1])
postgres, valkey = EmbeddedPostgres(directory / "p"), EmbeddedValkey(directory / "v")
postgres.start(), valkey.start()
print(postgres.pid, valkey.pid, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
    killed = subprocess.run(
        [sys.executable, "-c", script, str(world_readable_tmp_path)], capture_output=True, text=True, check=False
    )
    pids = [int(pid) for pid in killed.stdout.split()]
    assert len(pids) == 2, killed.stderr
    # A second server in the same place waits until the first is gone.
    with EmbeddedPostgres(world_readable_tmp_path / "p"), EmbeddedValkey(world_readable_tmp_path / "v"):
        assert not [pid for pid in pids if Path(f"/proc/{pid}/cwd").exists()]
