"""``/api/v1/privacy/`` and ``/api/v1/conversations/…/hold/``."""

import io
import json
import time
import uuid
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import pytest
from django.db import transaction
from django.test import AsyncClient
from django_tenants.utils import tenant_context

from celery_workers import privacy as worker
from realtime.archive.models import Conversation
from realtime.archive.operations import apply_events
from realtime.privacy import queue
from realtime.privacy.models import Erasure, Export, JobState, LegalHold
from realtime.recordings.models import Recording
from tenants.audit.models import Entry
from tenants.keys.operations import issue_key
from tenants.permissions import ROLE_SCOPES, Role, Scope
from tests.record.people import Person
from tests.record.world import Api, World, call

ADA = "ada@example.com"


@pytest.fixture
def submitted(monkeypatch: pytest.MonkeyPatch, settings) -> list:
    """Messages to workers, which are sent when the transaction around a request is committed."""
    messages: list = []
    monkeypatch.setattr(queue, "import_string", lambda path: lambda *message: messages.append(message))
    monkeypatch.setattr(transaction, "on_commit", lambda do, *_, **__: do())
    return messages


@pytest.fixture
def house(world: World, settings, tmp_path: Path, valkey_url: str, monkeypatch) -> World:
    settings.RECORDING_DIR = tmp_path / "recordings"
    monkeypatch.setattr(worker, "close_old_connections", lambda: None)
    with tenant_context(world.alpha.tenant):
        apply_events(call("sess_ada", "desk", ["I am Ada"], begun=time.time() - 60, end_user=ADA))
    return world


def erase(api: Api, person: Any = ADA) -> tuple[int, Any]:
    return api("POST", "privacy/erasures/", {"end_user": person})


def export(api: Api, person: Any = ADA) -> tuple[int, Any]:
    return api("POST", "privacy/exports/", {"end_user": person})


def test_an_erasure_from_the_request_to_its_record(house: World, alpha_api: Api, beta_api: Api, submitted) -> None:
    status, answer = erase(alpha_api)
    job = answer["data"]
    assert status == 202
    assert job["state"] == "waiting"
    assert ADA not in json.dumps(answer)
    assert submitted == [(queue.TASK_ERASE, "default", {"tenant": "alpha", "job": job["id"]})]
    worker.erase(tenant="alpha", job=job["id"])
    status, answer = alpha_api("GET", f"privacy/erasures/{job['id']}/")
    assert status == 200
    assert answer["data"]["state"] == "ready"
    assert answer["data"]["counts"] == {"conversations": 1, "items": 1}
    assert alpha_api("GET", "conversations/sess_ada/")[0] == 404
    assert [row["id"] for row in alpha_api("GET", "privacy/erasures/")[1]["data"]["results"]] == [job["id"]]
    assert beta_api("GET", f"privacy/erasures/{job['id']}/")[0] == 404
    assert beta_api("GET", "privacy/erasures/")[1]["data"]["results"] == []


def test_an_export_from_the_request_to_the_file(house: World, alpha_api: Api, beta_api: Api, submitted) -> None:
    status, answer = export(alpha_api)
    job = answer["data"]
    assert (status, job["state"], job["done"]) == (202, "waiting", 0)
    file = f"privacy/exports/{job['id']}/file/"
    assert alpha_api("GET", file)[1]["error"]["code"] == "export_not_ready"
    worker.export(tenant="alpha", job=job["id"])
    ready = alpha_api("GET", f"privacy/exports/{job['id']}/")[1]["data"]
    assert (ready["state"], ready["done"], ready["total"]) == ("ready", 1, 1)
    response = alpha_api.client.get(f"/api/v1/{file}")
    body = b"".join(response)
    assert response["Content-Type"] == "application/zip"
    assert int(response["Content-Length"]) == len(body) == ready["bytes"]
    assert "conversations/sess_ada.json" in ZipFile(io.BytesIO(body)).namelist()
    for method, path in (
        ("GET", file),
        ("GET", f"privacy/exports/{job['id']}/"),
        ("DELETE", f"privacy/exports/{job['id']}/"),
    ):
        assert beta_api(method, path)[0] == 404
    assert alpha_api("DELETE", f"privacy/exports/{job['id']}/")[0] == 204
    assert alpha_api("GET", file)[0] == 409
    with tenant_context(house.alpha.tenant):
        assert list(Entry.objects.filter(action__startswith="end_user.").values_list("action", flat=True)) == [
            "end_user.export_removed", "end_user.export_downloaded", "end_user.exported", "end_user.export_requested",
        ]  # fmt: skip


