"""Master keys: what wraps the data keys of tenants. No Django here; ``keyring`` knows which ones are configured.

How one is written, in ``AVB_MASTER_KEY`` and in each entry of ``AVB_MASTER_KEY_PREVIOUS``:

- ``<base64>``: the key itself, 32 bytes
- ``file:/path``: a file with that, readable by its owner (or group) alone
- ``vault-transit:mount/name``: a key that never leaves Vault, which wraps and unwraps
- ``vault-kv:mount/path#field`` or ``…#field@version``: the key in Vault's key-value store, version 2
- ``aws:name-or-arn`` or ``…@STAGE``: the key in AWS Secrets Manager (``AWSCURRENT``, or ``AWSPREVIOUS``)

Vault is found by ``VAULT_ADDR`` with ``VAULT_TOKEN``, or the token in the file that ``AVB_VAULT_TOKEN_FILE`` names; AWS
as boto3 finds it.
"""

import base64
import binascii
import os
import stat
from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any, Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from tenants.encryption.errors import KeySourceUnavailable, MasterKeyInvalid, MasterKeyMissing, WrongKey

KEY_BYTES = 32
NONCE_BYTES = 12
TOO_OPEN = 0o037
"""Bits of a key file's mode that must not be set: the owner may do what it likes, the group may read."""
SOURCE_TIMEOUT_S = 5
VAULT_TOKEN_FILE = "AVB_VAULT_TOKEN_FILE"  # noqa: S105  (the variable's name)


class MasterKey(Protocol):
    def wrap(self, key: bytes, context: bytes) -> tuple[bytes, str]:
        """The wrapped key, and the id of the master key that did it."""

    def unwrap(self, wrapped: bytes, context: bytes) -> bytes:
        """Raises WrongKey when this is not the key, or the context not the one, it was wrapped with."""

    def opens(self, master_key_id: str) -> bool: ...

    def current_id(self) -> str:
        """What ``wrap`` would say now. Raises KeySourceUnavailable."""


@dataclass(frozen=True, slots=True)
class LocalKey:
    """A master key in this process's memory: AES-256-GCM with a random nonce."""

    key: bytes = field(repr=False)

    @property
    def id(self) -> str:
        """Tells keys apart and says nothing about them."""
        return f"local:{sha256(b'avb master key' + self.key).hexdigest()[:16]}"

    def wrap(self, key: bytes, context: bytes) -> tuple[bytes, str]:
        nonce = os.urandom(NONCE_BYTES)
        return nonce + AESGCM(self.key).encrypt(nonce, key, context), self.id

    def unwrap(self, wrapped: bytes, context: bytes) -> bytes:
        try:
            return AESGCM(self.key).decrypt(wrapped[:NONCE_BYTES], wrapped[NONCE_BYTES:], context)
        except (InvalidTag, ValueError) as error:
            raise WrongKey(
                "A data key does not open with the master key that it names; its row was changed."
            ) from error

    def opens(self, master_key_id: str) -> bool:
        return master_key_id == self.id

    def current_id(self) -> str:
        return self.id


@dataclass(frozen=True, slots=True)
class TransitKey:
    """A master key inside Vault: this process sends data keys there and never sees it."""

    mount: str
    name: str

    @property
    def _id(self) -> str:
        return f"vault-transit:{self.mount}/{self.name}"

    def wrap(self, key: bytes, context: bytes) -> tuple[bytes, str]:
        answer = _ask_vault(
            lambda vault: vault.secrets.transit.encrypt_data(
                self.name, plaintext=_text(key), associated_data=_text(context), mount_point=self.mount
            )
        )
        ciphertext = answer["data"]["ciphertext"]
        return ciphertext.encode(), f"{self._id}:{ciphertext.split(':')[1]}"

    def unwrap(self, wrapped: bytes, context: bytes) -> bytes:
        answer = _ask_vault(
            lambda vault: vault.secrets.transit.decrypt_data(
                self.name, ciphertext=wrapped.decode(), associated_data=_text(context), mount_point=self.mount
            )
        )
        return base64.b64decode(answer["data"]["plaintext"])

    def opens(self, master_key_id: str) -> bool:
        """Whatever its version: Vault keeps the older ones."""
        return master_key_id.rpartition(":")[0] == self._id

    def current_id(self) -> str:
        answer = _ask_vault(lambda vault: vault.secrets.transit.read_key(self.name, mount_point=self.mount))
        return f"{self._id}:v{answer['data']['latest_version']}"


def open_master_key(written: str) -> MasterKey:
    """The master key as the module's first comment writes it. Raises MasterKeyMissing (there is nothing at that
    place), MasterKeyInvalid, KeySourceUnavailable."""
    kind, _, place = written.partition(":")
    match kind if place else "":
        case "file":
            return LocalKey(_decode(_read_file(Path(place)), f"The file {place}"))
        case "vault-transit":
            mount, name = _split(written, place, "/", "vault-transit:mount/name")
            return TransitKey(mount, name)
        case "vault-kv":
            return LocalKey(_decode(_read_vault(written, place), written))
        case "aws":
            return LocalKey(_decode(_read_aws(place), written))
    return LocalKey(_decode(written, "The value"))


