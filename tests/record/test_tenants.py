"""Tenants, people, and the demo that is always there."""

import json
import stat
from io import StringIO
from pathlib import Path

import pytest
from django.core.management import call_command
from django.db import connection
from django_tenants.utils import schema_exists, tenant_context

from agents.models import Agent
from agents.queries import admit
from tenants.lifecycle.erasing import erase_tenant
from tenants.lifecycle.operations import (
    DomainTaken,
    SlugRefused,
    create_tenant,
    request_deletion,
    request_tenant,
    suspend_tenant,
)
from tenants.models import Domain, Membership, Tenant, User
from tenants.people.operations import RoleUnknown, add_member
from tenants.permissions import Role
from tests.record.world import World


def test_a_tenant_gets_a_schema_and_its_host_names(world: World) -> None:
    tenant = create_tenant(slug="north-shop", name="North", domains=["North.localhost", "n.localhost"])
    assert tenant.schema_name == "north_shop"
    assert list(tenant.domains.values_list("domain", "is_primary").order_by("id")) == [
        ("north.localhost", True), ("n.localhost", False),
    ]  # fmt: skip
    with tenant_context(tenant):
        assert Agent.objects.count() == 0


@pytest.mark.parametrize(
    "slug",
    [
        "",
        "Public",
        "public",
        "pg-x",
        "information-schema",
        "a b",
        "-a",
        "a-",
        "a" * 64,
        'a"; drop',
        "alpha",
        "ä",
        "a\n",
    ],
)
def test_a_slug_that_cannot_be_is_refused(world: World, slug: str) -> None:
    before = Tenant.objects.count()
    with pytest.raises(SlugRefused) as refusal:
        create_tenant(slug=slug, name="X")
    assert refusal.value.param == "slug"
    assert Tenant.objects.count() == before


def test_two_slugs_cannot_share_a_schema(world: World) -> None:
    create_tenant(slug="a-b", name="One")
    with pytest.raises(SlugRefused):
        create_tenant(slug="a-b", name="Two")


def test_a_taken_host_name_leaves_nothing_behind(world: World) -> None:
    with pytest.raises(DomainTaken, match=r"alpha\.localhost"):
        create_tenant(slug="thief", name="Thief", domains=["new.localhost", "ALPHA.localhost"])
    assert not schema_exists("thief")
    assert not Domain.objects.filter(domain="new.localhost").exists()


def test_a_member_is_added_once_and_keeps_their_account(world: World) -> None:
    first = add_member(tenant=world.alpha.tenant, email="New@Person.example", role=Role.VIEWER, password="first-one")
    again = add_member(tenant=world.alpha.tenant, email="new@person.example", role=Role.ADMIN, password="other-one")
    assert first.pk == again.pk
    assert again.role == Role.ADMIN
    assert again.user.check_password("first-one")
    assert Membership.objects.filter(user=first.user).count() == 1


def test_an_unknown_role_is_named(world: World) -> None:
    with pytest.raises(RoleUnknown, match="'king'"):
        add_member(tenant=world.alpha.tenant, email="a@b.example", role="king")


def test_an_address_is_one_person_whatever_its_case(world: World) -> None:
    assert User.objects.get_by_natural_key("OWNER@Alpha.localhost") == world.alpha.owner
    with pytest.raises(ValueError, match="@"):
        User.objects.create_user("nobody")


def ensure_demo(state: Path) -> dict[str, str]:
    out = StringIO()
    call_command("ensure_demo", state=state, json=True, stdout=out)
    return json.loads(out.getvalue())


def test_the_demo_is_made_once_and_then_found(world: World, tmp_path: Path) -> None:
    state = tmp_path / "state" / "demo.json"
    demo = ensure_demo(state)
    assert stat.S_IMODE(state.stat().st_mode) == 0o600
    assert json.loads(state.read_text()) == demo
    assert (demo["tenant"], demo["agent"], demo["email"]) == ("demo", "demo", "owner@demo.localhost")
    caller = admit(demo["api_key"], None)
    assert caller.agent.slug == "demo"
    assert caller.agent.greeting == ""
    assert caller.agent.turn_detection == {"type": "server_vad", "silence_duration_ms": 500}
    assert ensure_demo(state) == demo
    tenant = Tenant.objects.get(slug="demo")
    assert (tenant.api_keys.count(), tenant.memberships.count(), tenant.domains.count()) == (1, 1, 3)
    assert tenant.memberships.get().user.check_password(demo["password"])
    assert connection.schema_name == "public"


def test_a_lost_or_damaged_state_file_gets_a_new_key_and_password(world: World, tmp_path: Path) -> None:
    state = tmp_path / "demo.json"
    first = ensure_demo(state)
    for content in (None, "not json", "[]", json.dumps({"api_key": world.alpha.key, "password": "wrong"})):
        if content is None:
            state.unlink()
        else:
            state.write_text(content)
        demo = ensure_demo(state)
        assert demo["api_key"] not in {first["api_key"], world.alpha.key}
        assert demo["password"] != first["password"]
        assert admit(demo["api_key"], "demo").tenant == "demo"


def test_a_demo_that_an_operator_closed_stays_closed(world: World, tmp_path: Path, valkey_url: str) -> None:
    state = tmp_path / "demo.json"
    demo = ensure_demo(state)
    tenant = suspend_tenant(tenant=Tenant.objects.get(slug="demo"), reason="not here")
    assert ensure_demo(state) == demo
    assert (Tenant.objects.get(slug="demo").status, tenant.api_keys.count()) == ("suspended", 1)
    tenant = request_deletion(tenant=tenant, confirmation="demo")
    Tenant.objects.filter(pk=tenant.pk).update(delete_after=tenant.created_at)
    connection.check_constraints()  # as the commit does that the test has none of
    erase_tenant(tenant)
    assert ensure_demo(state) == demo
    assert not Tenant.objects.filter(slug="demo").exists()


def test_a_demo_whose_making_was_cut_short_is_finished(world: World, tmp_path: Path) -> None:
    request_tenant(slug="demo", name="Demo")
    assert admit(ensure_demo(tmp_path / "demo.json")["api_key"], "demo").tenant == "demo"


def test_what_others_wrote_into_the_state_file_stays(world: World, tmp_path: Path) -> None:
    state = tmp_path / "demo.json"
    state.write_text(json.dumps({"base_url": "http://127.0.0.1:8000"}))
    ensure_demo(state)
    assert json.loads(state.read_text())["base_url"] == "http://127.0.0.1:8000"