def test_asking_twice_is_asking_once(house: World, alpha_api: Api, submitted) -> None:
    assert erase(alpha_api)[1]["data"]["id"] == erase(alpha_api)[1]["data"]["id"]
    assert export(alpha_api)[1]["data"]["id"] == export(alpha_api)[1]["data"]["id"]
    assert erase(alpha_api)[1]["data"]["id"] != erase(alpha_api, "bob")[1]["data"]["id"]


def test_a_broker_that_is_away_loses_no_request(house: World, alpha_api: Api, monkeypatch) -> None:
    def refuse(*_):
        raise ConnectionError

    monkeypatch.setattr(queue, "import_string", lambda path: refuse)
    monkeypatch.setattr(transaction, "on_commit", lambda do, *_, **__: do())
    assert erase(alpha_api)[0] == 202
    messages: list = []
    monkeypatch.setattr(worker, "submit", lambda *message: messages.append(message))
    worker.sweep()
    assert [message[0] for message in messages] == [queue.TASK_ERASE]


def test_holds_of_end_users(house: World, alpha_api: Api, beta_api: Api, submitted) -> None:
    status, answer = alpha_api("POST", "privacy/holds/", {"end_user": ADA, "reason": "case 7"})
    hold = answer["data"]
    assert (status, hold["end_user"], hold["reason"], hold["session_id"]) == (201, ADA, "case 7", "")
    assert alpha_api("POST", "privacy/holds/", {"end_user": ADA, "reason": "case 8"})[1]["data"]["id"] == hold["id"]
    assert alpha_api("GET", f"privacy/holds/{hold['id']}/")[1]["data"]["reason"] == "case 8"
    assert [row["id"] for row in alpha_api("GET", "privacy/holds/")[1]["data"]["results"]] == [hold["id"]]
    status, answer = erase(alpha_api)
    assert (status, answer["error"]["code"]) == (409, "legal_hold")
    assert "case 8" in answer["error"]["message"]
    assert beta_api("GET", "privacy/holds/")[1]["data"]["results"] == []
    assert beta_api("DELETE", f"privacy/holds/{hold['id']}/")[0] == 404
    assert erase(beta_api)[0] == 202, "another tenant's hold holds nothing here"
    assert alpha_api("DELETE", f"privacy/holds/{hold['id']}/")[0] == 204
    assert alpha_api("DELETE", f"privacy/holds/{hold['id']}/")[0] == 404
    assert erase(alpha_api)[0] == 202


def test_holds_of_conversations(house: World, alpha_api: Api, beta_api: Api, submitted) -> None:
    path = "conversations/sess_ada/hold/"
    assert alpha_api("GET", path)[0] == 404
    status, answer = alpha_api("PUT", path, {"reason": "court"})
    assert (status, answer["data"]["session_id"], answer["data"]["end_user"]) == (200, "sess_ada", "")
    assert alpha_api("GET", path)[1]["data"]["reason"] == "court"
    for method in ("GET", "PUT", "DELETE"):
        assert beta_api(method, path, {"reason": "x"} if method == "PUT" else None)[0] == 404
        assert alpha_api(method, "conversations/none/hold/", {"reason": "x"} if method == "PUT" else None)[0] == 404
    assert erase(alpha_api)[1]["error"]["code"] == "legal_hold"
    hold = alpha_api("GET", "privacy/holds/")[1]["data"]["results"][0]
    assert alpha_api("DELETE", f"privacy/holds/{hold['id']}/")[0] == 404, "it is released where it was placed"
    assert alpha_api("DELETE", path)[0] == 204
    assert alpha_api("DELETE", path)[0] == 404


