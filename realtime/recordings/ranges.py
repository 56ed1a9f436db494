"""HTTP's ``Range: bytes=…`` (RFC 9110, section 14): one range; several at once are answered with the whole."""

import re

ONE_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})", re.ASCII)


class RangeUnsatisfiable(Exception):
    """The range begins behind the end."""


def read_range(header: str | None, size: int) -> tuple[int, int] | None:
    """First byte, and the one after the last; None for all of it. Raises RangeUnsatisfiable."""
    match = ONE_RANGE.fullmatch(header.replace(" ", "")) if header else None
    if match is None or match.group(0) == "bytes=-":
        return None
    first, last = match.groups()
    if not first:
        start, end = max(size - int(last), 0), size
        if not int(last):
            raise RangeUnsatisfiable
    else:
        start, end = int(first), min(int(last) + 1, size) if last else size
        if last and int(last) < start:
            return None  # not a range: it counts as not sent
    if start >= size:
        raise RangeUnsatisfiable
    return start, end
