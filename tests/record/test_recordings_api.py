"""``/api/v1/recordings/`` and ``/api/v1/recording-policy/``."""

import io
import wave
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from django.conf import settings as django_settings
from django.test import AsyncClient, Client
from django_tenants.utils import tenant_context

from realtime.archive.models import Conversation
from realtime.privacy.holds import hold_conversation, hold_end_user
from realtime.recordings import flac, ranges
from realtime.recordings.models import Part, Policy, Recording, RecordingState
from realtime.recordings.operations import delete_recordings, end_recording, store_part
from realtime.recordings.storage import FileStorage, StorageUnavailable
from realtime.runtime.recorder import CallSheet
from tenants.audit.models import Entry
from tenants.keys.operations import issue_key
from tenants.permissions import Scope
from tests.record.world import BEEP, BEGUN, Api, House, World
from tests.runtime.tape import HZ, tone

PART = 2 * HZ
LEFT = tone(5000, 100) + np.repeat(np.arange(5), HZ).astype(np.int16)
LONG = np.stack([LEFT, -LEFT], axis=1)


def store(house: House, session_id: str, pcm: np.ndarray, *, begun: float = BEGUN) -> None:
    sheet = CallSheet(tenant=house.tenant.schema_name, session_id=session_id, started_at=begun)
    with tenant_context(house.tenant):
        for index, start in enumerate(range(0, len(pcm), PART)):
            store_part(sheet=sheet, index=index, pcm=pcm[start : start + PART], part_samples=PART)
        end_recording(session_id=session_id, state=RecordingState.COMPLETE)


@pytest.fixture
def busy(world: World, settings, tmp_path: Path) -> World:
    """A recording of three parts: 2, 2 and 1 s."""
    store(world.alpha, "sess_long", LONG, begun=BEGUN + 1000)
    return world


class Player:
    """One key's way to the audio."""

    def __init__(self, key: str) -> None:
        self.client = Client(headers={"Authorization": f"Bearer {key}"}, raise_request_exception=False)

    def __call__(self, session_id: str, query: str = "", **headers: str) -> Any:
        response = self.client.get(f"/api/v1/recordings/{session_id}/content/{query}", headers=headers)
        response.body = b"".join(response)
        return response


@pytest.fixture
def play(busy: World) -> Player:
    return Player(busy.alpha.key)


def wav_of(body: bytes) -> np.ndarray:
    with wave.open(io.BytesIO(body)) as file:
        assert (file.getnchannels(), file.getframerate(), file.getsampwidth()) == (2, HZ, 2)
        return np.frombuffer(file.readframes(file.getnframes()), "<i2").reshape(-1, 2)


# ---- rows ----


def test_recordings_come_newest_first(busy: World, alpha_api: Api) -> None:
    status, answer = alpha_api("GET", "recordings/")
    assert status == 200
    assert [row["id"] for row in answer["data"]["results"]] == ["sess_long", "sess_alpha"]
    assert answer["data"]["results"][0] == {
        "id": "sess_long", "state": "complete", "started_at": "2027-01-15T08:16:40Z", "duration_ms": 5000,
        "sample_rate_hz": 24000, "channels": 2, "bytes": answer["data"]["results"][0]["bytes"],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("conversation=sess_long", ["sess_long"]),
        ("conversation=sess_beta", []),
        ("state=interrupted", []),
        ("state=complete&started_before=2027-01-15T08:10:00Z", ["sess_alpha"]),
        ("started_after=2027-01-15T08:10:00Z", ["sess_long"]),
    ],
)
def test_filters(busy: World, alpha_api: Api, query: str, expected: list[str]) -> None:
    assert [row["id"] for row in alpha_api("GET", f"recordings/?{query}")[1]["data"]["results"]] == expected


@pytest.mark.parametrize(
    ("query", "param"),
    [("state=lost", "state"), ("conversation=%00", "conversation"), ("started_after=x", "started_after"), ("x=1", "x")],
)
def test_bad_filters_are_refused_by_name(alpha_api: Api, query: str, param: str) -> None:
    status, answer = alpha_api("GET", f"recordings/?{query}")
    assert (status, answer["error"]["param"]) == (400, param)


