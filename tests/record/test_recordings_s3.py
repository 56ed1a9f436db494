"""Recordings in a bucket: Amazon's API as moto plays it, and SeaweedFS, a real server."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import numpy as np
import pytest
from django.conf import settings as django_settings
from django_tenants.utils import tenant_context
from moto.server import ThreadedMotoServer

from realtime.recordings import operations, queries, storage
from realtime.recordings.erasing import Recordings
from realtime.recordings.storage import ObjectMissing, S3Storage, StorageUnavailable
from realtime.recordings.storing import Storer
from tests.record.test_recordings import Gateway, listen, stereo
from tests.record.world import World

KEY, SECRET = "recordings", "a-secret-of-the-tests"
PORTS_BELOW = 45_000
START_S = 60.0


@pytest.fixture(scope="module")
def aws() -> Iterator[None]:
    """boto3 reads AWS's own variables, and remembers what it has read."""
    patch = pytest.MonkeyPatch()
    patch.setattr(boto3, "DEFAULT_SESSION", None)
    patch.setenv("AWS_ACCESS_KEY_ID", KEY)
    patch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    yield
    patch.undo()


@pytest.fixture(scope="module")
def moto_url(aws: None) -> Iterator[str]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


def find_low_port(taken: set[int]) -> int:
    """SeaweedFS speaks gRPC 10,000 above each of its ports."""
    from agentvoicebox.stack.ports import find_free_port

    while (port := find_free_port() % 25_000 + 20_000) in taken:
        pass
    taken.add(port)
    return port


