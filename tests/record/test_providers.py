"""A tenant's providers: what they need, what models mean, who is told what of them."""

from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django_tenants.utils import tenant_context

from agents.llm.choice import read_platform
from agents.models import Agent
from agents.providers import operations, queries
from agents.providers.models import Provider
from agents.providers.operations import ProviderInUse, ProviderInvalid
from tenants.audit.models import Entry
from tenants.encryption.fields import Sealed
from tests.record.world import World

PLATFORM = {
    "OPENAI_API_KEY": "sk-platform", "GROQ_API_KEY": "gsk-platform", "OLLAMA_HOST": "127.0.0.1:9",
    "AWS_REGION": "eu-central-1", "AWS_PROFILE": "voice",
}  # fmt: skip
ANTHROPIC = {"name": "claude", "kind": "anthropic", "credentials": {"api_key": "sk-ant"}, "model": "claude-x"}
KEY_PAIR = {"region": "eu-central-1", "access_key_id": "AKID", "secret_access_key": "s"}


@pytest.fixture(autouse=True)
def alpha(world: World, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Inside the first tenant, on a platform with some providers."""
    platform = read_platform(PLATFORM)
    monkeypatch.setattr(queries, "platform", lambda: platform)
    with tenant_context(world.alpha.tenant):
        yield


def test_credentials_are_sealed_and_opened_only_for_a_call() -> None:
    operations.create_provider(**ANTHROPIC)
    with connection.cursor() as cursor:
        cursor.execute("SELECT credentials, credentials_set::text FROM providers_provider")
        [(sealed, names)] = cursor.fetchall()
    assert b"sk-ant" not in bytes(sealed)
    assert names == '["api_key"]'
    [listed] = [listed.own for listed in queries.list_providers() if listed.own]
    assert "credentials" not in listed.__dict__
    assert isinstance(Provider.objects.get().__dict__["credentials"], Sealed)
    [ref] = queries.resolve_models(["claude"])
    assert ref.provider is not None
    assert (ref.provider.credential("api_key"), ref.provider.tenant) == ("sk-ant", "alpha")
    assert "sk-ant" not in repr(ref)


@pytest.mark.parametrize(
    ("changes", "field", "words"),
    [
        ({"name": "Two Words"}, "name", "Use 1 to 63 lower-case letters"),
        ({"kind": "gemini"}, "kind", "is not a valid choice"),
        ({"kind": "embedded"}, "kind", "is not a valid choice"),
        ({"credentials": {}}, "credentials", "needs an api_key"),
        ({"credentials": {"token": "x"}}, "credentials", "has no credential 'token'; there are api_key."),
        ({"credentials": {"api_key": "a\r\nb"}}, "credentials", "printable ASCII"),
        ({"credentials": {"api_key": "x" * 4_097}}, "credentials", "at most 4096"),
        ({"kind": "ollama", "credentials": {}}, "base_url", "needs its address"),
        ({"kind": "openai_compatible"}, "base_url", "needs its address"),
        ({"base_url": "llm.example.com"}, "base_url", "An address looks like"),
        ({"base_url": "ftp://llm.example.com"}, "base_url", "An address looks like"),
        ({"base_url": "https://user:pass@llm.example.com"}, "base_url", "An address looks like"),
        ({"base_url": "https://llm.example.com/v1?key=x"}, "base_url", "An address looks like"),
        ({"base_url": "http://["}, "base_url", "An address looks like"),
        ({"kind": "bedrock"}, "credentials", "needs its region"),
        ({"kind": "bedrock", "credentials": {"region": "here/../x"}}, "credentials", "needs its region"),
        ({"kind": "bedrock", "credentials": {"region": "eu-central-1"}}, "credentials", "access_key_id and secret"),
        (
            {"kind": "bedrock", "credentials": {"region": "eu-central-1", "access_key_id": "A"}},
            "credentials", "go together",
        ),
        ({"colour": "red"}, "colour", "There is no such field."),
    ],
)  # fmt: skip
def test_what_cannot_be_asked_is_refused_by_field(changes: dict[str, Any], field: str, words: str) -> None:
    with pytest.raises(ProviderInvalid) as error:
        operations.create_provider(**ANTHROPIC | changes)
    assert list(error.value.errors) == [field]
    assert words in error.value.errors[field][0]
    assert not Provider.objects.exists()


@pytest.mark.parametrize(
    "fields",
    [
        {"kind": "openai", "credentials": {"api_key": "k"}},
        {"kind": "ollama", "base_url": "http://10.0.0.5:11434/v1"},
        {"kind": "openai_compatible", "base_url": "https://llm.example.com/v1", "credentials": {"api_key": "k"}},
        {"kind": "bedrock", "credentials": KEY_PAIR},
        {"kind": "bedrock", "credentials": {"region": "us-gov-west-1", "api_key": "k"}},
        {"kind": "bedrock", "credentials": KEY_PAIR | {"session_token": "t"}},
    ],
    ids=lambda fields: "-".join([fields["kind"], *fields.get("credentials", {})]),
)
def test_each_kind_has_what_it_needs(fields: dict[str, Any]) -> None:
    operations.create_provider(name="one", **fields)
    [ref] = queries.resolve_models(["one/model"])
    assert ref.provider is not None
    assert dict(ref.provider.credentials) == fields.get("credentials", {})
    assert (ref.provider.kind, ref.model) == (fields["kind"], "model")


def test_a_name_is_taken_once() -> None:
    operations.create_provider(**ANTHROPIC)
    with pytest.raises(ProviderInvalid, match="A provider 'claude' exists already"):
        operations.create_provider(**ANTHROPIC)


def test_there_may_be_only_so_many(settings: Any) -> None:
    settings.PROVIDERS_PER_TENANT = 1
    operations.create_provider(**ANTHROPIC)
    with pytest.raises(ProviderInvalid, match="There may be 1 providers; delete one first"):
        operations.create_provider(**ANTHROPIC | {"name": "other"})


def test_credentials_are_replaced_one_by_one() -> None:
    made = operations.create_provider(name="aws", kind="bedrock", credentials=KEY_PAIR)
    operations.update_provider(provider=made, credentials={"secret_access_key": "new", "session_token": "t"})
    assert Provider.objects.get().credentials == KEY_PAIR | {"secret_access_key": "new", "session_token": "t"}
    operations.update_provider(provider=made, credentials={"session_token": None})
    assert Provider.objects.get().credentials_set == ["access_key_id", "region", "secret_access_key"]
    with pytest.raises(ProviderInvalid, match="go together"):
        operations.update_provider(provider=made, credentials={"access_key_id": ""})


@pytest.mark.parametrize("changes", [{"base_url": "https://elsewhere.example/v1"}, {"kind": "openai"}])
def test_credentials_are_not_passed_on_to_another_place(changes: dict[str, str]) -> None:
    """Else whoever may change an address could have them sent to one of their own."""
    made = operations.create_provider(**ANTHROPIC)
    with pytest.raises(ProviderInvalid, match="Send the credentials too"):
        operations.update_provider(provider=made, **changes)
    operations.update_provider(provider=made, credentials={"api_key": "new"}, **changes)
    assert Provider.objects.get().credentials == {"api_key": "new"}


def test_what_was_done_is_in_the_log_without_a_secret() -> None:
    made = operations.create_provider(**ANTHROPIC)
    operations.update_provider(provider=made, model="claude-y", credentials={"api_key": "sk-new"})
    operations.update_provider(provider=made, model="claude-y")
    operations.delete_provider(provider=made)
    created, updated, deleted = Entry.objects.filter(action__startswith="provider.").order_by("seq")
    assert [entry.action for entry in (created, updated, deleted)] == [
        "provider.created", "provider.updated", "provider.deleted",
    ]  # fmt: skip
    assert created.after["kind"] == "anthropic"
    assert (updated.before, updated.after) == ({"model": "claude-x"}, {"model": "claude-y", "replaced": ["api_key"]})
    assert not [entry for entry in (created, updated, deleted) if "sk-" in f"{entry.before}{entry.after}"]


def test_a_name_means_a_provider_only_where_there_is_one() -> None:
    operations.create_provider(**ANTHROPIC)
    operations.create_provider(name="groq", kind="groq", credentials={"api_key": "own"})
    names = ["claude/claude-y", "claude", "groq/openai/gpt-oss-20b", "openai", "gpt-5", "org/model"]
    refs = queries.resolve_models(names)
    assert [(ref.provider.name if ref.provider else None, ref.model) for ref in refs] == [
        ("claude", "claude-y"), ("claude", ""), ("groq", "openai/gpt-oss-20b"), ("openai", ""), (None, "gpt-5"),
        (None, "org/model"),
    ]  # fmt: skip
    groq, openai = refs[2].provider, refs[3].provider
    assert groq is not None
    assert openai is not None
    # The tenant's own takes the place of the platform's; what is the platform's stays so.
    assert (groq.credential("api_key"), groq.tenant, groq.answers_as) == ("own", "alpha", "own:groq")
    assert (openai.credential("api_key"), openai.tenant, openai.answers_as) == ("sk-platform", "", "openai")


def test_a_chain_costs_one_query_and_no_chain_none() -> None:
    operations.create_provider(**ANTHROPIC)
    with CaptureQueriesContext(
        connection,
    ) as captured:
        queries.resolve_models(["claude/a", "claude/b", "openai", "groq/x", "gpt-5"])
    assert len([query for query in captured if "providers_provider" in query["sql"]]) == 1
    with CaptureQueriesContext(connection) as captured:
        assert queries.resolve_models([]) == ()
    assert len(captured) == 0


def test_what_cannot_be_published_is_said_with_what_there_is() -> None:
    made = operations.create_provider(**ANTHROPIC | {"model": ""})
    operations.create_provider(**ANTHROPIC | {"name": "off", "is_enabled": False})
    faults = queries.check_models(["gpt-5", "claude/x", "groq/a/b", "claude", "bedrock", "off/x", "clawed/x"])
    assert faults == {
        "claude": "Say which model of 'claude': claude/model.",
        "bedrock": "Say which model of 'bedrock': bedrock/model.",
        "off/x": "The provider 'off' is switched off.",
        "clawed/x": "There is no provider 'clawed'. There are: bedrock, claude, groq, off, ollama, openai.",
    }
    operations.update_provider(provider=made, model="claude-x")
    assert queries.check_models(["claude"]) == {}


def test_models_with_slashes_are_models_where_the_default_has_such(monkeypatch: pytest.MonkeyPatch) -> None:
    environ = {"OPENAI_BASE_URL": "http://a/v1", "AVB_LLM_MODEL": "org/m", "OLLAMA_HOST": "127.0.0.1:9"}
    monkeypatch.setattr(queries, "platform", lambda: read_platform(environ))
    assert queries.check_models(["meta-llama/llama-4"]) == {}
    monkeypatch.setattr(queries, "platform", lambda: read_platform({"OLLAMA_HOST": "127.0.0.1:9"}))
    [words] = queries.check_models(["gpt-5"]).values()
    assert words == "There is no default provider that could serve 'gpt-5'; write provider/model. There are: ollama."
    [words] = queries.check_models(["openai-compatible/tiny"]).values()
    assert words == (
        "There is no provider 'openai-compatible', and no default one that could serve 'openai-compatible/tiny'. "
        "There are: ollama."
    )
    embedded = environ | {"AVB_LLM_EMBEDDED": "1", "AVB_LLM_MODEL": "m"}
    monkeypatch.setattr(queries, "platform", lambda: read_platform(embedded))
    [words] = queries.check_models(["opnai/gpt-4o"]).values()
    assert words == "There is no provider 'opnai'. There are: embedded, ollama."


def test_who_is_switched_off_is_known_to_be_so() -> None:
    """The chain says so, rather than that the model were one of the platform's default provider."""
    operations.create_provider(**ANTHROPIC | {"is_enabled": False})
    [ref] = queries.resolve_models(["claude/x"])
    assert ref.provider is not None
    assert not ref.provider.enabled


@pytest.mark.parametrize("where", ["model", "fallback_models"])
def test_who_is_named_by_an_agent_stays(world: World, where: str) -> None:
    made = operations.create_provider(**ANTHROPIC)
    Agent.objects.filter(slug="alpha-desk").update(**{where: "claude/x" if where == "model" else ["gpt-5", "claude"]})
    with pytest.raises(ProviderInUse, match="The provider 'claude' is named by alpha-desk"):
        operations.delete_provider(provider=made)
    with pytest.raises(ProviderInUse):
        operations.update_provider(provider=made, name="anthropic")
    Agent.objects.filter(slug="alpha-desk").update(model="claudette/x", fallback_models=["gpt-5"])
    operations.delete_provider(provider=made)
    assert not Provider.objects.exists()


def test_another_tenant_has_none_of_it(world: World) -> None:
    operations.create_provider(**ANTHROPIC)
    with tenant_context(world.beta.tenant):
        assert [listed.name for listed in queries.list_providers()] == ["bedrock", "groq", "ollama", "openai"]
        [ref] = queries.resolve_models(["claude/x"])
        assert (ref.provider, ref.model) == (None, "claude/x")
        with pytest.raises(queries.ProviderUnknown):
            queries.find_provider("claude")