def test_one_recording_shows_its_parts(busy: World, alpha_api: Api) -> None:
    data = alpha_api("GET", "recordings/sess_long/")[1]["data"]
    assert [(part["index"], part["samples"]) for part in data["parts"]] == [(0, PART), (1, PART), (2, HZ)]
    assert all(len(part["sha256"]) == 64 for part in data["parts"])
    assert data["bytes"] == sum(part["bytes"] for part in data["parts"])


@pytest.mark.parametrize("session_id", ["sess_none", "sess_beta", "%00", "a" * 3000])
@pytest.mark.parametrize("path", ["recordings/{}/", "recordings/{}/content/"])
@pytest.mark.parametrize("method", ["GET", "DELETE"])
def test_what_is_not_the_tenants_is_not_found(
    world: World, alpha_api: Api, method: str, path: str, session_id: str
) -> None:
    status, answer = alpha_api(method, path.format(session_id))
    assert status == (405 if method == "DELETE" and "content" in path else 404)
    assert answer["status"] == "error"
    with tenant_context(world.beta.tenant):
        assert Recording.objects.filter(pk="sess_beta").exists()


# ---- audio ----


def test_wav_is_every_sample(play: Player) -> None:
    response = play("sess_long")
    assert response.status_code == 200
    assert response["Content-Type"] == "audio/wav"
    assert int(response["Content-Length"]) == len(response.body) == 44 + 5 * HZ * 4
    assert response["Accept-Ranges"] == "bytes"
    assert response["Cache-Control"] == "private, no-cache"
    assert np.array_equal(wav_of(response.body), LONG)


def test_flac_is_every_sample_whether_of_one_part_or_of_several(play: Player) -> None:
    several, one = play("sess_long", "?format=flac"), play("sess_alpha", "?format=flac")
    assert several["Content-Type"] == one["Content-Type"] == "audio/flac"
    assert np.array_equal(flac.decode(several.body), LONG)
    assert (several["Accept-Ranges"], one["Accept-Ranges"]) == ("none", "bytes")
    assert np.array_equal(flac.decode(one.body), BEEP)
    assert int(one["Content-Length"]) == len(one.body)


def test_accept_chooses_the_format(play: Player) -> None:
    assert play("sess_long", Accept="audio/flac")["Content-Type"] == "audio/flac"
    assert play("sess_long", Accept="audio/webm,audio/*;q=0.9,*/*;q=0.5")["Content-Type"] == "audio/wav"
    assert play("sess_long", "?format=flac", Accept="audio/wav")["Content-Type"] == "audio/flac"
    assert play("sess_long", "?format=mp3").json()["error"]["param"] == "format"


WHOLE = 44 + 5 * HZ * 4


@pytest.mark.parametrize(
    ("header", "start", "end"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=0-43", 0, 44),
        ("bytes=10-99", 10, 100),
        ("bytes=0-", 0, WHOLE),
        ("bytes=44-", 44, WHOLE),
        (f"bytes={44 + PART * 4 - 3}-{44 + PART * 4 + 2}", 44 + PART * 4 - 3, 44 + PART * 4 + 3),
        (f"bytes={44 + PART * 4}-{44 + 2 * PART * 4 - 1}", 44 + PART * 4, 44 + 2 * PART * 4),
        ("bytes=-100", WHOLE - 100, WHOLE),
        ("bytes=-99999999", 0, WHOLE),
        (f"bytes={WHOLE - 1}-{WHOLE + 1000}", WHOLE - 1, WHOLE),
    ],
)
def test_any_range_is_that_part_of_the_whole(play: Player, header: str, start: int, end: int) -> None:
    whole = play("sess_long").body
    response = play("sess_long", Range=header)
    assert response.status_code == 206
    assert response["Content-Range"] == f"bytes {start}-{end - 1}/{WHOLE}"
    assert int(response["Content-Length"]) == end - start
    assert response.body == whole[start:end]


@pytest.mark.parametrize(
    "header", ["bytes=5-2", "bytes=a-b", "seconds=1-2", "bytes=0-1,5-9", "bytes=-", "bytes=0-" + "9" * 30]
)
def test_what_is_no_range_gets_the_whole(play: Player, header: str) -> None:
    response = play("sess_long", Range=header)
    assert (response.status_code, len(response.body)) == (200, WHOLE)


