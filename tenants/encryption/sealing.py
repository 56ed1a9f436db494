"""Sealing what a tenant keeps: AES-256-GCM under the tenant's own data key, which a master key wraps.

``seal`` and ``unseal`` are for fields, ``seal_stream`` and ``unseal_stream`` for files of any size. Sealed bytes are
bound to their tenant and to a purpose (``"recording"``, ``"people.sso.client_secret"``): whoever unseals must name the
same two. The key's version is in the header, so a rotation needs no pause: old bytes open with the old version.

All four may ask the database and the master key's source when this process has not used the key lately: never call
them on the event loop of a live call.

Value:  magic 4 | format 1 | key version 4 | key fingerprint 4 | nonce 12 | ciphertext and tag
Stream: magic 4 | format 1 | key version 4 | key fingerprint 4 | chunk size 4 | salt 32 | chunks, each with its tag
"""

import os
import struct
from collections.abc import Iterable, Iterator

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from tenants.encryption import accounting
from tenants.encryption.data_keys import OpenKey, active_key, key_of_version
from tenants.encryption.errors import EncryptionError, Tampered, Truncated, WrongKey

FORMAT = 1
VALUE, STREAM = b"AVBv", b"AVBs"
HEADER = struct.Struct(">4sBI4s")
STREAM_HEADER = struct.Struct(">I32s")
NONCE_BYTES, TAG_BYTES, SALT_BYTES = 12, 16, 32
CHUNK_BYTES = 64 * 1024
MAX_CHUNK_BYTES = 16 * 1024 * 1024
"""No larger chunk is believed: its size is read before anything is authenticated."""
VERSION_OFFSET, VERSION_BYTES = 5, 4
"""Where the key's version is, in either kind."""


def seal(tenant: str, plaintext: bytes, *, purpose: str) -> bytes:
    """``tenant`` is a schema name. 41 bytes longer than ``plaintext``, different each time. Raises EncryptionError."""
    key = active_key(tenant)
    header = HEADER.pack(VALUE, FORMAT, key.version, key.fingerprint)
    nonce = os.urandom(NONCE_BYTES)
    return header + nonce + AESGCM(key.key).encrypt(nonce, plaintext, _bound_to(header, tenant, purpose))


def unseal(tenant: str, sealed: bytes, *, purpose: str) -> bytes:
    """What was sealed. Raises Tampered (changed, or another purpose), WrongKey (another tenant's), MasterKeyMissing,
    KeySourceUnavailable."""
    header, rest = sealed[: HEADER.size], sealed[HEADER.size :]
    with _refusals(tenant, sealed):
        key, bound = _key_for(tenant, header, VALUE), _bound_to(header, tenant, purpose)
        try:
            return AESGCM(key.key).decrypt(rest[:NONCE_BYTES], rest[NONCE_BYTES:], bound)
        except (InvalidTag, ValueError) as error:
            raise _tampered() from error


def seal_stream(tenant: str, plaintext: Iterable[bytes], *, purpose: str) -> Iterator[bytes]:
    """The sealed file, piece by piece, of pieces of any size; at most one chunk is in memory. Raises EncryptionError
    at the first piece."""
    key = active_key(tenant)
    header = HEADER.pack(STREAM, FORMAT, key.version, key.fingerprint)
    salt = os.urandom(SALT_BYTES)
    header += STREAM_HEADER.pack(CHUNK_BYTES, salt)
    cipher, bound = AESGCM(_stream_key(key, salt)), _bound_to(header, tenant, purpose)
    yield header
    for position, (chunk, is_last) in enumerate(_chunks(plaintext, CHUNK_BYTES)):
        yield cipher.encrypt(_chunk_nonce(position, is_last), chunk, bound)


