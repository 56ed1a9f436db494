"""Products to call. All system tests run in one process, one product at a time: they share two cores."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from agentvoicebox.stack.postgres import EmbeddedPostgres
from speech import models
from speech.stt.whisper import Whisper
from tests.llm.server import ChatServer
from tests.system.product import Product, scripted_llm, words

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


def make_state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A state directory that PostgreSQL's own account can reach."""
    directory = tmp_path_factory.mktemp("product")
    for parent in (directory, *directory.parents[:2]):
        parent.chmod(0o755)
    return directory


@pytest.fixture(scope="session")
def product(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Product]:
    """Real in every part, with the embedded language model."""
    product = Product(make_state(tmp_path_factory), {})
    product.up()
    yield product
    product.down()


@pytest.fixture(scope="session")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedPostgres]:
    """A PostgreSQL beside the product, so that a test may stop it."""
    server = EmbeddedPostgres(make_state(tmp_path_factory) / "postgres", fsync=False)
    with server:
        yield server


@pytest.fixture(scope="session")
def scripted(
    tmp_path_factory: pytest.TempPathFactory, database: EmbeddedPostgres
) -> Iterator[tuple[Product, ChatServer]]:
    with scripted_llm() as llm:
        environment = {
            "OPENAI_BASE_URL": llm.url,
            "AVB_LLM_MODEL": "scripted",
            "DATABASE_URL": database.url,
            "AVB_SPEECH_ANSWER_S": "30",  # a worker that is killed comes back slowly on a machine that runs tests
            "AVB_EGRESS_PRIVATE_NETWORKS": "127.0.0.0/8",  # tools and providers of tests are on this machine
        }
        product = Product(make_state(tmp_path_factory), environment)
        product.up()
        yield product, llm
        product.down()


@pytest.fixture
def llm(scripted: tuple[Product, ChatServer]) -> ChatServer:
    """The language model of ``breakable``; it gives LONG_ANSWER unless told otherwise."""
    scripted[1].say(*words(LONG_ANSWER), usage={"prompt_tokens": 1, "completion_tokens": 9})
    return scripted[1]


@pytest.fixture
def breakable(scripted: tuple[Product, ChatServer], llm: ChatServer) -> Product:
    """Real speech, queues and database; a scripted language model, so that the answer's words are known."""
    scripted[0].wait_ready()
    return scripted[0]


@pytest.fixture(scope="session")
def whisper() -> Whisper:
    """To hear what the product says."""
    return Whisper(models.path("whisper-tiny.en"), device="cpu", threads=2)
