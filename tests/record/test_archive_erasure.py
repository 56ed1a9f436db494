"""Receipts and outcomes of an end user: exported with their calls, and gone with them but for the numbers."""

import json
from typing import Any

import msgspec
import pytest
from django_tenants.utils import tenant_context

from agents.trials.models import CallOutcome
from realtime.archive.models import Conversation, Item
from realtime.archive.operations import apply_events
from realtime.privacy.erasure import request_erasure
from realtime.privacy.export import _conversation_files
from realtime.privacy.forgetting import drop_erased, erase_rows
from realtime.privacy.retention import remove_conversations
from tests.record.test_archive_outcomes import called, ended, outcome, receipt_of, started
from tests.record.world import BEGUN, World

ADA = "ada@example.com"


@pytest.fixture
def alpha(world: World) -> Any:
    with tenant_context(world.alpha.tenant):
        apply_events(history())
        yield world


def history() -> list[Any]:
    # Before now, when the erasure is asked for.
    begun = msgspec.structs.replace(started(trial="t-1", at=BEGUN - 10**8), end_user=ADA)
    return [begun, called("i", 2, receipt_of("weather")), ended(outcome(trial="t-1", turns=4, failed=True))]


def numbers() -> list[tuple[Any, ...]]:
    found = CallOutcome.objects.values_list("session_id", "agent", "version", "trial", "turns", "failed", "duration_s")
    return list(found)


NUMBERS_ONLY = [(None, "desk", 3, "t-1", 4, True, 60.0)]


def test_of_a_removed_call_the_numbers_stay(alpha: World) -> None:
    assert numbers()[0][0] == "sess_x"
    remove_conversations(["sess_x"])
    assert numbers() == NUMBERS_ONLY
    assert not Item.objects.filter(receipt__isnull=False).exists()


def test_outside_of_a_trial_nothing_stays(alpha: World) -> None:
    CallOutcome.objects.update(trial="")
    remove_conversations(["sess_x"])
    assert numbers() == []


def test_of_a_call_that_is_erased_on_its_way_too(alpha: World) -> None:
    erase_rows({"sess_x"})
    assert numbers() == NUMBERS_ONLY
    assert not Conversation.objects.filter(pk="sess_x").exists()


def test_what_still_comes_of_it_is_dropped_and_makes_no_second_outcome(alpha: World) -> None:
    CallOutcome.objects.all().delete()
    apply_events(history()[:1])
    request_erasure(end_user=ADA)
    apply_events(drop_erased(history()))
    assert [row[:3] for row in numbers()] == [(None, "desk", 3)]
    assert not Conversation.objects.filter(pk="sess_x").exists()


def test_an_export_holds_receipts_and_outcomes(alpha: World) -> None:
    counts = {"conversations": 0, "items": 0, "recordings": 0}
    [(name, content)] = list(_conversation_files("sess_x", counts))
    shown = json.loads(b"".join(content))
    assert name == "conversations/sess_x.json"
    assert (shown["agent_version"], shown["trial"]) == (3, "t-1")
    assert shown["items"][0]["receipt"] == receipt_of("weather")
    assert (shown["items"][0]["agent"], shown["items"][0]["agent_version"]) == ("desk", 3)
    [one] = shown["outcomes"]
    assert (one["agent"], one["version"], one["turns"], one["failed"]) == ("desk", 3, 4, True)


def test_the_other_tenants_outcomes_keep_their_calls(alpha: World) -> None:
    with tenant_context(alpha.beta.tenant):
        apply_events(history())
    remove_conversations(["sess_x"])
    with tenant_context(alpha.beta.tenant):
        assert numbers()[0][0] == "sess_x"
