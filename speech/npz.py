"""An .npz of float32 arrays whose bytes depend on nothing but the arrays.

``zipfile`` writes ZIP64 headers differently from one Python to the next, and the finished file's hash is pinned: so the
few fields are written here, as ``numpy.savez`` does on current Pythons (stored, dated 1980, ZIP64 sizes up front).
"""

import struct
import zlib
from collections.abc import Iterable

SHAPE = (510, 1, 256)
ZIP64_VERSION = 45
UNIX = 3
DATE_1980 = 0x0021
IN_ZIP64_FIELD = 0xFFFFFFFF
OWNER_MAY_READ_AND_WRITE = 0o600 << 16


def write_npz(arrays: Iterable[tuple[str, bytes]]) -> bytes:
    """``arrays``: member name and little-endian float32 content of shape ``SHAPE``."""
    header = _npy_header()
    body, directory, count = bytearray(), bytearray(), 0
    for name, array in arrays:
        encoded, content, offset = name.encode(), header + array, len(body)
        checksum, size = zlib.crc32(content), len(content)
        body += struct.pack(
            "<4s5H3L2H", b"PK\3\4", ZIP64_VERSION, 0, 0, 0, DATE_1980, checksum, IN_ZIP64_FIELD, IN_ZIP64_FIELD,
            len(encoded), 20,
        ) + encoded + struct.pack("<2H2Q", 1, 16, size, size) + content  # fmt: skip
        directory += struct.pack(
            "<4s4B4H3L5H2L", b"PK\1\2", ZIP64_VERSION, UNIX, ZIP64_VERSION, 0, 0, 0, 0, DATE_1980, checksum, size, size,
            len(encoded), 0, 0, 0, 0, OWNER_MAY_READ_AND_WRITE, offset,
        ) + encoded  # fmt: skip
        count += 1
    end = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, count, count, len(directory), len(body), 0)
    return bytes(body + directory + end)


def _npy_header() -> bytes:
    """Version 1.0, padded so that the data begin at a multiple of 64."""
    text = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {SHAPE}, }}".encode()
    text += b" " * (-(len(text) + 11) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text