def unseal_stream(tenant: str, sealed: Iterable[bytes], *, purpose: str) -> Iterator[bytes]:
    """The file again. Every piece given is authentic and in its place; only the end of the iteration says that nothing
    is missing. Raises what ``unseal`` raises, and Truncated."""
    pieces = _Pieces(sealed)
    header = pieces.take(HEADER.size)
    with _refusals(tenant, header):
        key = _key_for(tenant, header, STREAM)
        shape = pieces.take(STREAM_HEADER.size)
        if len(shape) < STREAM_HEADER.size:
            raise Truncated("A sealed stream ends inside its header.")
        chunk_bytes, salt = STREAM_HEADER.unpack(shape)
        if not 1 <= chunk_bytes <= MAX_CHUNK_BYTES:
            raise _tampered()
        cipher, bound = AESGCM(_stream_key(key, salt)), _bound_to(header + shape, tenant, purpose)
        for position, (chunk, is_last) in enumerate(_chunks(pieces.rest(), chunk_bytes + TAG_BYTES)):
            try:
                plain = cipher.decrypt(_chunk_nonce(position, is_last), chunk, bound)
            except (InvalidTag, ValueError) as error:
                raise _end_fault(cipher, position, chunk, bound) if is_last else _tampered() from error
            if plain:
                yield plain


def sealed_version(sealed: bytes) -> int:
    """The version of the data key that sealed a value, or a stream that begins so. Raises Tampered."""
    if len(sealed) < HEADER.size:
        raise _tampered()
    magic, form, version, _ = HEADER.unpack(sealed[: HEADER.size])
    if magic not in (VALUE, STREAM) or form != FORMAT:
        raise _tampered()
    return int(version)


class _refusals:  # noqa: N801  (reads as a statement)
    """Puts what cannot be opened on record."""

    def __init__(self, tenant: str, sealed: bytes) -> None:
        self.tenant, self.sealed = tenant, sealed

    def __enter__(self) -> None:
        return None

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        if isinstance(error, Tampered | WrongKey):
            accounting.count_refusal(self.tenant, _claimed_version(self.sealed), error)


def _claimed_version(sealed: bytes) -> int:
    try:
        return sealed_version(sealed)
    except EncryptionError:
        return 0


def _key_for(tenant: str, header: bytes, magic: bytes) -> OpenKey:
    version = sealed_version(header)
    if header[:4] != magic:
        raise Tampered("Values and streams are sealed differently: this is the other one of the two.")
    key = key_of_version(tenant, version)
    if header[-4:] != key.fingerprint:
        raise WrongKey(f"This was not sealed by the data key {version} of {tenant}.")
    return key


def _bound_to(header: bytes, tenant: str, purpose: str) -> bytes:
    if not tenant or not purpose:
        raise ValueError("sealing needs the name of a tenant's schema and a purpose")
    return header + b"".join(struct.pack(">I", len(part)) + part for part in (tenant.encode(), purpose.encode()))


def _stream_key(key: OpenKey, salt: bytes) -> bytes:
    """A key of its own for each stream, so that counting chunks from 0 never repeats a nonce."""
    return HKDF(SHA256(), 32, salt, b"avb stream").derive(key.key)


def _chunk_nonce(position: int, is_last: bool) -> bytes:
    """The place in the stream and whether it ends here: a chunk that is moved, or cut behind, does not open."""
    return position.to_bytes(11, "big") + bytes([is_last])


def _chunks(pieces: Iterable[bytes], size: int) -> Iterator[tuple[bytes, bool]]:
    """Chunks of ``size`` bytes, and whether it is the last one, which may be shorter or, alone, empty."""
    held = bytearray()
    for piece in pieces:
        held += piece
        while len(held) > size:
            yield bytes(held[:size]), False
            del held[:size]
    yield bytes(held), True


def _end_fault(cipher: AESGCM, position: int, chunk: bytes, bound: bytes) -> EncryptionError:
    """Why the last chunk there is does not open as the last one."""
    if len(chunk) < TAG_BYTES:
        return Truncated("A sealed stream ends inside a chunk.")
    try:
        cipher.decrypt(_chunk_nonce(position, False), chunk, bound)
    except InvalidTag:
        return _tampered()
    return Truncated("A sealed stream ends before its last chunk.")


def _tampered() -> Tampered:
    return Tampered("These bytes are not what was sealed for this tenant and purpose.")


class _Pieces:
    """An iterable of bytes from which a head can be taken."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self._pieces = iter(pieces)
        self._held = b""

    def take(self, size: int) -> bytes:
        while len(self._held) < size:
            piece = next(self._pieces, None)
            if piece is None:
                break
            self._held += piece
        taken, self._held = self._held[:size], self._held[size:]
        return taken

    def rest(self) -> Iterator[bytes]:
        yield self._held
        yield from self._pieces
