"""A tenant from its request to the certificate of its erasure; the other tenant never notices."""

import base64
import copy
import re
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import redis
from django.db import connection
from django.test import Client
from django.utils import timezone
from django_tenants.utils import schema_exists, tenant_context

from agents.models import Agent
from tenants.audit import chain
from tenants.audit.models import Entry
from tenants.keys.operations import issue_key
from tenants.keys.queries import TenantSuspended, find_key
from tenants.lifecycle import erasers, operations
from tenants.lifecycle.building import BuildFailed, build_tenant
from tenants.lifecycle.certificate import CertificateInvalid, public_keys, sign, verify
from tenants.lifecycle.erasing import ErasureFailed, NotDue, erase_leftovers, erase_tenant
from tenants.lifecycle.lock import Busy, holding
from tenants.lifecycle.names import SHARED_WORDS
from tenants.lifecycle.queries import find_certificate, find_unfinished
from tenants.models import ApiKey, Domain, Membership, Tenant, TenantStatus, User
from tenants.people.operations import add_member
from tenants.permissions import Role
from tests.record.world import World

ROOT = Path(__file__).parents[2]


def platform_log(slug: str) -> list[str]:
    """What happened to the tenant; an eraser may have written entries of its own."""
    entries = Entry.objects.filter(target=slug, action__startswith="tenant.").order_by("seq")
    return list(entries.values_list("action", flat=True))


def own_log(tenant: Tenant) -> list[str]:
    with tenant_context(tenant):
        return list(Entry.objects.order_by("seq").values_list("action", flat=True))


def make_due(tenant: Tenant) -> None:
    Tenant.objects.filter(pk=tenant.pk).update(delete_after=timezone.now() - timedelta(seconds=1))


# --- creating ---


def test_a_request_opens_nothing_and_its_building_does(world: World) -> None:
    tenant = operations.request_tenant(slug="north-shop", name="North", domains=["north.localhost"])
    assert (tenant.status, schema_exists("north_shop")) == (TenantStatus.CREATING, False)
    _, secret = issue_key(tenant=tenant, name="early")
    with pytest.raises(TenantSuspended) as refusal:
        find_key(secret)
    assert refusal.value.code == "tenant_creating"
    page = Client(headers={"Host": "north.localhost"}).get("/admin/login/")
    assert (page.status_code, page["Retry-After"]) == (503, "5")
    assert "still being made" in page.content.decode()
    assert tenant in find_unfinished()

    tenant = build_tenant(tenant)
    assert tenant.status == TenantStatus.ACTIVE
    assert tenant.work_done == tenant.work_total > 0
    assert (tenant.work_step, tenant.work_error) == ("", "")
    assert find_key(secret).tenant == tenant
    assert Client(headers={"Host": "north.localhost"}).get("/admin/login/").status_code in (200, 302)
    assert platform_log("north-shop") == ["tenant.requested", "tenant.created"]
    assert tenant not in find_unfinished()
    assert build_tenant(tenant).status_changed_at == tenant.status_changed_at, "building twice changes nothing"


def test_a_step_that_fails_is_named_and_can_be_retried(world: World) -> None:
    tenant = operations.request_tenant(slug="north", name="North")
    with connection.cursor() as cursor:
        cursor.execute("CREATE SCHEMA north; CREATE TABLE north.agents_agent (id int)")
    with pytest.raises(BuildFailed, match=r'agents\.0001_initial: relation "agents_agent" already exists'):
        build_tenant(tenant)
    tenant.refresh_from_db()
    assert tenant.status == TenantStatus.CREATING
    assert tenant.work_error.startswith("agents.0001_initial")
    assert 0 < tenant.work_done < tenant.work_total
    assert tenant not in find_unfinished(), "it waits for its retry"
    assert connection.schema_name == "public"
    with connection.cursor() as cursor:
        cursor.execute("DROP TABLE north.agents_agent")
    tenant = operations.retry_tenant(tenant=tenant)
    assert tenant in find_unfinished()
    assert build_tenant(tenant).status == TenantStatus.ACTIVE
    assert platform_log("north") == ["tenant.requested", "tenant.build_failed", "tenant.retried", "tenant.created"]
    with tenant_context(tenant):
        assert Agent.objects.count() == 0


