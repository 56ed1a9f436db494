"""Published packages as archives: a wheel from PyPI or a tarball from npm, checked against its index's hash."""

import base64
import hashlib
import html.parser
import os
import re
import tarfile
import urllib.parse
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, Protocol

import msgspec

from speech.downloads import DownloadFailed, Downloads, Tell

CHUNK = 1 << 20


class Archive(Protocol):
    def read(self, member: str) -> Iterator[bytes]:
        """One member's bytes, in chunks. Raises DownloadFailed when the package has no such member."""
        ...

    def close(self) -> None: ...


def open_archive(kind: Literal["hub", "pypi", "npm"], package: str, downloads: Downloads, tell: Tell) -> Archive:
    """Download ``name==version``, compare it with the hash its index publishes, open it. Raises DownloadFailed."""
    name, _, version = package.partition("==")
    if kind == "npm":
        return Tarball(_download_npm(name, version, downloads, tell))
    return Wheel(_download_wheel(name, version, downloads, tell))


class Wheel:
    def __init__(self, path: Path) -> None:
        self._zip = zipfile.ZipFile(path)

    def read(self, member: str) -> Iterator[bytes]:
        try:
            stream = self._zip.open(member)
        except KeyError:
            raise DownloadFailed(f"{self._zip.filename} has no member {member}") from None
        with stream:
            while chunk := stream.read(CHUNK):
                yield chunk

    def close(self) -> None:
        self._zip.close()


class Tarball:
    def __init__(self, path: Path) -> None:
        self._tar = tarfile.open(path)  # noqa: SIM115 - closed by close()

    def read(self, member: str) -> Iterator[bytes]:
        try:
            stream = self._tar.extractfile(member)
        except KeyError:
            stream = None
        if stream is None:
            raise DownloadFailed(f"{self._tar.name!r} has no file {member}")
        while chunk := stream.read(CHUNK):
            yield chunk

    def close(self) -> None:
        self._tar.close()


def _download_wheel(name: str, version: str, downloads: Downloads, tell: Tell) -> Path:
    index = os.environ.get("AVB_PYPI_URL", "https://pypi.org").rstrip("/")
    page_url = f"{index}/simple/{re.sub(r'[-_.]+', '-', name).lower()}/"
    links = _Links(page_url)
    links.feed(downloads.read(page_url, accept="text/html").decode())
    prefix = f"{re.sub(r'[-_.]+', '_', name).lower()}-{version}-"
    for url in links.urls:
        address, fragment = urllib.parse.urldefrag(url)
        file_name = urllib.parse.unquote(address.rsplit("/", 1)[1]).lower()
        if file_name.startswith(prefix) and file_name.endswith("-any.whl"):
            if not fragment.startswith("sha256="):
                raise DownloadFailed(f"{page_url} publishes no SHA-256 for {file_name}")
            archive = downloads.get(address, tell)
            _compare(archive, "sha256", bytes.fromhex(fragment.removeprefix("sha256=")), page_url)
            return archive
    raise DownloadFailed(f"{page_url} has no wheel of version {version}")


class _Links(html.parser.HTMLParser):
    """The addresses on a package index page (PEP 503), made absolute."""

    def __init__(self, page_url: str) -> None:
        super().__init__()
        self._page_url = page_url
        self.urls: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "a" and (href := dict(attrs).get("href")):
            self.urls.append(urllib.parse.urljoin(self._page_url, href))


class _NpmDist(msgspec.Struct):
    tarball: str
    integrity: str


class _NpmVersion(msgspec.Struct):
    dist: _NpmDist


def _download_npm(name: str, version: str, downloads: Downloads, tell: Tell) -> Path:
    registry = os.environ.get("AVB_NPM_URL", "https://registry.npmjs.org").rstrip("/")
    url = f"{registry}/{urllib.parse.quote(name, safe='@')}/{version}"
    dist = msgspec.json.decode(downloads.read(url, accept="application/json"), type=_NpmVersion).dist
    algorithm, _, digest = dist.integrity.partition("-")
    archive = downloads.get(dist.tarball, tell)
    _compare(archive, algorithm, base64.b64decode(digest), url)
    return archive


def _compare(archive: Path, algorithm: str, published: bytes, index: str) -> None:
    with archive.open("rb") as stream:
        found = hashlib.file_digest(stream, algorithm).digest()
    if found != published:
        archive.unlink()
        raise DownloadFailed(
            f"{archive.name}: {index} publishes {algorithm} {published.hex()}, the downloaded file has {found.hex()}"
        )