def test_releasing_a_conversation_asks_for_more_than_holding_it(house: World, alpha_api: Api) -> None:
    _, secret = issue_key(tenant=house.alpha.tenant, name="support", scopes=ROLE_SCOPES[Role.SUPPORT])
    path = "conversations/sess_ada/hold/"
    assert Api(secret)("PUT", path, {"reason": "court"})[0] == 200
    status, answer = Api(secret)("DELETE", path)
    assert (status, answer["error"]["code"]) == (403, "insufficient_scope")
    assert "privacy:write" in answer["error"]["message"]
    assert Api(secret)("GET", path)[0] == 200
    assert alpha_api("DELETE", path)[0] == 204


def test_a_held_recording_cannot_be_deleted(world: World, alpha_api: Api, beta_api: Api) -> None:
    alpha_api("PUT", "conversations/sess_alpha/hold/", {"reason": "court"})
    status, answer = alpha_api("DELETE", "recordings/sess_alpha/")
    assert (status, answer["error"]["code"]) == (409, "legal_hold")
    alpha_api("DELETE", "conversations/sess_alpha/hold/")
    with tenant_context(world.alpha.tenant):
        Conversation.objects.filter(pk="sess_alpha").update(end_user=ADA)
    hold = alpha_api("POST", "privacy/holds/", {"end_user": ADA, "reason": "case 7"})[1]["data"]
    assert alpha_api("DELETE", "recordings/sess_alpha/")[0] == 409
    alpha_api("DELETE", f"privacy/holds/{hold['id']}/")
    with tenant_context(world.alpha.tenant):
        assert Recording.objects.filter(pk="sess_alpha").exists()
    assert alpha_api("DELETE", "recordings/sess_alpha/")[0] == 204


BAD_PERSONS = [
    ({}, "end_user"), ({"end_user": ""}, "end_user"), ({"end_user": None}, "end_user"), ({"end_user": 7}, None),
    ({"end_user": ["x"]}, "end_user"), ({"end_user": "x" * 513}, "end_user"), ({"end_user": "a\0b"}, "end_user"),
    ({"end_user": "x", "tenant": "beta"}, "tenant"),
]  # fmt: skip


@pytest.mark.parametrize(("body", "param"), BAD_PERSONS)
@pytest.mark.parametrize("path", ["privacy/erasures/", "privacy/exports/", "privacy/holds/"])
def test_bad_input_is_refused_by_name(
    house: World, alpha_api: Api, submitted, path: str, body: Any, param: str
) -> None:
    status, answer = alpha_api("POST", path, body | ({"reason": "x"} if "holds" in path else {}))
    if param is None:
        # A number is taken as its digits, as the archive would have it.
        assert status in (201, 202)
        return
    assert (status, answer["error"]["param"]) == (400, param)
    assert submitted == []


@pytest.mark.parametrize("body", ["", "[]", "null", '"x"', "{", b"\xff"])
@pytest.mark.parametrize("path", ["privacy/erasures/", "privacy/exports/", "privacy/holds/"])
def test_what_is_no_object_is_refused(house: World, alpha_api: Api, submitted, path: str, body: Any) -> None:
    assert alpha_api("POST", path, body)[0] == 400
    assert submitted == []


