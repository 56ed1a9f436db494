"""What processes print: kept in rotated files, and shown with the process's name in front."""

import json
import os
import sys
from pathlib import Path
from typing import IO

MAX_FILE_BYTES = 10 << 20
KEPT_FILES = 3
COLOURS = (36, 35, 33, 32, 34, 96, 95, 93)
LEVEL_COLOURS = {"WARNING": 33, "ERROR": 31, "CRITICAL": 31}
# Shown in front of the message, or of no use to a person.
QUIET_KEYS = frozenset(
    {"timestamp", "level", "service", "logger", "message", "exc_info"}
    | {"taskName", "color_message", "trace_id", "correlation_id"}
)


class LogFile:
    """``<name>.log`` in the directory, and ``<name>.log.1`` … for what has grown past 10 MiB."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path
        self._stream = path.open("ab")
        path.chmod(0o600)  # the first start prints a key and a password

    def write(self, line: bytes) -> None:
        """Append one line, given without its end."""
        if self._stream.tell() + len(line) > MAX_FILE_BYTES:
            self._rotate()
        self._stream.write(line + b"\n")
        self._stream.flush()

    def close(self) -> None:
        self._stream.close()

    def _rotate(self) -> None:
        self._stream.close()
        for number in range(KEPT_FILES, 0, -1):
            older = self._path.with_name(f"{self._path.name}.{number}")
            newer = self._path.with_name(f"{self._path.name}.{number - 1}") if number > 1 else self._path
            if newer.exists():
                os.replace(newer, older)
        self._stream = self._path.open("ab")


class Console:
    """Lines of many processes on one terminal. ``json_logs`` passes them on as they are, without a name in front."""

    def __init__(self, *, json_logs: bool = False, stream: IO[str] | None = None) -> None:
        self._stream = stream or sys.stdout
        self._json_logs = json_logs
        self._colours = not json_logs and self._stream.isatty() and "NO_COLOR" not in os.environ
        self._by_name: dict[str, int] = {}

    def show(self, name: str, line: str) -> None:
        """One line of one process."""
        if self._json_logs:
            self._print(line)
            return
        colour = self._by_name.setdefault(name, COLOURS[len(self._by_name) % len(COLOURS)])
        self._print(f"{self._paint(f'{name:<8} |', colour)} {self.render(line)}")

    def say(self, message: str) -> None:
        """One line of our own."""
        if self._json_logs:
            self._print(json.dumps({"level": "INFO", "service": "avb", "message": message}))
        else:
            self._print(f"{self._paint('avb      |', 1)} {message}")

    def render(self, line: str) -> str:
        """A JSON log line as a person reads it; any other line as it is."""
        if not line.startswith("{"):
            return line
        try:
            record = json.loads(line)
            time, level, message = record["timestamp"][11:19], record["level"], record["message"]
        except (ValueError, KeyError, TypeError):
            return line
        rest = " ".join(f"{key}={value}" for key, value in record.items() if key not in QUIET_KEYS and value)
        shown = f"{time} {self._paint(f'{level:<7}', LEVEL_COLOURS.get(level, 2))} {message}"
        if rest:
            shown += "  " + self._paint(rest, 2)
        return f"{shown}\n{record['exc_info']}" if record.get("exc_info") else shown

    def _paint(self, text: str, colour: int) -> str:
        return f"\033[{colour}m{text}\033[0m" if self._colours else text

    def _print(self, line: str) -> None:
        try:
            print(line, file=self._stream, flush=True)
        except BrokenPipeError:
            # Nobody reads any more; the files still have every line. Without this, the end of a pager would end calls.
            self._stream = open(os.devnull, "w")  # noqa: SIM115
