"""The platform's own models, by the environment that the ecosystem's tools use."""

import asyncio

import pytest

from agents.egress.config import EgressConfig
from agents.llm.choice import Platform, ollama_models, read_platform
from agents.llm.config import FailoverConfig, read_config
from agents.llm.failover import build
from agents.llm.providers import ModelRef, Provider, refer
from agentvoicebox.stack.processes import find_llm
from tests.llm.models import local_breakers

NOWHERE = {"OLLAMA_HOST": "127.0.0.1:9"}
KEYS = {"OPENAI_API_KEY": "sk-x", "ANTHROPIC_API_KEY": "sk-ant", "GROQ_API_KEY": "gsk"}
AWS = {"AWS_REGION": "eu-central-1", "AWS_ACCESS_KEY_ID": "AKID", "AWS_SECRET_ACCESS_KEY": "s"}


def chain(platform: Platform) -> list[str]:
    return [f"{ref.provider.name}/{ref.model}" for ref in platform.chain if ref.provider]


@pytest.mark.parametrize(
    ("environ", "asked"),
    [
        ({}, []),
        ({"OPENAI_API_KEY": "sk-x"}, ["openai/gpt-4o-mini"]),
        ({"OPENAI_API_KEY": "sk-x", "AVB_LLM_MODEL": "gpt-5"}, ["openai/gpt-5"]),
        ({"OPENAI_BASE_URL": "http://a/v1", "AVB_LLM_MODEL": "org/m"}, ["openai-compatible/org/m"]),
        ({"OPENAI_BASE_URL": "http://a/v1", "AVB_LLM_MODEL": "m", "AVB_LLM_NAME": "vllm"}, ["vllm/m"]),
        ({"OPENAI_BASE_URL": "http://a/v1", "AVB_LLM_MODEL": "m", "AVB_LLM_EMBEDDED": "1"}, ["embedded/m"]),
        ({"ANTHROPIC_API_KEY": "k"}, ["anthropic/claude-haiku-4-5"]),
        ({"GROQ_API_KEY": "k"}, ["groq/llama-3.3-70b-versatile"]),
        (KEYS, ["openai/gpt-4o-mini"]),
        (KEYS | {"AVB_LLM_MODEL": "groq"}, ["groq/llama-3.3-70b-versatile"]),
        (KEYS | {"AVB_LLM_MODEL": "groq/openai/gpt-oss-20b"}, ["groq/openai/gpt-oss-20b"]),
        (
            KEYS | {"AVB_LLM_FALLBACK_MODELS": "anthropic, groq/fast,gpt-4.1-mini"},
            ["openai/gpt-4o-mini", "anthropic/claude-haiku-4-5", "groq/fast", "openai/gpt-4.1-mini"],
        ),
        # An AWS account is often there for other things, so it is asked only where somebody says so.
        (AWS, []),
        (AWS | {"AVB_LLM_MODEL": "bedrock/eu.amazon.nova-lite-v1:0"}, ["bedrock/eu.amazon.nova-lite-v1:0"]),
    ],
)
def test_the_environment_chooses(environ: dict[str, str], asked: list[str]) -> None:
    assert chain(read_platform(NOWHERE | environ)) == asked


