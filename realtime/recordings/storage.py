"""Where sealed recordings lie: a directory, or a bucket that speaks S3. What is put is there whole or not at all."""

import contextlib
import os
import secrets
import shutil
from collections.abc import Iterator
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Any, Protocol

from django.conf import settings

MULTIPART_BYTES = 10 * 1024 * 1024
DELETE_KEYS = 1_000


class StorageUnavailable(Exception):
    """The place does not answer or refuses; trying again later is right."""


class ObjectMissing(Exception):
    """There is no object of this key."""


class Storage(Protocol):
    """Keys are relative paths. All raise StorageUnavailable."""

    def put(self, key: str, sealed: bytes, *, cold: bool = False) -> None:
        """``cold``: it will hardly be read."""
        ...

    def cool(self, key: str) -> None:
        """It will hardly be read any more. One that is not there is no error."""
        ...

    def get(self, key: str) -> bytes:
        """Raises ObjectMissing."""
        ...

    def has(self, key: str) -> bool: ...

    def delete(self, key: str) -> None:
        """In all its versions. One that is not there is no error."""
        ...

    def keys(self, prefix: str) -> Iterator[str]: ...

    def delete_all(self, prefix: str) -> int:
        """Every object, in all its versions, whose key begins so; how many keys."""
        ...


@contextlib.contextmanager
def _disk_faults() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StorageUnavailable(f"the directory of recordings: {error}") from error


class FileStorage:
    """For one machine: files under ``root``, readable by their owner alone."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def cool(self, key: str) -> None:
        """A directory has no colder place."""

    def put(self, key: str, sealed: bytes, *, cold: bool = False) -> None:
        file = self._root / key
        fresh = file.with_name(f".{file.name}.{secrets.token_hex(8)}")
        with _disk_faults():
            file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            try:
                with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as stream:
                    stream.write(sealed)
                    stream.flush()
                    os.fsync(stream.fileno())
                fresh.rename(file)
            except BaseException:
                with contextlib.suppress(OSError):
                    fresh.unlink(missing_ok=True)
                raise
            directory = os.open(file.parent, os.O_RDONLY)
            try:
                os.fsync(directory)
            finally:
                os.close(directory)

    def get(self, key: str) -> bytes:
        try:
            with _disk_faults():
                return (self._root / key).read_bytes()
        except StorageUnavailable as error:
            if isinstance(error.__cause__, FileNotFoundError):
                raise ObjectMissing(key) from error
            raise

    def has(self, key: str) -> bool:
        with _disk_faults():
            return (self._root / key).is_file()

    def delete(self, key: str) -> None:
        with _disk_faults():
            (self._root / key).unlink(missing_ok=True)

    def keys(self, prefix: str) -> Iterator[str]:
        """``prefix`` ends a directory's name, as with a bucket it may."""
        for file in sorted((self._root / prefix).rglob("*")):
            if file.is_file():
                yield str(file.relative_to(self._root))

    def delete_all(self, prefix: str) -> int:
        keys = list(self.keys(prefix))
        with _disk_faults(), contextlib.suppress(FileNotFoundError):
            shutil.rmtree(self._root / prefix)
        return len(keys)