def check_written(written: str) -> None:
    """Raises MasterKeyInvalid for what could never be opened, without looking anywhere."""
    kind, _, place = written.partition(":")
    if not place:
        _decode(written, "The value")
    elif kind not in ("file", "vault-transit", "vault-kv", "aws"):
        raise MasterKeyInvalid(
            f"There is no master key source {kind!r}; write base64, or file:, vault-transit:, vault-kv:, aws:."
        )


def new_key() -> bytes:
    return AESGCM.generate_key(bit_length=8 * KEY_BYTES)


def write_key_file(path: Path) -> None:
    """A new master key in a new file of mode 600. Raises FileExistsError: an existing key is never replaced."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as stream:
        stream.write(_text(new_key()) + "\n")
        stream.flush()
        os.fsync(stream.fileno())


def _text(value: bytes) -> str:
    return base64.b64encode(value).decode()


def _decode(text: str, place: str) -> bytes:
    try:
        key = base64.b64decode(text.strip(), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if len(key) != KEY_BYTES:
        raise MasterKeyInvalid(
            f"{place} holds no master key: it takes 32 random bytes in base64, such as 'openssl rand -base64 32' makes."
        )
    return key


def _read_file(path: Path) -> str:
    try:
        with path.open() as stream:
            mode = stat.S_IMODE(os.fstat(stream.fileno()).st_mode)
            if mode & TOO_OPEN:
                raise MasterKeyInvalid(f"{path} may be read by others (mode {mode:o}); do: chmod 600 {path}")
            return stream.read(1024)
    except FileNotFoundError as error:
        raise MasterKeyMissing(
            f"There is no master key file {path}. Put back the one that the data was sealed with; only an installation "
            f"that has sealed nothing yet makes a new one: ./avb encryption new-master {path}"
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        raise MasterKeyInvalid(f"The master key file {path} cannot be read: {type(error).__name__}.") from error


def _split(written: str, place: str, by: str, expected: str) -> tuple[str, str]:
    first, _, second = place.partition(by)
    if not first or not second:
        raise MasterKeyInvalid(f"{written!r} names no master key; write it as {expected}.")
    return first, second


def _read_vault(written: str, place: str) -> str:
    where, key_field = _split(written, place, "#", "vault-kv:mount/path#field")
    mount, path = _split(written, where, "/", "vault-kv:mount/path#field")
    key_field, _, version = key_field.partition("@")
    if version and not version.isdecimal():
        raise MasterKeyInvalid(f"{written!r}: a version is a number, as in #field@3.")
    answer = _ask_vault(
        lambda vault: vault.secrets.kv.v2.read_secret_version(
            path, version=int(version) if version else None, mount_point=mount, raise_on_deleted_version=True
        )
    )
    try:
        return str(answer["data"]["data"][key_field])
    except (KeyError, TypeError) as error:
        raise MasterKeyMissing(f"Vault has no field {key_field!r} at {where}.") from error


def _ask_vault(ask: Callable[[Any], Any]) -> Any:
    import hvac
    import requests

    token_file = os.environ.get(VAULT_TOKEN_FILE)
    try:
        # Read each time: whoever keeps the file renews the token.
        token = Path(token_file).read_text().strip() if token_file else os.environ.get("VAULT_TOKEN")
    except OSError as error:
        raise KeySourceUnavailable(
            f"The Vault token file {token_file} cannot be read: {type(error).__name__}."
        ) from error
    vault = hvac.Client(url=os.environ.get("VAULT_ADDR"), token=token, timeout=SOURCE_TIMEOUT_S)
    try:
        return ask(vault)
    except hvac.exceptions.InvalidPath as error:
        raise MasterKeyMissing("Vault has nothing at the configured master key's path.") from error
    except hvac.exceptions.InvalidRequest as error:
        raise WrongKey("Vault refuses to open a data key: it was wrapped by another key, or changed.") from error
    except (hvac.exceptions.VaultError, requests.RequestException) as error:
        raise KeySourceUnavailable(f"Vault does not give its master key: {type(error).__name__}.") from error
    finally:
        vault.adapter.close()


def _read_aws(place: str) -> str:
    import boto3
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError, ClientError

    name, _, stage = place.partition("@")
    config = Config(connect_timeout=SOURCE_TIMEOUT_S, read_timeout=SOURCE_TIMEOUT_S, retries={"total_max_attempts": 2})
    try:
        client = boto3.client("secretsmanager", config=config)
        answer = client.get_secret_value(SecretId=name, VersionStage=stage or "AWSCURRENT")
    except ClientError as error:
        if error.response["Error"]["Code"] == "ResourceNotFoundException":
            raise MasterKeyMissing(f"AWS Secrets Manager has no secret {place}.") from error
        raise KeySourceUnavailable(f"AWS Secrets Manager refuses: {error.response['Error']['Code']}.") from error
    except BotoCoreError as error:
        raise KeySourceUnavailable(f"AWS Secrets Manager does not answer: {type(error).__name__}.") from error
    if "SecretString" in answer:
        return str(answer["SecretString"])
    binary: bytes = answer["SecretBinary"]
    return _text(binary) if len(binary) == KEY_BYTES else binary.decode("ascii", "replace")
