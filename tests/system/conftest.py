"""Products to call. All system tests run in one process, one product at a time: they share two cores."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from agentvoicebox.stack.postgres import EmbeddedPostgres
from speech import models
from speech.stt.whisper import Whisper
from tests.system.product import Product, scripted_llm

LONG_ANSWER = (
    "The library is open from Monday to Friday. You can borrow books for three weeks at a time. "
    "If you need longer, you can ask for more time at the desk. The reading room is on the second floor. "
    "There is a small garden behind the house where you can sit in the summer. "
    "Children are welcome every afternoon, and there is a story hour on Wednesday."
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "tests/system/" in str(item.path):
            item.add_marker(pytest.mark.xdist_group("system"))
            item.add_marker(pytest.mark.system)


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    directory = tmp_path_factory.mktemp("product")
    for parent in (directory, *directory.parents[:2]):
        parent.chmod(0o755)
    yield directory
    shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture(scope="module")
def product(state: Path) -> Iterator[Product]:
    """Real in every part, with the embedded language model."""
    product = Product(state, {})
    product.up()
    yield product
    product.down()


@pytest.fixture(scope="module")
def database(state: Path) -> Iterator[EmbeddedPostgres]:
    """A PostgreSQL beside the product, so that a test may stop it."""
    server = EmbeddedPostgres(state / "outside", fsync=False)
    with server:
        yield server


@pytest.fixture(scope="module")
def breakable(state: Path, database: EmbeddedPostgres) -> Iterator[Product]:
    """Real speech, queues and database; a scripted language model, so that the answer's words are known."""
    with scripted_llm(LONG_ANSWER) as url:
        product = Product(state, {"OPENAI_BASE_URL": url, "AVB_LLM_MODEL": "scripted", "DATABASE_URL": database.url})
        product.up()
        yield product
        product.down()


@pytest.fixture(scope="session")
def whisper() -> Whisper:
    """To hear what the product says."""
    return Whisper(models.path("whisper-tiny.en"), device="cpu", threads=2)
