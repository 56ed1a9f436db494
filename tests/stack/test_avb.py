"""The shell command: sound as a script, and clear when a machine has no Python for it."""

import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
TOOLS = Path(sys.executable).parent
SCRIPTS = ("avb", ".ci/run")


@pytest.mark.parametrize("script", SCRIPTS)
def test_it_is_posix_shell(script: str) -> None:
    checked = subprocess.run(["sh", "-n", REPOSITORY / script], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stderr
    assert os.access(REPOSITORY / script, os.X_OK)


@pytest.mark.skipif(platform.machine() != "x86_64", reason="ShellCheck has a wheel for x86_64 only")
@pytest.mark.parametrize("script", SCRIPTS)
def test_shellcheck_finds_nothing(script: str) -> None:
    checked = subprocess.run([TOOLS / "shellcheck", REPOSITORY / script], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout


@pytest.fixture
def bare_copy(tmp_path: Path) -> Path:
    """The command, its lock and a PATH with core tools only, in a path with a space."""
    copy = tmp_path / "a copy"
    (copy / "bin").mkdir(parents=True)
    for name in ("avb", "uv.lock", "pyproject.toml"):
        shutil.copy(REPOSITORY / name, copy / name)
    for tool in ("sh", "readlink", "dirname", "cat", "cksum", "mkdir", "grep"):
        (copy / "bin" / tool).symlink_to(shutil.which(tool))  # type: ignore[arg-type]
    return copy


def run_avb(copy: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [copy / "avb", "status"],
        env={"PATH": str(copy / "bin"), **environment},
        cwd="/",
        capture_output=True,
        text=True,
        check=False,
    )


def give_program(copy: Path, name: str, script: str) -> Path:
    program = copy / "bin" / name
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    return program


def test_without_a_python_it_says_what_to_install(bare_copy: Path) -> None:
    ended = run_avb(bare_copy)
    assert ended.returncode == 1
    assert "no Python from 3.11 to 3.14 was found. Install one" in ended.stderr


def test_too_old_a_python_is_passed_over(bare_copy: Path) -> None:
    give_program(bare_copy, "python3", "exit 1")
    assert "no Python from 3.11 to 3.14 was found" in run_avb(bare_copy).stderr
    named = run_avb(bare_copy, AVB_PYTHON=str(bare_copy / "bin" / "python3"))
    assert "which is not a Python from 3.11 to 3.14" in named.stderr


def test_a_wrong_extra_is_refused(bare_copy: Path) -> None:
    give_program(bare_copy, "python3", "exit 0")
    ended = run_avb(bare_copy, AVB_EXTRA="tpu")
    assert ended.returncode == 1
    assert "AVB_EXTRA is tpu; it must be cpu or gpu" in ended.stderr


def test_it_installs_once_and_again_when_the_lock_changes(bare_copy: Path) -> None:
    real = sys.executable
    give_program(bare_copy, "python3", f'case "$*" in *-V*) echo "Python 3.11.0" ;; -I*) exec {real} "$@" ;; esac')
    uv = give_program(
        bare_copy,
        "uv",
        f'echo "$*" >>{str(bare_copy / "calls").replace(" ", chr(92) + " ")}\n'
        'mkdir -p "$UV_PROJECT_ENVIRONMENT/bin"\n'
        'printf "#!/bin/sh\\necho ran \\"\\$@\\"\\n" >"$UV_PROJECT_ENVIRONMENT/bin/python"\n'
        f'{shutil.which("chmod")} +x "$UV_PROJECT_ENVIRONMENT/bin/python"',
    )

    def calls() -> list[str]:
        return (bare_copy / "calls").read_text().splitlines()

    for _ in range(2):
        ended = run_avb(bare_copy, AVB_UV=str(uv))
        assert ended.stdout == "ran -P -m agentvoicebox.cli status\n", ended.stderr
    assert len(calls()) == 1
    assert "--frozen --no-build --extra cpu --no-dev" in calls()[0]
    with (bare_copy / "uv.lock").open("a") as lock:
        lock.write("\n")
    run_avb(bare_copy, AVB_UV=str(uv))
    assert len(calls()) == 2
