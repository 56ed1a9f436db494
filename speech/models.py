"""The manifest of model files, and verified paths to them.

``path(name)`` is all that an engine needs: it hashes what lies in the cache and gives the path, or refuses by name.
It never writes, so the cache may be a read-only volume; ``pull`` is what fills it.
"""

import functools
import hashlib
import os
import tomllib
from collections.abc import Callable, Iterable
from pathlib import Path, PurePosixPath
from typing import Literal

import msgspec

MANIFEST_PATH = Path(__file__).with_name("models.toml")
REPOSITORY = Path(__file__).resolve().parents[1]


class ModelError(Exception):
    """A model cannot be used; the message says which file, why, and what to do."""


class UnknownModel(ModelError):
    """No such name in the manifest."""


class ModelMissing(ModelError):
    """A file of the model is not in the cache."""


class ModelCorrupt(ModelError):
    """A file in the cache does not have the bytes that the manifest names."""


class ModelUnavailable(ModelError):
    """No source gave the right bytes."""


class ModelFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One file: ``path`` inside the model's directory, ``size`` in bytes, ``sha256`` in lower-case hex."""

    path: str
    size: int
    sha256: str

    def __post_init__(self) -> None:
        inside = PurePosixPath(self.path)
        if inside.is_absolute() or ".." in inside.parts:
            raise ValueError(f"file path {self.path!r} leaves the model's directory")
        if len(self.sha256) != 64 or set(self.sha256) - set("0123456789abcdef"):
            raise ValueError(f"{self.path}: sha256 is not 64 lower-case hex digits")
        if self.size <= 0:
            raise ValueError(f"{self.path}: size must be positive")


class Part(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A member of a published package, written ``name==version``; ``sha256`` of the member where the join needs it."""

    package: str
    member: str
    sha256: str = ""


class Recipe(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How package members become one file."""

    parts: tuple[Part, ...]
    join: Literal["concat", "npz"] = "concat"


class Source(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A hub (``url`` with ``{file}``) or a package index (``build``: file path to recipe)."""

    kind: Literal["hub", "pypi", "npm"]
    url: str = ""
    build: dict[str, Recipe] = {}

    def __post_init__(self) -> None:
        if (self.kind == "hub") != bool(self.url) or (self.kind == "hub") == bool(self.build):
            raise ValueError("a hub source has a url, a pypi or npm source has a build table")


class Model(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One model: ``role`` is what it does for a call, ``entry`` the file an engine opens (empty: the directory)."""

    name: str
    role: Literal["stt", "tts", "voices", "llm", "vad", "turn"]
    engine: str
    licence: str
    files: tuple[ModelFile, ...]
    sources: tuple[Source, ...]
    entry: str = ""
    note: str = ""

    @property
    def size(self) -> int:
        """All files together, in bytes."""
        return sum(file.size for file in self.files)


class Progress(msgspec.Struct, frozen=True):
    """How far a pull is with one model. ``note`` is set when something is worth a line of its own."""

    model: str
    source: str
    done_bytes: int
    total_bytes: int
    note: str = ""


class _Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    models: tuple[Model, ...]


@functools.cache
def load_manifest(path: Path = MANIFEST_PATH) -> dict[str, Model]:
    """Name to model, in the manifest's order. A malformed one raises ``msgspec.ValidationError`` naming the place."""
    models = msgspec.convert(tomllib.loads(path.read_text()), _Manifest).models
    by_name = {model.name: model for model in models}
    if len(by_name) != len(models):
        raise ValueError(f"{path}: two models have the same name")
    for model in models:
        if model.entry and model.entry not in {file.path for file in model.files}:
            raise ValueError(f"{path}: {model.name}: entry {model.entry!r} is not one of its files")
    return by_name


def cache_dir() -> Path:
    """``AVB_MODELS_DIR``, else ``models`` inside the state directory (``AVB_STATE_DIR``, else ``.avb``)."""
    if chosen := os.environ.get("AVB_MODELS_DIR"):
        return Path(chosen)
    return Path(os.environ.get("AVB_STATE_DIR") or REPOSITORY / ".avb") / "models"


def find(name: str) -> Model:
    """The manifest's entry. Raises UnknownModel, listing the names there are."""
    manifest = load_manifest()
    if name not in manifest:
        raise UnknownModel(f"there is no model {name!r}; the manifest has: {', '.join(manifest)}")
    return manifest[name]


def path(name: str) -> Path:
    """The verified path of a model in the cache: its entry file, or its directory.

    Every file is hashed (0.3 s per 100 MB) once per process and again whenever it has changed since.
    Raises UnknownModel, ModelMissing or ModelCorrupt.
    """
    model = find(name)
    directory = cache_dir() / model.name
    for file in model.files:
        check_file(model, file, directory / file.path)
    return directory / model.entry if model.entry else directory


def check_file(model: Model, file: ModelFile, location: Path) -> None:
    """Raises ModelMissing or ModelCorrupt unless ``location`` holds exactly the bytes of ``file``."""
    remedy = f"run: ./avb models pull {model.name}"
    try:
        stat = location.stat()
    except (FileNotFoundError, NotADirectoryError):
        raise ModelMissing(f"model {model.name}: {location} is missing; {remedy}") from None
    seen = (stat.st_size, stat.st_mtime_ns, stat.st_ino, file.sha256)
    if _verified.get(location) == seen:
        return
    found = hash_file(location) if stat.st_size == file.size else f"not computed, its size is {stat.st_size}"
    if found != file.sha256:
        raise ModelCorrupt(
            f"model {model.name}: {location} is damaged or was changed: expected SHA-256 {file.sha256} "
            f"({file.size} bytes), found {found}; refusing to use it. To replace it, {remedy}"
        )
    _verified[location] = seen


_verified: dict[Path, tuple[int, int, int, str]] = {}


def hash_file(location: Path) -> str:
    """SHA-256 in hex."""
    with location.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def pull(names: Iterable[str], progress: Callable[[Progress], None] = lambda _: None) -> list[str]:
    """Make each model complete and verified in the cache; gives the names that had to be fetched.

    A complete cache costs no network and no write. Raises UnknownModel or ModelUnavailable.
    """
    wanted = [find(name) for name in dict.fromkeys(names)]
    incomplete = [model for model in wanted if not is_complete(model)]
    if incomplete:
        # Deferred: processes that only use models never load the network code.
        from speech import sources

        sources.fetch(incomplete, cache_dir(), progress)
    return [model.name for model in incomplete]


def is_complete(model: Model) -> bool:
    """Whether every file is in the cache with the right bytes."""
    try:
        for file in model.files:
            check_file(model, file, cache_dir() / model.name / file.path)
    except (ModelMissing, ModelCorrupt):
        return False
    return True