class S3Storage:
    """A bucket of Amazon S3, MinIO, SeaweedFS or the like. Credentials come from AWS's own variables and files.
    ``cold_class`` is the storage class of what is hardly read, one that can be read at once; empty: the bucket's."""

    def __init__(self, bucket: str, *, endpoint_url: str = "", timeout_s: float = 20.0, cold_class: str = "") -> None:
        # Slow to import, and of no use to whoever stores in a directory.
        import boto3
        from boto3.s3.transfer import TransferConfig
        from botocore.config import Config

        self._bucket = bucket
        self._cold = {"StorageClass": cold_class} if cold_class else {}
        self._client: Any = boto3.client(
            "s3",
            endpoint_url=endpoint_url or None,
            config=Config(
                connect_timeout=min(timeout_s, 5.0),
                read_timeout=timeout_s,
                retries={"mode": "standard", "total_max_attempts": 3},
                # Servers other than Amazon's need not know the newer checksums; ours is inside the seal.
                request_checksum_calculation="when_required",
                response_checksum_validation="when_required",
                s3={"addressing_style": "path" if endpoint_url else "auto"},
            ),
        )
        self._transfer = TransferConfig(
            multipart_threshold=MULTIPART_BYTES, multipart_chunksize=MULTIPART_BYTES, max_concurrency=2
        )

    def put(self, key: str, sealed: bytes, *, cold: bool = False) -> None:
        extra = self._cold if cold else {}
        with self._faults():
            self._client.upload_fileobj(BytesIO(sealed), self._bucket, key, ExtraArgs=extra, Config=self._transfer)

    def cool(self, key: str) -> None:
        if not self._cold:
            return
        source = {"Bucket": self._bucket, "Key": key}
        with contextlib.suppress(ObjectMissing), self._faults(key):
            self._client.copy_object(Bucket=self._bucket, Key=key, CopySource=source, **self._cold)

    def get(self, key: str) -> bytes:
        with self._faults(key):
            return bytes(self._client.get_object(Bucket=self._bucket, Key=key)["Body"].read())

    def has(self, key: str) -> bool:
        try:
            with self._faults(key):
                self._client.head_object(Bucket=self._bucket, Key=key)
        except ObjectMissing:
            return False
        return True

    def delete(self, key: str) -> None:
        # A prefix finds longer keys too; ours are all of one length, and another one's deletion must not follow.
        self._delete(version for version in self._versions(key) if version["Key"] == key)

    def keys(self, prefix: str) -> Iterator[str]:
        with self._faults():
            for page in self._client.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=prefix):
                yield from (found["Key"] for found in page.get("Contents", ()))

    def delete_all(self, prefix: str) -> int:
        return len(self._delete(self._versions(prefix)))

    def _versions(self, prefix: str) -> Iterator[dict[str, str]]:
        """Deletion markers too: without them gone, a bucket that keeps versions keeps names."""
        with self._faults():
            for page in self._client.get_paginator("list_object_versions").paginate(Bucket=self._bucket, Prefix=prefix):
                for found in (*page.get("Versions", ()), *page.get("DeleteMarkers", ())):
                    yield {"Key": found["Key"], "VersionId": found["VersionId"]}

    def _delete(self, versions: Iterator[dict[str, str]]) -> set[str]:
        found = list(versions)
        for start in range(0, len(found), DELETE_KEYS):
            batch = found[start : start + DELETE_KEYS]
            with self._faults():
                answer = self._client.delete_objects(Bucket=self._bucket, Delete={"Objects": batch, "Quiet": True})
            if errors := answer.get("Errors"):
                raise StorageUnavailable(f"{len(errors)} objects were not deleted: {errors[0]['Code']}")
        return {version["Key"] for version in found}

    @contextlib.contextmanager
    def _faults(self, key: str = "") -> Iterator[None]:
        from boto3.exceptions import Boto3Error
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            yield
        except ClientError as error:
            code = error.response.get("Error", {}).get("Code", "")
            if key and code in ("NoSuchKey", "404", "NotFound"):
                raise ObjectMissing(key) from error
            raise StorageUnavailable(f"bucket {self._bucket}: {code}") from error
        except (BotoCoreError, Boto3Error) as error:
            raise StorageUnavailable(f"bucket {self._bucket}: {type(error).__name__}") from error


@cache
def _open(bucket: str, endpoint_url: str, timeout_s: float, cold_class: str, directory: Path) -> Storage:
    if bucket:
        return S3Storage(bucket, endpoint_url=endpoint_url, timeout_s=timeout_s, cold_class=cold_class)
    return FileStorage(directory)


def storage() -> Storage:
    """The configured one: the bucket when there is one, else the directory."""
    return _open(
        settings.S3_BUCKET,
        settings.S3_ENDPOINT_URL,
        settings.S3_TIMEOUT_S,
        settings.S3_COLD_STORAGE_CLASS,
        settings.RECORDING_DIR,
    )
