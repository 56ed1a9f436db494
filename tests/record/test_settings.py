"""A wrong value stops the start and names its variable; and every variable is described."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
ROOMS = ("agents", "agentvoicebox", "celery_workers", "realtime", "speech", "tenants")
READ = re.compile(
    r"""["'](AVB_[A-Z0-9_]+|(?:OPENAI|OLLAMA|ANTHROPIC|GROQ|AWS)_[A-Z_]+|SENTRY_[A-Z_]+|STRIPE_[A-Z_]+|[A-Z]+_MULTIPROC_DIR|(?:DATABASE|REDIS)_URL)["']"""
)


def start(**environment: str) -> subprocess.CompletedProcess[str]:
    code = (
        "from agentvoicebox import settings as s; "
        "print(s.SECURE_HSTS_SECONDS, s.SECURE_SSL_REDIRECT, s.SESSION_COOKIE_SECURE, s.DATABASES['default'])"
    )
    kept = {name: value for name, value in os.environ.items() if not READ.fullmatch(f'"{name}"')}
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=REPOSITORY,
        env=kept | environment,
        capture_output=True,
        text=True,
        check=False,
    )


PRODUCTION = {
    "AVB_ENVIRONMENT": "production", "AVB_SECRET_KEY": "x" * 50, "AVB_ALLOWED_HOSTS": "voice.example",
    "DATABASE_URL": "postgresql://avb@db/avb", "REDIS_URL": "redis://cache/0",
    "AVB_MASTER_KEY": "file:/run/secrets/master_key",
}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("AVB_ENVIRONMENT", "prod"),
        ("AVB_POSTGRES_POOL_SIZE", "many"),
        ("AVB_POSTGRES_POOL_SIZE", "-1"),
        ("AVB_POSTGRES_READ_TIMEOUT_MS", "1s"),
        ("AVB_API_PAGE_SIZE", "0"),
        ("AVB_LOG_LEVEL", "LOUD"),
        ("AVB_LOG_FORMAT", "xml"),
        ("AVB_SSL_REDIRECT", "perhaps"),
        ("AVB_MASTER_KEY", "c2hvcnQ="),
        ("AVB_MASTER_KEY", "safe:/under/the/bed"),
        ("AVB_MASTER_KEY_PREVIOUS", "file:/one,two"),
        ("AVB_RETENTION_DAYS", "0"),
    ],
)
def test_a_wrong_value_stops_the_start_with_its_name(name: str, value: str) -> None:
    result = start(**{name: value})
    assert result.returncode != 0
    assert name in result.stderr.strip().splitlines()[-1]


@pytest.mark.parametrize("name", ["AVB_SECRET_KEY", "AVB_ALLOWED_HOSTS", "AVB_MASTER_KEY", "DATABASE_URL", "REDIS_URL"])
def test_production_has_no_default_for_what_matters(name: str) -> None:
    result = start(**{key: value for key, value in PRODUCTION.items() if key != name})
    assert result.returncode != 0
    assert name in result.stderr.strip().splitlines()[-1]


def test_production_is_strict_and_dev_is_not() -> None:
    strict, easy = start(**PRODUCTION), start()
    assert strict.stdout.startswith("31536000 True True"), strict.stderr
    assert easy.stdout.startswith("0 False False"), easy.stderr
    assert "statement_timeout=5000" in strict.stdout


def test_every_variable_that_is_read_is_described_and_none_besides() -> None:
    files = [REPOSITORY / "manage.py", *(file for room in ROOMS for file in (REPOSITORY / room).rglob("*.py"))]
    read = {name for file in files for name in READ.findall(file.read_text())}
    described = set(
        re.findall(r"^\| `([A-Z0-9_]+)` \|", (REPOSITORY / "docs/configuration.md").read_text(), re.MULTILINE)
    )
    assert read - described == set(), "docs/configuration.md lacks these"
    assert described - read == set(), "nothing reads these any more"
