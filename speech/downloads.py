"""Files over https, kept until they are whole: interrupted transfers resume, dead hosts are asked once."""

import http.client
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

CHUNK = 1 << 20
TIMEOUT_S = 20
ATTEMPTS = 4
PAUSES_S = (0.5, 2, 5)
LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
USER_AGENT = "agentvoicebox"

Tell = Callable[[int, int], None]
T = TypeVar("T")


class DownloadFailed(Exception):
    """An address did not give its file; the message says why."""


class Downloads:
    """Finished and half-finished files in ``directory``, by their address."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._unreachable: dict[str, str] = {}

    def read(self, url: str, *, limit: int = 64 << 20, accept: str = "*/*") -> bytes:
        """A small document, whole. Raises DownloadFailed."""
        return self._attempt(url, lambda: self._read(url, limit, accept))

    def get(self, url: str, tell: Tell, *, size: int | None = None) -> Path:
        """The downloaded file. ``size`` refuses an address that announces another one. Raises DownloadFailed."""
        self._directory.mkdir(parents=True, exist_ok=True)
        name = urllib.parse.quote(url.split("://", 1)[1], safe="")[-200:]
        finished, partial = self._directory / name, self._directory / f"{name}.partial"
        if not finished.exists():
            self._attempt(url, lambda: self._transfer(url, partial, tell, size))
            partial.replace(finished)
        return finished

    def clear(self) -> None:
        """Forget every file."""
        if self._directory.is_dir():
            for file in self._directory.iterdir():
                file.unlink()
            self._directory.rmdir()

    def _attempt(self, url: str, step: Callable[[], T]) -> T:
        host = urllib.parse.urlsplit(url).netloc
        if host in self._unreachable:
            raise DownloadFailed(self._unreachable[host])
        for attempt in range(ATTEMPTS):
            try:
                return step()
            except urllib.error.HTTPError as error:
                if error.code < 500 and error.code != 429:
                    raise DownloadFailed(f"{url} answered {error.code} {error.reason}") from error
                reason = f"{url} answered {error.code} {error.reason}"
            except urllib.error.URLError as error:
                # Nothing was ever connected: another source may be nearer than another try.
                self._unreachable[host] = f"{host} cannot be reached: {error.reason}{_advice(error.reason)}"
                raise DownloadFailed(self._unreachable[host]) from error
            except (http.client.HTTPException, OSError) as error:
                reason = f"the transfer from {url} broke off: {error or type(error).__name__}"
            if attempt + 1 < ATTEMPTS:
                time.sleep(PAUSES_S[attempt])
        raise DownloadFailed(f"{reason} ({ATTEMPTS} tries)")

    def _read(self, url: str, limit: int, accept: str) -> bytes:
        with _open(url, {"Accept": accept}) as response:
            document = response.read(limit + 1)
        if len(document) > limit:
            raise DownloadFailed(f"{url} is longer than {limit} bytes")
        return document

    def _transfer(self, url: str, partial: Path, tell: Tell, size: int | None) -> None:
        have = partial.stat().st_size if partial.exists() else 0
        with _open(url, {"Range": f"bytes={have}-"} if have else {}) as response:
            resumed = response.status == 206
            done = have if resumed else 0
            announced = response.headers.get("Content-Length")
            total = done + int(announced) if announced else size or 0
            if size is not None and announced and total != size:
                raise DownloadFailed(f"{url} is {total} bytes long, expected {size}")
            with partial.open("ab" if resumed else "wb") as stream:
                while chunk := response.read(CHUNK):
                    stream.write(chunk)
                    done += len(chunk)
                    tell(done, total)
            if total and done < total:
                raise http.client.IncompleteRead(b"", total - done)


def _open(url: str, headers: dict[str, str]) -> http.client.HTTPResponse:
    address = urllib.parse.urlsplit(url)
    if address.scheme != "https" and not (address.scheme == "http" and address.hostname in LOOPBACK):
        raise DownloadFailed(f"{url} is not an https address")
    request = urllib.request.Request(url, headers={"User-Agent": USER_AGENT, **headers})  # noqa: S310 - the scheme is checked above
    return urllib.request.urlopen(request, timeout=TIMEOUT_S)  # type: ignore[no-any-return]  # noqa: S310


def _advice(reason: object) -> str:
    if "CERTIFICATE_VERIFY_FAILED" in str(reason):
        return "; install ca-certificates, or set SSL_CERT_FILE to your organisation's certificates"
    return ""
