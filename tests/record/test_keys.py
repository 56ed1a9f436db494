"""An API key from issue to revocation, and the door of a call."""

import hashlib
import re
from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from agents.queries import AgentUnknown, admit
from tenants.keys.operations import ScopeUnknown, issue_key, revoke_key, touch_key
from tenants.keys.queries import InvalidKey, KeyExpired, KeyRevoked, ScopeMissing, find_key
from tenants.models import ApiKey
from tenants.permissions import TENANT_SCOPES, Scope
from tests.record.world import World


def test_a_secret_is_shown_once_and_only_its_hash_is_kept(world: World) -> None:
    key, secret = issue_key(tenant=world.alpha.tenant, name="door")
    assert re.fullmatch(r"avb_live_[A-Za-z0-9]{40}", secret)
    assert secret.startswith(key.prefix)
    assert len(key.prefix) == 13
    row = ApiKey.objects.filter(pk=key.pk).values().get()
    assert row["secret_hash"] == hashlib.sha256(secret.encode()).hexdigest()
    assert secret not in str(row)
    assert key.scopes == sorted(TENANT_SCOPES)


def test_test_keys_say_so(world: World) -> None:
    assert issue_key(tenant=world.alpha.tenant, name="t", mode="test")[1].startswith("avb_test_")


def test_an_unknown_scope_is_named(world: World) -> None:
    with pytest.raises(ScopeUnknown, match="'fly'") as refusal:
        issue_key(tenant=world.alpha.tenant, name="t", scopes=["realtime", "fly"])
    assert refusal.value.param == "scopes"


def test_a_key_is_found_with_its_tenant_in_one_indexed_query(world: World) -> None:
    with CaptureQueriesContext(
        connection,
    ) as queries:
        found = find_key(world.beta.key)
        assert found.tenant.slug == "beta"
    selects = [query for query in queries.captured_queries if query["sql"].startswith("SELECT")]
    assert len(selects) == 1
    indexes = connection.introspection.get_constraints(connection.cursor(), "tenants_apikey").values()
    assert any(index["columns"] == ["secret_hash"] and index["unique"] for index in indexes)


@pytest.mark.parametrize(
    "secret", ["", "x", "avb_live_", "avb_live_" + "a" * 40, "sk-something", "avb_live_\0", "ä" * 50]
)
def test_a_key_that_does_not_exist_is_invalid(world: World, secret: str) -> None:
    with pytest.raises(InvalidKey):
        find_key(secret)


def test_a_key_expires(world: World) -> None:
    past = timezone.now() - timedelta(seconds=1)
    _, secret = issue_key(tenant=world.alpha.tenant, name="old", expires_at=past)
    with pytest.raises(KeyExpired):
        find_key(secret)


def test_a_revoked_key_is_an_invalid_key_and_stays_so(world: World) -> None:
    key, secret = issue_key(tenant=world.alpha.tenant, name="lost")
    revoke_key(key=key)
    first = key.revoked_at
    revoke_key(key=key)
    assert key.revoked_at == first
    with pytest.raises(KeyRevoked):
        find_key(secret)
    assert issubclass(KeyRevoked, InvalidKey)


def test_last_use_is_noted_at_most_once_per_interval(world: World, settings) -> None:
    settings.API_KEY_TOUCH_INTERVAL_S = 60
    key, _ = issue_key(tenant=world.alpha.tenant, name="busy")
    assert touch_key(key=key) is True
    key.refresh_from_db()
    first = key.last_used_at
    assert first is not None
    assert touch_key(key=key) is False
    ApiKey.objects.filter(pk=key.pk).update(last_used_at=timezone.now() - timedelta(seconds=61))
    key.refresh_from_db()
    assert touch_key(key=key) is True


def test_the_door_turns_a_key_and_a_name_into_a_caller(world: World) -> None:
    caller = admit(world.alpha.key, "alpha-desk")
    assert (caller.tenant, caller.agent.slug) == ("alpha", "alpha-desk")
    assert caller.agent.instructions == "Secret of alpha"
    assert caller.agent.language is None
    assert caller.key_id == find_key(world.alpha.key).public_id


def test_who_names_no_agent_gets_the_default_or_a_plain_one(world: World) -> None:
    from django_tenants.utils import tenant_context

    from agents.models import Agent

    assert admit(world.beta.key, None).agent.slug == "beta-desk"
    with tenant_context(world.beta.tenant):
        Agent.objects.update(is_default=False)
    plain = admit(world.beta.key, None).agent
    assert plain.slug == ""
    assert "spoken" in plain.instructions


def test_the_door_opens_no_agent_of_another_tenant_and_leaves_no_schema_behind(world: World) -> None:
    with pytest.raises(AgentUnknown, match="'beta-desk'"):
        admit(world.alpha.key, "beta-desk")
    assert connection.schema_name == "public"


def test_the_door_asks_for_the_realtime_scope(world: World) -> None:
    _, secret = issue_key(tenant=world.alpha.tenant, name="reader", scopes=[Scope.CONVERSATIONS_READ])
    with pytest.raises(ScopeMissing, match="realtime"):
        admit(secret, None)