@pytest.fixture(scope="module")
def seaweed_url(aws: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("seaweed")
    identity = {"name": "tests", "credentials": [{"accessKey": KEY, "secretKey": SECRET}], "actions": ["Admin"]}
    (folder / "s3.json").write_text(json.dumps({"identities": [identity]}))
    taken: set[int] = set()
    port = {part: find_low_port(taken) for part in ("master", "volume", "filer", "s3")}
    process = subprocess.Popen(
        [
            Path(sys.executable).with_name("weed"), "server", f"-dir={folder}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1",
            f"-master.port={port['master']}", f"-volume.port={port['volume']}", f"-filer.port={port['filer']}",
            "-filer", "-s3", "-s3.port.iceberg=0", "-s3.port.lance=0", "-master.telemetry=false",
            f"-s3.port={port['s3']}", f"-s3.config={folder / 's3.json'}", "-volume.max=500",
            "-master.volumeSizeLimitMB=64",
        ],
        stdout=subprocess.DEVNULL, stderr=(folder / "log").open("wb"), start_new_session=True,
    )  # fmt: skip
    url = f"http://127.0.0.1:{port['s3']}"
    client = boto3.client("s3", endpoint_url=url)
    ends = time.monotonic() + START_S
    while True:
        try:
            client.create_bucket(Bucket="ready")
            client.put_object(Bucket="ready", Key="x", Body=b"x")
            break
        except Exception:
            assert time.monotonic() < ends, (folder / "log").read_text()[-3000:]
            assert process.poll() is None, (folder / "log").read_text()[-3000:]
            time.sleep(0.3)
    yield url
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


@pytest.fixture(params=["moto", "seaweed"])
def url(request: pytest.FixtureRequest) -> str:
    found: str = request.getfixturevalue(f"{request.param}_url")
    return found


@pytest.fixture
def bucket(url: str, request: pytest.FixtureRequest) -> S3Storage:
    """A fresh bucket that keeps versions, as a careful operator's does."""
    name = f"avb-{time.time_ns()}"
    client = boto3.client("s3", endpoint_url=url)
    client.create_bucket(Bucket=name)
    client.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
    return S3Storage(name, endpoint_url=url)


def versions(bucket: S3Storage) -> int:
    found = bucket._client.list_object_versions(Bucket=bucket._bucket)
    return len(found.get("Versions", [])) + len(found.get("DeleteMarkers", []))


def test_objects_come_and_go(bucket: S3Storage) -> None:
    bucket.put("alpha/aa/one", b"first")
    bucket.put("alpha/aa/one", b"second")
    bucket.put("alpha/aa/one-more", b"x")
    assert bucket.get("alpha/aa/one") == b"second"
    assert bucket.has("alpha/aa/one")
    assert not bucket.has("alpha/aa/none")
    with pytest.raises(ObjectMissing):
        bucket.get("alpha/aa/none")
    bucket.delete("alpha/aa/one")
    bucket.delete("alpha/aa/none")
    assert not bucket.has("alpha/aa/one")
    assert list(bucket.keys("alpha/")) == ["alpha/aa/one-more"]
    assert versions(bucket) == 1, "no version, and no marker, of what was deleted"


def test_what_is_hardly_read_lies_in_the_class_for_it(moto_url: str) -> None:
    name = f"avb-cold-{time.time_ns()}"
    boto3.client("s3", endpoint_url=moto_url).create_bucket(Bucket=name)
    bucket = S3Storage(name, endpoint_url=moto_url, cold_class="GLACIER_IR")
    bucket.put("alpha/cold/one", b"old", cold=True)
    bucket.put("alpha/aa/two", b"new")
    bucket.put("alpha/aa/three", b"aging")
    bucket.cool("alpha/aa/three")
    bucket.cool("alpha/aa/none")
    listed = bucket._client.list_objects_v2(Bucket=name)["Contents"]
    assert {entry["Key"]: entry["StorageClass"] for entry in listed} == {
        "alpha/aa/three": "GLACIER_IR", "alpha/aa/two": "STANDARD", "alpha/cold/one": "GLACIER_IR",
    }  # fmt: skip
    assert bucket.get("alpha/aa/three") == b"aging"


def test_more_than_10_mb_goes_in_several_parts(bucket: S3Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    large = np.random.default_rng(1).bytes(23 * 1024 * 1024)
    parts: list[int] = []
    bucket._client.meta.events.register(
        "provide-client-params.s3.UploadPart", lambda params, **_: parts.append(params["PartNumber"])
    )
    bucket.put("alpha/aa/large", large)
    assert sorted(parts) == [1, 2, 3]
    assert bucket.get("alpha/aa/large") == large


def test_all_of_a_tenant_goes_in_all_its_versions(bucket: S3Storage) -> None:
    for number in range(30):
        bucket.put(f"alpha/{number % 3}/{number}", b"x")
        bucket.put(f"alpha/{number % 3}/{number}", b"y")
    bucket.put("alpha2/0/0", b"x")
    assert bucket.delete_all("alpha/") == 30
    assert bucket.delete_all("alpha/") == 0
    assert list(bucket.keys("")) == ["alpha2/0/0"]
    assert versions(bucket) == 1


def test_a_bucket_that_is_not_there_is_told(moto_url: str) -> None:
    """SeaweedFS makes one for whoever may."""
    nowhere = S3Storage("avb-nowhere", endpoint_url=moto_url)
    for call in (lambda: nowhere.put("a/b", b"x"), lambda: nowhere.delete_all("a/"), lambda: list(nowhere.keys("a/"))):
        with pytest.raises(StorageUnavailable, match="avb-nowhere"):
            call()


def test_a_server_that_is_not_there_is_told_soon(aws: None, free_port: Callable[[], int]) -> None:
    began = time.monotonic()
    nobody = S3Storage("avb", endpoint_url=f"http://127.0.0.1:{free_port()}", timeout_s=1.0)
    with pytest.raises(StorageUnavailable):
        nobody.put("a/b", b"x")
    with pytest.raises(StorageUnavailable):
        nobody.get("a/b")
    assert time.monotonic() - began < 30


@pytest.fixture
def places(settings: Any, tmp_path: Path, url: str) -> Gateway:
    settings.RECORDING_SPOOL_DIR = tmp_path / "spool"
    settings.RECORDING_PART_BYTES = 10 * 24_000 * 4
    settings.S3_ENDPOINT_URL = url
    settings.S3_BUCKET = f"avb-{time.time_ns()}"
    boto3.client("s3", endpoint_url=url).create_bucket(Bucket=settings.S3_BUCKET)
    return Gateway(settings.RECORDING_SPOOL_DIR)


def test_a_call_goes_into_the_bucket_and_comes_back(world: World, places: Gateway) -> None:
    pcm = stereo(14)
    for house in (world.alpha, world.beta):
        places.record(house, "sess_1", pcm)
    storer = Storer(places.root)
    assert storer.round() == 4
    assert isinstance(storage.storage(), S3Storage)
    keys = list(storage.storage().keys(""))
    assert sorted(key.partition("/")[0] for key in keys) == ["alpha", "alpha", "beta", "beta"]
    assert np.array_equal(listen(world.alpha, "sess_1"), pcm)
    with tenant_context(world.alpha.tenant):
        operations.delete_recordings(session_ids=["sess_1"])
        with pytest.raises(queries.RecordingUnknown):
            queries.find_recording("sess_1")
    assert len(list(storage.storage().keys("alpha/"))) == 0
    assert np.array_equal(listen(world.beta, "sess_1"), pcm)
    eraser = Recordings()
    assert eraser.count(world.beta.tenant)["objects"] == 2
    eraser.erase(world.beta.tenant)
    assert eraser.count(world.beta.tenant) == {"objects": 0, "spooled_calls": 0}


def test_while_the_bucket_is_away_calls_wait_in_the_spool(world: World, places: Gateway, settings: Any) -> None:
    places.record(world.alpha, "sess_1", stereo(3))
    there, settings.S3_ENDPOINT_URL = django_settings.S3_ENDPOINT_URL, "http://127.0.0.1:9"
    assert Storer(places.root).round() == 0
    settings.S3_ENDPOINT_URL = there
    assert Storer(places.root).round() == 1
    assert np.array_equal(listen(world.alpha, "sess_1"), stereo(3))
