"""Who is let in, with what, and how the others are turned away."""

import pytest

from realtime.runtime.door import Refusal, id_source, read_visit

BEARER = {"authorization": "Bearer avb_live_0123456789abcdefghij"}


@pytest.mark.parametrize(
    ("query", "model", "agent"),
    [
        ("model=gpt-realtime", "gpt-realtime", None),
        ("model=gpt-4o-realtime-preview-2024-12-17", "gpt-4o-realtime-preview-2024-12-17", None),
        ("model=gpt-realtime&agent=front", "gpt-realtime", "front"),
        ("model=agent:front", "agent:front", "front"),
        ("model=front", "front", "front"),
        ("model=agent%3Afront&unknown=1", "agent:front", "front"),
    ],
)
def test_the_query_names_model_and_agent(query: str, model: str, agent: str | None) -> None:
    visit = read_visit(BEARER, [], query)
    assert (visit.model, visit.agent, visit.transcription) == (model, agent, False)


def test_a_transcription_call_needs_no_model() -> None:
    assert read_visit(BEARER, [], "intent=transcription").transcription


@pytest.mark.parametrize(
    ("headers", "subprotocols"),
    [
        ({"authorization": "bearer KEY"}, []),
        ({"api-key": "KEY"}, []),
        ({}, ["realtime", "openai-insecure-api-key.KEY", "openai-beta.realtime-v1"]),
    ],
)
def test_keys_come_by_header_or_subprotocol(headers: dict[str, str], subprotocols: list[str]) -> None:
    visit = read_visit(headers, subprotocols, "model=gpt-realtime")
    assert visit.key == "KEY"
    assert visit.subprotocol == ("realtime" if subprotocols else None)


@pytest.mark.parametrize("headers", [{}, {"authorization": "Basic abc"}, {"authorization": "Bearer "}])
def test_no_key_is_final(headers: dict[str, str]) -> None:
    with pytest.raises(Refusal) as refusal:
        read_visit(headers, [], "model=gpt-realtime")
    assert refusal.value.close_code == 3000
    assert refusal.value.close_reason == "invalid_request_error"
    assert refusal.value.message == "Missing bearer or basic authentication in header"


def test_no_model_says_what_to_give() -> None:
    with pytest.raises(Refusal) as refusal:
        read_visit(BEARER, [], "")
    assert refusal.value.close_code == 4000
    assert refusal.value.close_reason == "invalid_request_error.missing_model"
    assert "agent:NAME" in refusal.value.message


def test_ids_are_unique_and_have_the_documented_length() -> None:
    new_id = id_source()
    ids = [new_id("item") for _ in range(10_000)]
    assert len(set(ids)) == len(ids)
    assert {len(name) for name in ids} == {len("item_") + 21}