def test_only_what_stands_still_is_retried(world: World) -> None:
    with pytest.raises(operations.StatusRefused, match="stands still"):
        operations.retry_tenant(tenant=world.alpha.tenant)


def test_a_schema_without_a_tenant_is_not_handed_to_a_new_one(world: World) -> None:
    with connection.cursor() as cursor:
        cursor.execute("CREATE SCHEMA left_over")
    with pytest.raises(operations.SlugRefused, match="of no tenant"):
        operations.request_tenant(slug="left-over", name="X")
    assert operations.create_tenant(slug="left-over", name="X", adopt_schema=True).status == TenantStatus.ACTIVE


@pytest.mark.parametrize("word", sorted(SHARED_WORDS))
def test_words_of_shared_redis_keys_name_no_tenant(world: World, word: str) -> None:
    with pytest.raises(operations.SlugRefused, match="reserved"):
        operations.request_tenant(slug=word.replace("_", "-"), name="X")


def test_every_shared_word_in_the_code_is_reserved() -> None:
    rooms = ("agents", "agentvoicebox", "celery_workers", "realtime", "speech", "tenants")
    code = "".join(file.read_text() for room in rooms for file in (ROOT / room).rglob("*.py"))
    words = set(re.findall(r"""["'`]avb:([a-z_]+)[:"'`]""", code))
    assert {"worker", "archive", "sessions"} <= words
    assert words - SHARED_WORDS - {"public"} == set()


@pytest.mark.parametrize(
    ("domains", "refusal"),
    [
        (["ALPHA.localhost"], operations.DomainTaken),
        (["https://x.example"], operations.DomainRefused),
        (["x.example:80"], operations.DomainRefused),
        (["x/y"], operations.DomainRefused),
        ([""], operations.DomainRefused),
        (["a" * 254], operations.DomainRefused),
        (["x.example\n"], operations.DomainRefused),
        ([f"h{number}.example" for number in range(51)], operations.DomainRefused),
    ],
)
def test_host_names_that_cannot_be_leave_nothing_behind(world: World, domains: list[str], refusal: type) -> None:
    with pytest.raises(refusal) as raised:
        operations.request_tenant(slug="thief", name="X", domains=domains)
    assert raised.value.param == "domains"
    assert not Tenant.objects.filter(slug="thief").exists()


# --- suspending ---


def test_suspending_closes_keys_and_pages_and_resuming_opens_them(
    world: World, valkey_url: str, django_capture_on_commit_callbacks: Callable[..., Any]
) -> None:
    alpha, beta = world.alpha, world.beta
    listener = redis.Redis.from_url(valkey_url).pubsub(ignore_subscribe_messages=True)
    listener.subscribe("avb:access:ended")
    listener.get_message(timeout=1)
    with django_capture_on_commit_callbacks(execute=True):
        tenant = operations.suspend_tenant(tenant=alpha.tenant, reason="the invoice of May")
    heard = listener.get_message(timeout=1)
    assert heard is not None
    assert b'"tenant":"alpha"' in heard["data"]
    assert b"tenant_suspended" in heard["data"]
    with pytest.raises(TenantSuspended) as refusal:
        find_key(alpha.key)
    assert refusal.value.code == "tenant_suspended"
    assert Client(headers={"Host": alpha.host}).get("/admin/login/").status_code == 403
    assert find_key(beta.key)
    assert Client(headers={"Host": beta.host}).get("/admin/login/").status_code != 403
    assert (tenant.status_reason, own_log(tenant)[-1]) == ("the invoice of May", "tenant.suspended")
    with pytest.raises(operations.StatusRefused, match="only what is active"):
        operations.suspend_tenant(tenant=tenant, reason="again")
    tenant = operations.resume_tenant(tenant=tenant)
    assert find_key(alpha.key)
    assert tenant.status_reason == ""
    last = Entry.objects.filter(target="alpha").latest("seq")
    assert (last.action, last.before) == ("tenant.resumed", {"reason": "the invoice of May"})
    with pytest.raises(operations.StatusRefused):
        operations.resume_tenant(tenant=tenant)


