"""Storers as processes of their own, killed in the middle of their work."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest
from django.db import connection
from django_tenants.utils import tenant_context

from realtime.recordings.models import Recording
from realtime.recordings.operations import delete_recordings
from realtime.recordings.storing import Storer
from tests.record.test_recordings import Gateway, listen, objects, stereo
from tests.record.world import World

REPOSITORY = Path(__file__).parents[2]

# Before or after an object is there the process says so, and waits to be killed.
STORER = """
import os, sys, time
sys.path.insert(0, os.getcwd())
import django
django.setup()
from django.conf import settings
from realtime.recordings.storage import FileStorage
from realtime.recordings.storing import Storer

stops_at, after = int(sys.argv[1]), sys.argv[2] == "after"
put, count = FileStorage.put, 0

def put_and_wait(self, key, sealed):
    global count
    count += 1
    if after or count != stops_at:
        put(self, key, sealed)
    if count == stops_at:
        print("there", flush=True)
        time.sleep(60)

FileStorage.put = put_and_wait
storer = Storer(settings.RECORDING_SPOOL_DIR)
while True:
    if storer.round():
        print("stored", flush=True)
    time.sleep(0.05)
"""


@pytest.fixture
def places(settings: Any, tmp_path: Path, committed: World) -> Iterator[Gateway]:
    settings.RECORDING_SPOOL_DIR = tmp_path / "spool"
    settings.RECORDING_DIR = tmp_path / "recordings"
    settings.RECORDING_PART_BYTES = 10 * 24_000 * 4
    yield Gateway(settings.RECORDING_SPOOL_DIR)
    with tenant_context(committed.alpha.tenant):
        delete_recordings(session_ids=["sess_1"])


def start_storer(places: Gateway, stops_at: int, when: str) -> "subprocess.Popen[str]":
    database_url = urlsplit(os.environ["DATABASE_URL"])._replace(path=f"/{connection.settings_dict['NAME']}")
    environment = {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "agentvoicebox.settings",
        "DATABASE_URL": database_url.geturl(),
        "AVB_POSTGRES_POOL_SIZE": "0",
        "AVB_RECORDING_SPOOL_DIR": str(places.root),
        "AVB_RECORDING_DIR": str(places.root.parent / "recordings"),
        "AVB_RECORDING_PART_BYTES": str(10 * 24_000 * 4),
        "AVB_LOG_LEVEL": "ERROR",
    }
    return subprocess.Popen(
        [sys.executable, "-P", "-c", STORER, str(stops_at), when],
        cwd=REPOSITORY,
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
    )


def hear_of(process: "subprocess.Popen[str]") -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("stops_at", [1, 3])
def test_a_storer_killed_half_way_leaves_one_object_of_each_part(
    committed: World, places: Gateway, stops_at: int, when: str
) -> None:
    pcm = stereo(34)
    places.record(committed.alpha, "sess_1", pcm)
    process = start_storer(places, stops_at, when)
    try:
        assert hear_of(process) == "there"
        assert Storer(places.root).round() == 0, "the call is in the other's hands"
        process.send_signal(signal.SIGKILL)
    finally:
        process.kill()
        process.wait()
    # PostgreSQL notices that the client is gone when it next reads from it; until then the row is locked.
    ends = time.monotonic() + 20
    storer = Storer(places.root)
    while any((places.root / "alpha").iterdir()) and time.monotonic() < ends:
        storer.round()
        time.sleep(0.1)
    assert len(objects()) == 4
    with tenant_context(committed.alpha.tenant):
        recording = Recording.objects.get(pk="sess_1")
        assert (recording.state, recording.parts.count(), recording.samples) == ("complete", 4, len(pcm))
    assert np.array_equal(listen(committed.alpha, "sess_1"), pcm)
    assert not os.listdir(places.root / "alpha")


def test_two_storers_share_the_work_and_store_nothing_twice(committed: World, places: Gateway) -> None:
    processes = [start_storer(places, 0, "after") for _ in range(2)]
    try:
        pcm = stereo(34)
        places.record(committed.alpha, "sess_1", pcm)
        ends = time.monotonic() + 30
        while any((places.root / "alpha").iterdir()) and time.monotonic() < ends:
            time.sleep(0.1)
    finally:
        for process in processes:
            process.kill()
            process.wait()
    assert len(objects()) == 4
    assert np.array_equal(listen(committed.alpha, "sess_1"), pcm)
    with tenant_context(committed.alpha.tenant):
        assert Recording.objects.get(pk="sess_1").state == "complete"