@pytest.mark.parametrize("header", [f"bytes={WHOLE}-", "bytes=99999999-", "bytes=-0"])
def test_a_range_behind_the_end_is_refused(play: Player, header: str) -> None:
    response = play("sess_long", Range=header)
    assert response.status_code == 416
    assert response["Content-Range"] == f"bytes */{WHOLE}"
    assert response.json()["error"]["code"] == "range_not_satisfiable"


def test_a_range_of_another_recording_is_none(play: Player) -> None:
    etag = play("sess_long")["ETag"]
    assert play("sess_long", Range="bytes=0-9", **{"If-Range": etag}).status_code == 206
    assert play("sess_long", Range="bytes=0-9", **{"If-Range": '"another"'}).status_code == 200


def test_seeking_opens_no_part_that_is_not_asked_for(play: Player, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    get = FileStorage.get
    monkeypatch.setattr(FileStorage, "get", lambda self, key: (opened.append(key), get(self, key))[1])
    play("sess_long", Range=f"bytes={44 + PART * 4}-{44 + PART * 4 + 100}")
    assert len(opened) == 1
    opened.clear()
    play("sess_long", Range="bytes=0-43")
    assert opened == []


def test_head_says_how_long_it_is_and_is_no_listening(busy: World) -> None:
    client = Client(headers={"Authorization": f"Bearer {busy.alpha.key}"})
    response = client.head("/api/v1/recordings/sess_long/content/")
    assert (response.status_code, response.content) == (200, b"")
    assert response["Content-Length"] == str(WHOLE)
    with tenant_context(busy.alpha.tenant):
        assert not Entry.objects.filter(action="recording.listened").exists()


async def test_on_the_gateways_loop_it_streams(committed: World) -> None:
    from asgiref.sync import sync_to_async

    await sync_to_async(store)(committed.alpha, "sess_long", LONG)
    headers = {"Authorization": f"Bearer {committed.alpha.key}"}
    response = await AsyncClient().get("/api/v1/recordings/sess_long/content/", headers=headers)
    assert response.status_code == 200, response.content
    assert response.is_async
    assert np.array_equal(wav_of(b"".join([piece async for piece in response])), LONG)

    def forget() -> None:
        with tenant_context(committed.alpha.tenant):
            delete_recordings(session_ids=["sess_long"])

    await sync_to_async(forget)()


# ---- who ----


def test_every_listening_is_audited(busy: World, play: Player) -> None:
    play("sess_long", Range="bytes=0-99")
    play("sess_long", "?format=flac")
    with tenant_context(busy.alpha.tenant):
        entries = list(Entry.objects.filter(action="recording.listened").order_by("seq"))
    assert [(entry.target, entry.after) for entry in entries] == [
        ("sess_long", {"format": "wav", "range": "bytes=0-99"}),
        ("sess_long", {"format": "flac", "range": ""}),
    ]
    assert {entry.actor_kind for entry in entries} == {"key"}


@pytest.mark.parametrize("path", ["recordings/", "recordings/sess_alpha/", "recordings/sess_alpha/content/"])
def test_listening_needs_its_scope(world: World, path: str) -> None:
    _, secret = issue_key(tenant=world.alpha.tenant, name="reader", scopes=[Scope.CONVERSATIONS_READ])
    assert Api(secret)("GET", path)[0] == 403
    assert Api(secret)("DELETE", "recordings/sess_alpha/")[0] == 403


def test_deleting_takes_the_audio_and_is_audited(busy: World, alpha_api: Api) -> None:
    with tenant_context(busy.alpha.tenant):
        keys = list(Part.objects.filter(recording="sess_long").values_list("object_key", flat=True))
    assert all((django_settings.RECORDING_DIR / key).is_file() for key in keys)
    assert alpha_api("DELETE", "recordings/sess_long/") == (204, None)
    assert not any((django_settings.RECORDING_DIR / key).exists() for key in keys)
    assert alpha_api("GET", "recordings/sess_long/")[0] == 404
    assert alpha_api("DELETE", "recordings/sess_long/")[0] == 404
    with tenant_context(busy.alpha.tenant):
        entry = Entry.objects.get(action="recording.deleted")
    assert (entry.target, entry.before) == ("sess_long", {"duration_ms": 5000, "state": "complete"})


@pytest.mark.parametrize("whose", ["conversation", "end_user"])
def test_a_legal_hold_keeps_it(busy: World, alpha_api: Api, whose: str) -> None:
    with tenant_context(busy.alpha.tenant):
        Conversation.objects.create(pk="sess_long", end_user="ann", started_at="2027-01-01T00:00:00Z")
        if whose == "conversation":
            hold_conversation(session_id="sess_long", reason="a suit")
        else:
            hold_end_user(end_user="ann", reason="a suit")
    status, answer = alpha_api("DELETE", "recordings/sess_long/")
    assert (status, answer["error"]["code"]) == (409, "legal_hold")
    assert alpha_api("GET", "recordings/sess_long/")[0] == 200
    assert alpha_api("DELETE", "recordings/sess_alpha/")[0] == 204


# ---- what goes wrong ----


def test_a_damaged_recording_is_an_error_with_a_name(busy: World, play: Player) -> None:
    with tenant_context(busy.alpha.tenant):
        part = Part.objects.get(recording="sess_long", index=0)
    file = django_settings.RECORDING_DIR / part.object_key
    sealed = bytearray(file.read_bytes())
    sealed[-50] ^= 1
    file.write_bytes(sealed)
    response = play("sess_long")
    assert response.status_code == 500
    assert response.json()["error"]["code"] == "recording_damaged"
    assert response["Content-Type"] == "application/json"
    assert play("sess_long", Range=f"bytes={44 + PART * 4}-").status_code == 206, "the other parts still play"


@pytest.mark.parametrize("method", ["GET", "DELETE"])
def test_a_storage_that_is_away_is_told(
    busy: World, alpha_api: Api, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    def refuse(self: FileStorage, key: str) -> bytes:
        raise StorageUnavailable("away")

    monkeypatch.setattr(FileStorage, "get", refuse)
    monkeypatch.setattr(FileStorage, "delete", refuse)
    path = "recordings/sess_long/" + ("content/" if method == "GET" else "")
    status, answer = alpha_api(method, path)
    assert (status, answer["error"]["code"]) == (503, "storage_unavailable")
    assert alpha_api("GET", "recordings/sess_long/")[0] == 200


# ---- the policy ----


def test_the_policy_is_read_and_changed(world: World, alpha_api: Api, beta_api: Api) -> None:
    assert alpha_api("GET", "recording-policy/") == (200, {"status": "success", "data": {"record": "agent"}})
    assert alpha_api("PATCH", "recording-policy/", {"record": "all"})[1]["data"] == {"record": "all"}
    assert alpha_api("GET", "recording-policy/")[1]["data"] == {"record": "all"}
    assert beta_api("GET", "recording-policy/")[1]["data"] == {"record": "agent"}
    with tenant_context(world.alpha.tenant):
        assert Policy.objects.get().record == "all"
        assert Entry.objects.get(action="recording_policy.changed").before == {"record": "agent"}


@pytest.mark.parametrize(
    ("body", "param"), [({}, "record"), ({"record": "some"}, "record"), ({"record": "all", "x": 1}, "x"), ([], None)]
)
def test_a_wrong_policy_is_refused_by_name(alpha_api: Api, body: Any, param: str | None) -> None:
    status, answer = alpha_api("PATCH", "recording-policy/", body)
    assert (status, answer["error"]["param"]) == (400, param)


def test_an_agent_is_told_to_record(alpha_api: Api) -> None:
    assert alpha_api("GET", "agents/alpha-desk/")[1]["data"]["record"] is False
    assert alpha_api("PATCH", "agents/alpha-desk/", {"record": True})[1]["data"]["record"] is True
    assert alpha_api("PATCH", "agents/alpha-desk/", {"record": "maybe"})[1]["error"]["param"] == "record"


# ---- ranges ----


@pytest.mark.parametrize("size", [0, 1, 10])
def test_a_range_never_leaves_the_file(size: int) -> None:
    for first in ("", *map(str, range(12))):
        for last in ("", *map(str, range(12))):
            try:
                span = ranges.read_range(f"bytes={first}-{last}", size)
            except ranges.RangeUnsatisfiable:
                assert (first and int(first) >= size) or (not first and int(last or 1) == 0) or size == 0
                continue
            if span is not None:
                assert 0 <= span[0] < span[1] <= size
