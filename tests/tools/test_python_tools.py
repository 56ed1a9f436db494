"""Python tools: what a function's signature becomes, and a package that is really installed with its entry points."""

import asyncio
import logging
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest

from agents.tools import python
from agents.tools.python import PythonRunner, find_python_tool, list_python_tools
from agents.tools.sdk import Meta, PythonTool, ToolContext, ToolFailed, ToolInvalid, tool

ROOT = Path(__file__).parents[2]
CONTEXT = ToolContext(
    tenant="alpha", session_id="sess_1", call_id="item_1", agent="desk", agent_version=1,
    values={"caller.name": "Ann"},
)  # fmt: skip


def find_uv() -> str:
    own = sorted((ROOT / ".avb/bin").glob("uv-*"))
    found = os.environ.get("AVB_UV") or shutil.which("uv") or (str(own[-1]) if own else "")
    assert found, "./avb has fetched uv into .avb/bin, or AVB_UV says where it is"
    return found


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The example package, built and installed as any other, in a place of its own."""
    place = tmp_path_factory.mktemp("installed")
    source = shutil.copytree(ROOT / "tests/tools/example_package", place / "source")
    site = place / "site"
    subprocess.run(
        [find_uv(), "pip", "install", "--quiet", "--offline", "--no-deps", "--python", sys.executable,
         "--target", site, source],
        check=True, env={**os.environ, "UV_CACHE_DIR": str(place / "cache")},
    )  # fmt: skip
    sys.path.insert(0, str(site))
    python._load.cache_clear()
    yield site
    sys.path.remove(str(site))
    python._load.cache_clear()


@pytest.fixture
async def runner() -> AsyncIterator[PythonRunner]:
    found = PythonRunner()
    yield found
    found.stop()


async def run(runner: PythonRunner, name: str, **arguments: Any) -> Any:
    spec = find_python_tool(name)
    assert spec is not None
    return await runner.run(spec.config, arguments, CONTEXT, spec.timeout_s)


def test_installed_tools_are_found(installed: Path, caplog: pytest.LogCaptureFixture) -> None:
    python._load.cache_clear()
    with caplog.at_level(logging.ERROR):
        assert [spec.name for spec in list_python_tools()] == ["break_down", "find_order", "read_slowly"]
    told = " ".join(record.getMessage() for record in caplog.records)
    assert "missing" in told, "what cannot be loaded is left out, and the log says so"
    assert "no_tool" in told
    spec = find_python_tool("find_order")
    assert spec is not None
    assert (spec.kind, spec.integration, spec.timeout_s, spec.calls_per_minute) == ("python", "warehouse", 2.0, 30)
    assert spec.description == "Looks up an order of the caller.\n\nAny order of the last year can be found."
    assert spec.parameters == {
        "type": "object",
        "properties": {
            "number": {
                "type": "string", "pattern": "^[0-9]{6}$",
                "description": "the six digits on the invoice, without spaces",
            },
            "with_items": {"type": "boolean", "default": False, "description": "also tell what is in it"},
        },
        "required": ["number"],
        "additionalProperties": False,
    }  # fmt: skip
    assert find_python_tool("nosuch") is None


def test_a_process_that_has_the_package_has_its_tools(installed: Path) -> None:
    code = "from agents.tools.python import list_python_tools; print(*(t.name for t in list_python_tools()))"
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], env={"PYTHONPATH": f"{ROOT}:{installed}"}, cwd="/", text=True,
        capture_output=True, check=True,
    )  # fmt: skip
    assert done.stdout.split() == ["break_down", "find_order", "read_slowly"]


async def test_a_tool_knows_for_whom_it_runs(installed: Path, runner: PythonRunner) -> None:
    outcome = await run(runner, "find_order", number="123456")
    assert outcome.output == '{"number":"123456","status":"sent","for_whom":"Ann"}'
    assert outcome.sent == {"arguments": {"number": "123456"}}
    assert (outcome.healthy, outcome.outcome) == (True, "completed")


async def test_a_tool_can_say_no(installed: Path, runner: PythonRunner) -> None:
    outcome = await run(runner, "find_order", number="000000")
    assert outcome.error.wire() == {"type": "tool_execution_error", "message": "There is no order 000000."}
    assert outcome.healthy is True


async def test_arguments_of_another_type_are_refused(installed: Path, runner: PythonRunner) -> None:
    outcome = await run(runner, "find_order", number=7)
    assert outcome.outcome == "refused"
    assert "Expected `str`, got `int` - at `$.number`" in outcome.error.message


async def test_nothing_of_an_exception_is_told(
    installed: Path, runner: PythonRunner, caplog: pytest.LogCaptureFixture
) -> None:
    outcome = await run(runner, "break_down")
    assert (outcome.error.message, outcome.healthy) == ("break_down failed.", False)
    assert "hunter2" not in repr(outcome) + caplog.text
    assert "the Python tool break_down failed: RuntimeError" in caplog.text


async def test_what_blocks_does_not_block_calls(installed: Path, runner: PythonRunner) -> None:
    began = time.monotonic()
    both = asyncio.gather(run(runner, "read_slowly", seconds=0.5), run(runner, "read_slowly", seconds=0.5))
    await asyncio.sleep(0.05)
    assert time.monotonic() - began < 0.4, "the event loop goes on meanwhile"
    assert all(outcome.output.startswith("read by python-tool") for outcome in await both)
    assert time.monotonic() - began < 0.95


@pytest.mark.parametrize("blocking", [False, True])
async def test_time_limits(runner: PythonRunner, blocking: bool) -> None:
    ended = threading.Event()

    @tool
    async def waits() -> str:
        try:
            await asyncio.sleep(30)
        finally:
            ended.set()
        return "late"

    @tool
    def blocks() -> str:
        ended.wait(5)
        return "late"

    chosen = blocks if blocking else waits
    outcome = await runner.run(chosen, {}, CONTEXT, 0.2)
    assert (outcome.outcome, outcome.healthy) == ("timeout", False)
    assert "0.2 s" in outcome.error.message
    if blocking:
        ended.set()
    assert await asyncio.to_thread(ended.wait, 2), "a coroutine is cancelled"


async def test_a_coroutine_that_blocks_holds_up_no_call(runner: PythonRunner) -> None:
    @tool
    async def careless() -> str:
        time.sleep(0.5)  # noqa: ASYNC251 - that is the point
        return "done"

    task = asyncio.create_task(runner.run(careless, {}, CONTEXT, 5.0))
    await asyncio.sleep(0)
    began = time.monotonic()
    await asyncio.sleep(0.05)
    assert time.monotonic() - began < 0.4
    assert (await task).output == "done"


@dataclass
class Place:
    city: str
    country: str = "DE"


def test_types_become_json_schema() -> None:
    @tool(name="plan-trip", needs_approval=True)
    def plan(to: Place, seats: Annotated[int, Meta(ge=1)] = 1, by: Literal["rail", "air"] | None = None) -> str:
        """Plans a trip.

        Returns:
            not for the model
        """
        return f"{seats} to {to.city} by {by}"

    assert isinstance(plan, PythonTool)
    assert (plan.spec.name, plan.spec.description, plan.spec.needs_approval) == ("plan-trip", "Plans a trip.", True)
    properties = plan.spec.parameters["properties"]
    assert properties["seats"] == {"type": "integer", "minimum": 1, "default": 1}
    assert properties["to"] == {"$ref": "#/$defs/Place"}
    assert plan.spec.parameters["$defs"]["Place"]["required"] == ["city"]
    bound = plan.bind({"to": {"city": "Bonn"}, "by": "rail"}, CONTEXT)
    assert plan(**bound) == "1 to Bonn by rail", "a tool is still its function"


def _variadic(*numbers: int) -> str:
    return ""


def _untyped(number) -> str:  # type: ignore[no-untyped-def]
    return str(number)


def _no_json(callback: threading.Event) -> str:
    return ""


@pytest.mark.parametrize("function", [_variadic, _untyped, _no_json, lambda: ""])
def test_functions_that_can_be_no_tool(function: Any) -> None:
    with pytest.raises(ToolInvalid):
        tool(function)


def test_a_failure_is_an_exception_with_words() -> None:
    with pytest.raises(ToolFailed, match="No such order"):
        raise ToolFailed("No such order.")