@pytest.mark.parametrize("reason", [None, "", "  ", "x" * 501, "a\0b", [], {}])
def test_a_hold_needs_a_reason(house: World, alpha_api: Api, reason: Any) -> None:
    for method, path, body in (
        ("POST", "privacy/holds/", {"end_user": ADA, "reason": reason}),
        ("PUT", "conversations/sess_ada/hold/", {"reason": reason}),
    ):
        status, answer = alpha_api(method, path, body)
        assert (status, answer["error"]["param"]) == (400, "reason")
    with tenant_context(house.alpha.tenant):
        assert not LegalHold.objects.exists()


@pytest.mark.parametrize("kind", ["exports", "erasures", "holds"])
@pytest.mark.parametrize("name", [str(uuid.UUID(int=1)), "nonsense", "%00"])
def test_what_is_not_there_is_not_found(house: World, alpha_api: Api, kind: str, name: str) -> None:
    assert alpha_api("GET", f"privacy/{kind}/{name}/")[0] == 404
    assert alpha_api("DELETE", f"privacy/{kind}/{name}/")[0] in (404, 405)


@pytest.mark.parametrize("path", ["privacy/exports/", "privacy/erasures/", "privacy/holds/"])
def test_only_privacy_write_opens_them(house: World, path: str, submitted) -> None:
    others = sorted({str(scope) for scope in Scope if not scope.startswith("platform:")} - {"privacy:write"})
    _, secret = issue_key(tenant=house.alpha.tenant, name="all but one", scopes=others)
    for method in ("GET", "POST"):
        status, answer = Api(secret)(method, path, {"end_user": ADA, "reason": "x"} if method == "POST" else None)
        assert (status, answer["error"]["code"]) == (403, "insufficient_scope")
    assert submitted == []


@pytest.mark.parametrize(("who", "expected"), [("owner", 202), ("member", 403), ("outsider", 403), ("operator", 403)])
def test_people_by_their_role(house: World, submitted, who: str, expected: int) -> None:
    person = getattr(house.alpha, who, None) or getattr(house, who)
    status, _ = Person(person, house.alpha.host).api("POST", "privacy/erasures/", {"end_user": ADA})
    assert status == expected
    with tenant_context(house.alpha.tenant):
        assert Erasure.objects.exists() is (expected == 202)
    assert Person(house.alpha.owner, house.beta.host).api("POST", "privacy/exports/", {"end_user": ADA})[0] in (
        401,
        403,
    )


def test_the_audit_says_who_and_never_whom(house: World, alpha_api: Api, submitted) -> None:
    erase(alpha_api)
    with tenant_context(house.alpha.tenant):
        entry = Entry.objects.get(action="end_user.erasure_requested")
        assert entry.actor_kind == "key"
        assert entry.target.startswith("eu_")
        assert ADA not in str([*Entry.objects.values_list("target", "before", "after")])


@pytest.mark.django_db(transaction=True)
async def test_the_file_is_streamed_on_the_event_loop(
    committed: World, settings, tmp_path: Path, valkey_url: str
) -> None:
    from asgiref.sync import sync_to_async

    settings.RECORDING_DIR = tmp_path / "recordings"

    def prepare() -> str:
        with tenant_context(committed.alpha.tenant):
            apply_events(call("sess_ada", "desk", ["I am Ada"], begun=time.time() - 60, end_user=ADA))
            Export.objects.all().delete()
        job = export(Api(committed.alpha.key))[1]["data"]["id"]
        worker.export(tenant="alpha", job=job)
        with tenant_context(committed.alpha.tenant):
            assert Export.objects.get(pk=job).state == JobState.READY
        return job

    job = await sync_to_async(prepare)()
    headers = {"Authorization": f"Bearer {committed.alpha.key}"}
    response = await AsyncClient().get(f"/api/v1/privacy/exports/{job}/file/", headers=headers)
    assert response.status_code == 200, response.content
    body = b"".join([piece async for piece in response.streaming_content])
    assert ZipFile(io.BytesIO(body)).testzip() is None

    def tidy() -> None:
        with tenant_context(committed.alpha.tenant):
            Conversation.objects.filter(pk="sess_ada").delete()

    await sync_to_async(tidy)()