@pytest.mark.parametrize("reason", ["", "  ", "x" * 501])
def test_who_suspends_says_why(world: World, reason: str) -> None:
    with pytest.raises(operations.ReasonMissing) as refusal:
        operations.suspend_tenant(tenant=world.alpha.tenant, reason=reason)
    assert refusal.value.param == "reason"


# --- deleting ---


def test_a_deletion_is_confirmed_waits_and_can_be_cancelled(world: World, settings: Any, valkey_url: str) -> None:
    alpha = world.alpha.tenant
    for wrong in ("", "beta", "ALPHA", "alpha "):
        with pytest.raises(operations.ConfirmationWrong):
            operations.request_deletion(tenant=alpha, confirmation=wrong)
    tenant = operations.request_deletion(tenant=alpha, confirmation="alpha", reason="they leave")
    assert tenant.delete_after - timezone.now() > timedelta(days=29)
    with pytest.raises(TenantSuspended) as refusal:
        find_key(world.alpha.key)
    assert refusal.value.code == "tenant_deleted"
    with pytest.raises(NotDue):
        erase_tenant(tenant)
    assert tenant not in find_unfinished()
    with pytest.raises(operations.StatusRefused, match="already"):
        operations.request_deletion(tenant=tenant, confirmation="alpha")
    with pytest.raises(operations.StatusRefused, match="undelete"):
        operations.update_tenant(tenant=tenant, name="Other")
    tenant = operations.cancel_deletion(tenant=tenant)
    assert (tenant.status, tenant.delete_after) == (TenantStatus.ACTIVE, None)
    assert find_key(world.alpha.key)
    assert platform_log("alpha")[-2:] == ["tenant.deletion_requested", "tenant.deletion_cancelled"]
    settings.TENANT_DELETE_GRACE_DAYS = 0
    tenant = operations.request_deletion(tenant=tenant, confirmation="alpha")
    assert timedelta(0) < tenant.delete_after - timezone.now() <= timedelta(seconds=operations.SETTLE_S)


def test_a_cancelled_deletion_does_not_undo_a_suspension(world: World, valkey_url: str) -> None:
    tenant = operations.suspend_tenant(tenant=world.alpha.tenant, reason="unpaid")
    tenant = operations.request_deletion(tenant=tenant, confirmation="alpha")
    assert operations.cancel_deletion(tenant=tenant).status == TenantStatus.SUSPENDED
    with pytest.raises(operations.StatusRefused):
        operations.cancel_deletion(tenant=tenant)


def fill_redis(client: Any, world: World) -> None:
    for name, key in (("alpha", world.alpha.key), ("beta", world.beta.key)):
        key_id = find_key(key).public_id
        for number in range(1_200):
            client.set(f"avb:{name}:job:{number}:audio", b"x")
        client.xadd(f"avb:{name}:archive", {"e": b"x"})
        client.set(f"avb:client_secret:{name}hash", b"x")
        client.zadd(f"avb:{name}:client_secrets:{key_id}", {f"{name}hash": 9e9})
        client.sadd("avb:archive:tenants", name)
        client.sadd("avb:sessions:tenants", name)
        client.zadd("avb:later:tenants", {name: 1})


def keys_of(client: Any, name: str) -> set[bytes]:
    return {key for key in client.keys("avb:*") if name.encode() in key}


