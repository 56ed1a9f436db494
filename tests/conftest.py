"""Servers for the tests: every pytest process has its own PostgreSQL and Valkey, started when a test first asks.

Their addresses are in the environment before Django's settings are read, so ``django_db`` tests, REDIS_URL and the
fixtures below all mean the same two servers.
"""

import base64
import os
import secrets
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import django
import pytest

from agentvoicebox.stack import ports
from agentvoicebox.stack.postgres import EmbeddedPostgres
from agentvoicebox.stack.valkey import EmbeddedValkey
from speech import models

STATE_DIR = Path(tempfile.mkdtemp(prefix="avb-test-"))
STATE_DIR.chmod(0o755)
POSTGRES = EmbeddedPostgres(STATE_DIR / "postgres", fsync=False)
VALKEY = EmbeddedValkey(STATE_DIR / "valkey", persistent=False)

# Model files come from the real cache; everything else that tests write goes to a directory of their own.
os.environ["AVB_MODELS_DIR"] = str(models.cache_dir().absolute())
os.environ["AVB_STATE_DIR"] = str(STATE_DIR)
os.environ["AVB_ENVIRONMENT"] = "dev"
os.environ["AVB_MASTER_KEY"] = base64.b64encode(secrets.token_bytes(32)).decode()
# Tests ask more often than any caller does; those of the limits set their own.
for name in ("REQUESTS_PER_MINUTE", "ANONYMOUS_REQUESTS_PER_MINUTE", "CONNECTIONS_PER_SECOND", "CONCURRENT_SESSIONS"):
    os.environ[f"AVB_{name}"] = "1000000"
os.environ["AVB_TENANT_CONNECTIONS_PER_SECOND"] = "1000000"
os.environ["DATABASE_URL"] = POSTGRES.reserve()
os.environ["REDIS_URL"] = VALKEY.reserve()
os.environ["DJANGO_SETTINGS_MODULE"] = "agentvoicebox.settings"
django.setup()
# The processes of pytest-xdist inherit the environment: with this in it, pytest-django would read the settings there
# before this file has written that process's own addresses.
del os.environ["DJANGO_SETTINGS_MODULE"]


def pytest_unconfigure(config: pytest.Config) -> None:
    POSTGRES.stop()
    VALKEY.stop()
    shutil.rmtree(STATE_DIR)


@pytest.fixture(scope="session")
def postgres_server() -> EmbeddedPostgres:
    """The running server, with ``url``, ``stop()`` and ``restart()``; start it again if you stop it."""
    POSTGRES.start()
    return POSTGRES


@pytest.fixture(scope="session")
def postgres_url(postgres_server: EmbeddedPostgres) -> str:
    """The same as DATABASE_URL."""
    return postgres_server.url


@pytest.fixture(scope="session")
def django_db_modify_db_settings(postgres_server: EmbeddedPostgres) -> None:
    """pytest-django asks for this before it makes the test database."""


@pytest.fixture(scope="session")
def valkey_server() -> EmbeddedValkey:
    """The running server, with ``url``, ``stop()`` and ``restart()``; start it again if you stop it."""
    VALKEY.start()
    return VALKEY


@pytest.fixture
def valkey_url(valkey_server: EmbeddedValkey) -> str:
    """The same as REDIS_URL; the server is emptied before each test that asks."""
    import redis

    with redis.Redis.from_url(valkey_server.start()) as client:
        client.flushall()
    return valkey_server.url


@pytest.fixture
def free_port() -> Callable[[], int]:
    """Gives a port on loopback where nobody listens, another one at each call."""
    return ports.find_free_port


@pytest.fixture
def world_readable_tmp_path() -> Iterator[Path]:
    """Like ``tmp_path``, but every user may pass through to it, as PostgreSQL wants when root starts it."""
    path = Path(tempfile.mkdtemp(prefix="avb test "))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)
