"""Who is let in, with what, and how the others are turned away."""

import pytest

from agents.spec import AgentSpec, Caller
from realtime.runtime.door import (
    Admission,
    ConnectGate,
    Refusal,
    Visit,
    admit_with_secret,
    choose_subprotocol,
    id_source,
    read_visit,
    subscriber_at_gate,
)
from realtime.runtime.secrets import ClientSecret
from tests.runtime.ports import party

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
    assert choose_subprotocol(subprotocols) == ("realtime" if subprotocols else None)


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


EPHEMERAL = {"authorization": "Bearer ek_0123456789abcdefghijklmnopqrstuv"}
CALLER = Caller("acme", "key_1", AgentSpec(slug="front", name="Front", instructions="Be brief."))
PARTY = party()


def secret(**session: object) -> ClientSecret:
    return ClientSecret(tenant="acme", key_id="key_1", agent="front", session=session, expires_at=1)


@pytest.mark.parametrize(("query", "model", "agent"), [("", "", None), ("model=gpt-realtime", "gpt-realtime", None)])
def test_a_client_secret_needs_no_model(query: str, model: str, agent: str | None) -> None:
    visit = read_visit(EPHEMERAL, [], query)
    assert (visit.model, visit.agent) == (model, agent)


def test_the_secrets_session_is_there_from_the_start() -> None:
    session = {"type": "realtime", "model": "agent:front", "audio": {"output": {"voice": "cedar"}}}
    admission = admit_with_secret(Visit("ek_", "", None, False), secret(**session), CALLER, PARTY)
    wire = admission.config("sess_1", 9).wire
    assert (wire["model"], wire["audio"]["output"]["voice"]) == ("agent:front", "cedar")
    assert (wire["instructions"], wire["expires_at"]) == ("Be brief.", 9)


def test_the_secret_says_what_kind_of_session_it_opens() -> None:
    visit = Visit("ek_", "gpt-realtime", None, False)
    admission = admit_with_secret(visit, secret(type="transcription"), CALLER, PARTY)
    assert admission.transcription
    assert admission.config("sess_1", 9).wire["object"] == "realtime.transcription_session"


@pytest.mark.parametrize("agent", [None, "front"])
def test_a_secret_opens_its_own_agent(agent: str | None) -> None:
    assert admit_with_secret(Visit("ek_", "m", agent, False), secret(type="realtime"), CALLER, PARTY).caller == CALLER


def test_a_secret_opens_no_other_agent() -> None:
    with pytest.raises(Refusal) as refusal:
        admit_with_secret(Visit("ek_", "agent:back", "back", False), secret(type="realtime"), CALLER, PARTY)
    assert refusal.value.close_reason == "invalid_request_error.invalid_model"


def test_a_session_that_no_longer_fits_is_refused_with_its_reason() -> None:
    broken = Admission(CALLER, PARTY, "m", False, {"type": "realtime", "audio": {"output": {"voice": "gone"}}})
    with pytest.raises(Refusal) as refusal:
        broken.config("sess_1", 9)
    assert refusal.value.close_code == 4000
    assert "'gone'" in refusal.value.message


def test_the_gate_counts_a_second_in_all_and_of_each_subscriber() -> None:
    now = 0.0
    gate = ConnectGate(4, 2, clock=lambda: now)
    for subscriber in ("a", "a", "b"):
        gate.enter(subscriber)
    with pytest.raises(Refusal, match="2 new connections a second from one address"):
        gate.enter("a")
    gate.enter("")
    with pytest.raises(Refusal, match="takes 4 new connections a second"):
        gate.enter("c")
    now = 0.99
    with pytest.raises(Refusal):
        gate.enter("a")
    now = 1.0
    for subscriber in ("a", "a", "", ""):
        gate.enter(subscriber)
    now = 2.5
    free = ConnectGate(10, 0, clock=lambda: now)
    for _ in range(10):
        free.enter("a")


@pytest.mark.parametrize(
    ("peer", "address", "proxies", "subscriber"),
    [
        ("8.8.8.8", "8.8.8.8", (), "8.8.8.8"),
        ("2a00:1450::1", "2a00:1450::1", (), "2a00:1450::/64"),
        ("2a00:1450::ffff:1", "2a00:1450::ffff:1", (), "2a00:1450::/64"),
        ("127.0.0.1", "127.0.0.1", (), ""),
        ("10.1.2.3", "10.1.2.3", (), ""),
        ("100.64.0.1", "100.64.0.1", (), ""),
        ("::ffff:10.1.2.3", "10.1.2.3", (), ""),
        ("", "", (), ""),
        ("10.1.2.3", "8.8.8.8", ("10.0.0.0/8",), "8.8.8.8"),
        ("10.1.2.3", "10.9.9.9", ("10.1.0.0/16",), "10.9.9.9"),
    ],
)
def test_by_whom_the_gate_counts(peer: str, address: str, proxies: tuple[str, ...], subscriber: str) -> None:
    assert subscriber_at_gate(peer, address, proxies) == subscriber


def test_the_address_brings_variables_of_the_caller_and_others() -> None:
    query = "model=agent:front&caller.name=Ann&variables.room=7&variables.caller.tier=gold&room=8"
    assert read_visit(BEARER, [], query).values == {"caller.name": "Ann", "room": "7", "caller.tier": "gold"}


@pytest.mark.parametrize(
    ("headers", "query", "words"),
    [
        (BEARER, "variables.call.id=1", "are ours"),
        (BEARER, "variables.caller.id=1", "caller.id is the end user"),
        (BEARER, "variables.=1", "A variable is called by letters"),
        (BEARER, f"variables.room={'x' * 1_001}", "at most 1000 characters"),
        (BEARER, "&".join(f"variables.v{number}=1" for number in range(33)), "at most 32 variables; got 33"),
        (EPHEMERAL, "variables.room=7", "With a client secret"),
    ],
)
def test_variables_that_an_address_cannot_bring(headers: dict[str, str], query: str, words: str) -> None:
    with pytest.raises(Refusal, match=words):
        read_visit(headers, [], f"model=agent:front&{query}")