def test_an_erasure_leaves_nothing_but_its_certificate(world: World, valkey_url: str) -> None:
    client = redis.Redis.from_url(valkey_url)
    fill_redis(client, world)
    beta_keys = keys_of(client, "beta")
    shared = add_member(tenant=world.alpha.tenant, email=world.beta.owner.email, role=Role.VIEWER).user
    tenant = operations.request_deletion(tenant=world.alpha.tenant, confirmation="alpha")
    make_due(tenant)
    assert tenant in find_unfinished()
    entry = erase_tenant(tenant)

    assert not schema_exists("alpha")
    assert keys_of(client, "alpha") == set()
    for name in ("archive", "sessions"):
        assert client.smembers(f"avb:{name}:tenants") == {b"beta"}
    assert client.zrange("avb:later:tenants", 0, -1) == [b"beta"]
    assert not Tenant.objects.filter(slug="alpha").exists()
    for model in (ApiKey, Membership, Domain):
        assert not model.objects.filter(tenant_id=tenant.pk).exists()
    assert not User.objects.filter(email=world.alpha.owner.email).exists()
    assert User.objects.filter(pk=shared.pk).exists(), "who belongs to another tenant stays"

    said = verify(entry.after)
    assert said["slug"] == "alpha"
    assert said["removed"]["redis"]["keys"] == 1_202
    assert said["removed"]["redis"]["client_secrets"] == 1
    assert said["removed"]["redis"]["memberships"] == 3
    assert said["removed"]["schema"]["rows"] >= 4
    assert said["removed"]["records"]["tenants.ApiKey"] == 1
    assert said["removed"]["records"]["tenants.User"] == 2
    assert set(said["left"].values()) == {0}
    assert platform_log("alpha")[-3:] == ["tenant.deletion_requested", "tenant.erasure_begun", "tenant.erased"]
    assert find_certificate("alpha") == entry
    assert chain.digest(entry) == entry.hash

    assert keys_of(client, "beta") == beta_keys
    assert find_key(world.beta.key)
    with tenant_context(world.beta.tenant):
        assert Agent.objects.filter(slug="beta-desk").exists()