@pytest.mark.parametrize(
    ("environ", "words"),
    [
        ({"OPENAI_BASE_URL": "http://a/v1"}, "AVB_LLM_MODEL must name a model that http://a/v1 serves"),
        (AWS | {"AVB_LLM_MODEL": "bedrock"}, "AVB_LLM_MODEL must say which model of bedrock: bedrock/model"),
        (
            KEYS | AWS | {"AVB_LLM_FALLBACK_MODELS": "bedrock"},
            "AVB_LLM_FALLBACK_MODELS must say which model of bedrock",
        ),
        (KEYS | {"AVB_LLM_IMAGES": "perhaps"}, "AVB_LLM_IMAGES must be true or false, not 'perhaps'"),
        (KEYS | {"AVB_LLM_NAME": "a/b"}, "AVB_LLM_NAME must hold no slash"),
    ],
)
def test_what_contradicts_itself_is_said_with_the_variables_name(environ: dict[str, str], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        read_platform(NOWHERE | environ)


def test_what_a_provider_is_asked_with() -> None:
    environ = KEYS | AWS | {"ANTHROPIC_BASE_URL": "https://proxy.example", "AWS_BEARER_TOKEN_BEDROCK": "b"}
    found = read_platform(NOWHERE | environ).providers
    assert found["anthropic"] == Provider(
        "anthropic", "anthropic", "https://proxy.example", (("api_key", "sk-ant"),), "claude-haiku-4-5"
    )
    assert found["bedrock"].credentials == (("region", "eu-central-1"), ("api_key", "b"))
    assert found["ollama"].base_url == "http://127.0.0.1:9/v1"
    assert "sk-ant" not in repr(found)


def test_who_sees() -> None:
    environ = {"OPENAI_BASE_URL": "http://a/v1", "AVB_LLM_MODEL": "m"}
    for extra, sees in (
        ({}, True), ({"AVB_LLM_EMBEDDED": "1"}, False), ({"AVB_LLM_IMAGES": "false"}, False),
        ({"AVB_LLM_EMBEDDED": "1", "AVB_LLM_IMAGES": "true"}, True),
    ):  # fmt: skip
        default = read_platform(NOWHERE | environ | extra).default
        assert default is not None
        assert default.provider is not None
        assert default.provider.sees is sees


def test_a_prefix_is_a_provider_only_where_there_is_one() -> None:
    known = {"groq": Provider("groq", "groq")}
    assert refer("groq/openai/gpt-oss-20b", known) == ModelRef(known["groq"], "openai/gpt-oss-20b")
    assert refer("groq", known) == ModelRef(known["groq"])
    assert refer("meta-llama/llama-4", known) == ModelRef(None, "meta-llama/llama-4")
    assert refer("gpt-4o", known) == ModelRef(None, "gpt-4o")


async def test_an_ollama_is_found_by_its_models() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        body = b'{"models":[{"name":"small:latest"}]}' if models else b'{"models":null}'
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        host = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        for models in (True, False):
            found = await asyncio.to_thread(ollama_models, {"OLLAMA_HOST": host})
            assert found == (["small:latest"] if models else [])
            # What ./avb up asks is the same question.
            llm = await asyncio.to_thread(find_llm, {"OLLAMA_HOST": host})
            assert llm == ("ollama" if models else "embedded")
            platform = await asyncio.to_thread(read_platform, {"OLLAMA_HOST": host})
            assert chain(platform) == (["ollama/small:latest"] if models else [])
        models = True
        named = await asyncio.to_thread(read_platform, {"OLLAMA_HOST": host, "AVB_LLM_MODEL": "small"})
        assert chain(named) == ["ollama/small"]
        with pytest.raises(ValueError, match="AVB_LLM_MODEL=large is not among Ollama's models: small:latest"):
            await asyncio.to_thread(read_platform, {"OLLAMA_HOST": host, "AVB_LLM_MODEL": "large"})
    assert ollama_models({"OLLAMA_HOST": "no address at all"}) == []


@pytest.mark.parametrize("name", ["ANTHROPIC_API_KEY", "GROQ_API_KEY", "OPENAI_API_KEY"])
def test_with_a_provider_nothing_is_embedded(name: str) -> None:
    assert find_llm(NOWHERE | {name: "k"}) == "configured"
    assert find_llm(NOWHERE | AWS | {"AVB_LLM_MODEL": "bedrock/m"}) == "configured"
    assert find_llm(NOWHERE | AWS) == "embedded"


def test_how_long_and_how_often() -> None:
    assert read_config({}) == FailoverConfig(5.0, 30.0, 5, 1.0, 60.0, 256, 300.0)
    environ = {
        "AVB_LLM_FIRST_TOKEN_S": "2.5", "AVB_LLM_TOTAL_S": "20", "AVB_LLM_TRIES": "3", "AVB_LLM_BACKOFF_BASE_S": "0.5",
        "AVB_LLM_BACKOFF_MAX_S": "8", "AVB_LLM_POOL_PROVIDERS": "10", "AVB_LLM_POOL_IDLE_S": "60",
    }  # fmt: skip
    assert read_config(environ) == FailoverConfig(2.5, 20.0, 3, 0.5, 8.0, 10, 60.0)


@pytest.mark.parametrize(
    ("name", "written"), [("AVB_LLM_TRIES", "2.5"), ("AVB_LLM_TRIES", "0"), ("AVB_LLM_TOTAL_S", "soon")]
)
def test_a_wrong_number_is_said_with_the_variables_name(name: str, written: str) -> None:
    with pytest.raises(ValueError, match=f"{name} must be a"):
        read_config({name: written})


async def test_a_process_has_one_model_in_front_of_all() -> None:
    environ = KEYS | NOWHERE | {"AVB_LLM_MODEL": "anthropic/claude-x"}
    model = await asyncio.to_thread(build, environ, local_breakers(), egress=EgressConfig())
    assert (model.name, model.model) == ("anthropic", "claude-x")
    await model.start()
    await model.aclose()