def test_an_erasure_that_was_cut_short_goes_on_with_its_first_counts(
    world: World, valkey_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = redis.Redis.from_url(valkey_url)
    fill_redis(client, world)
    tenant = operations.request_deletion(tenant=world.alpha.tenant, confirmation="alpha")
    make_due(tenant)

    class Killed(BaseException):
        pass

    def die(*_: object) -> None:
        raise Killed

    with monkeypatch.context() as broken:
        broken.setattr(erasers.RedisKeys, "erase", die)
        with pytest.raises(Killed):
            erase_tenant(tenant)
    assert not schema_exists("alpha")
    tenant.refresh_from_db()
    assert (tenant.work_step, tenant.work_done) == ("redis", tenant.work_total - 1)
    assert tenant in find_unfinished()
    with pytest.raises(operations.StatusRefused, match="has begun"):
        operations.cancel_deletion(tenant=tenant)
    removed = verify(erase_tenant(tenant).after)["removed"]
    assert removed["schema"]["rows"] >= 4
    assert removed["redis"]["keys"] == 1_202


def test_what_cannot_be_erased_stops_the_certificate(
    world: World, valkey_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = redis.Redis.from_url(valkey_url)
    fill_redis(client, world)
    tenant = operations.request_deletion(tenant=world.alpha.tenant, confirmation="alpha")
    make_due(tenant)
    with monkeypatch.context() as broken:
        broken.setattr(erasers.RedisKeys, "erase", lambda *_: None)
        with pytest.raises(ErasureFailed, match=r"'redis': \{'keys': 1202"):
            erase_tenant(tenant)
    tenant.refresh_from_db()
    assert "This is left" in tenant.work_error
    assert tenant not in find_unfinished()
    assert find_certificate("alpha") is None
    Tenant.objects.filter(pk=tenant.pk).update(work_at=timezone.now() - timedelta(minutes=6))
    assert tenant in find_unfinished(), "it is tried again by itself"
    verify(erase_tenant(tenant).after)


def test_the_name_of_an_erased_tenant_is_not_given_again(world: World, valkey_url: str) -> None:
    tenant = operations.request_deletion(tenant=world.alpha.tenant, confirmation="alpha")
    make_due(tenant)
    erase_tenant(tenant)
    with pytest.raises(operations.SlugRefused, match="was erased"):
        operations.request_tenant(slug="alpha", name="Alpha")


def test_what_comes_after_an_erasure_is_taken_away(world: World, valkey_url: str) -> None:
    client = redis.Redis.from_url(valkey_url)
    fill_redis(client, world)
    tenant = operations.request_deletion(tenant=world.alpha.tenant, confirmation="alpha")
    make_due(tenant)
    erase_tenant(tenant)
    assert erase_leftovers() == []
    client.xadd("avb:alpha:archive", {"e": b"late"})
    client.sadd("avb:archive:tenants", "alpha", "never_was")
    beta_keys = keys_of(client, "beta")
    assert erase_leftovers() == ["alpha"]
    assert keys_of(client, "alpha") == set()
    assert client.smembers("avb:archive:tenants") == {b"beta", b"never_was"}
    assert keys_of(client, "beta") == beta_keys
    assert platform_log("alpha")[-1] == "tenant.leftovers_erased"


def test_a_deletion_during_the_making_is_not_overruled(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    tenant = operations.request_tenant(slug="north", name="North")

    def delete_meanwhile(*_: object) -> dict[str, int]:
        operations.request_deletion(tenant=tenant, confirmation="north")
        return {"migrations": 0}

    monkeypatch.setattr("tenants.lifecycle.building.migrate_schema", delete_meanwhile)
    assert build_tenant(tenant).status == TenantStatus.DELETING
    assert "tenant.created" not in platform_log("north")
    assert operations.cancel_deletion(tenant=tenant).status == TenantStatus.CREATING


def test_two_workers_are_never_at_one_schema(world: World) -> None:
    other = connection.copy()
    try:
        with other.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_lock(hashtextextended('lifecycle:alpha', 0))")
        with pytest.raises(Busy, match="alpha"), holding("alpha"):
            pass
        with holding("beta"):
            pass
    finally:
        other.connection.close()  # really: a pool would keep the lock
        other.close()


# --- the certificate ---

CERTIFICATE = {"version": 1, "slug": "x", "removed": {"redis": {"keys": 3}}, "left": {"redis": 0}}


def tamper(signed: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return copy.deepcopy(signed) | changes


def test_a_certificate_holds_until_anything_in_it_is_changed() -> None:
    signed = sign(CERTIFICATE)
    assert verify(signed) == CERTIFICATE
    changed = tamper(signed, certificate=signed["certificate"].replace("3", "4"))
    with pytest.raises(CertificateInvalid, match="hash"):
        verify(changed)
    forged = sign(CERTIFICATE | {"slug": "y"})
    with pytest.raises(CertificateInvalid, match="signature"):
        verify(tamper(forged, signature=signed["signature"]))
    for broken in ({}, tamper(signed, signature="%%"), tamper(signed, signature=None), tamper(signed, certificate={})):
        with pytest.raises(CertificateInvalid):
            verify(broken)
    with pytest.raises(CertificateInvalid, match="signature"):
        verify(tamper(signed, signature=base64.b64encode(bytes(64)).decode()))


def test_a_new_secret_key_keeps_old_certificates_good_while_it_knows_the_old_one(settings: Any) -> None:
    signed, old = sign(CERTIFICATE), settings.SECRET_KEY
    kept = public_keys()[0]
    settings.SECRET_KEY, settings.SECRET_KEY_FALLBACKS = "another secret", []
    with pytest.raises(CertificateInvalid, match="AVB_SECRET_KEY_FALLBACKS"):
        verify(signed)
    verify(signed, public_key=kept)
    with pytest.raises(CertificateInvalid):
        verify(sign(CERTIFICATE), public_key=kept)
    settings.SECRET_KEY_FALLBACKS = [old]
    verify(signed)
    assert sign(CERTIFICATE)["public_key"] != kept
