"""The door of a call: what a client brings to the upgrade, and how it is turned away.

Like the real service, a refusal completes the upgrade, says why in an ``error`` event, and closes.
"""

import secrets
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Literal, NamedTuple
from urllib.parse import parse_qs

from agents.dialogue.template import check_name
from agents.spec import AgentSpec, Caller
from realtime.protocol import events as ev
from realtime.protocol.config import SessionConfig
from realtime.protocol.shapes import Invalid
from realtime.runtime.secrets import ClientSecret, is_client_secret
from tenants.keys.credential import Kind
from tenants.keys.networks import read_address, subscriber_of
from tenants.limits.allowance import Party
from tenants.limits.counters import Answer
from tenants.limits.names import MINUTE_S

BETA_SUBPROTOCOL = "openai-beta.realtime-v1"
BETA_HEADER = "realtime=v1"
KEY_SUBPROTOCOL = "openai-insecure-api-key."
AGENT_PREFIX = "agent:"
CALLER, CALLER_ID = "caller.", "caller.id"
VARIABLES = "variables."
VALUES = 32
VALUE_CHARACTERS = 1_000
CLOSE_UNAUTHENTICATED = 3000
CLOSE_UNUSABLE = 4000
CLOSE_TRY_AGAIN = 1013
END_USER_HEADER = "openai-safety-identifier"
END_USER_CHARACTERS = 200

# Clients hard-code these; each opens the default agent. Any other model is an agent's name.
MODELS = (
    "gpt-realtime",
    "gpt-realtime-mini",
    "gpt-realtime-1.5",
    "gpt-realtime-2",
    "gpt-realtime-2.1",
    "gpt-realtime-2.1-mini",
    "gpt-audio-1.5",
    "gpt-audio-mini",
    "gpt-4o-realtime-preview",
    "gpt-4o-mini-realtime-preview",
)


class Refusal(Exception):
    """Why a call is not let in. ``close_code`` 3000 and 4000 are final for clients, 1013 means try again."""

    def __init__(self, code: str | None, message: str, close_code: int, *, kind: str = "invalid_request_error") -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.close_code = close_code
        self.kind = kind

    @property
    def close_reason(self) -> str:
        return f"{self.kind}.{self.code}" if self.code else self.kind

    def event(self, event_id: str) -> ev.Error:
        return ev.Error(event_id=event_id, error=ev.ErrorBody(type=self.kind, code=self.code, message=self.message))


@dataclass(frozen=True, slots=True)
class Visit:
    """What an upgrade asks for. ``agent`` None is the default one, ``version`` one of its versions (empty: the one that
    takes calls); ``model`` is what the session shows. It may be empty for a transcription or with a client secret.
    ``end_user`` is what the client calls the person it speaks for, ``address`` the IP address it comes from, ``values``
    what it says of its caller (``caller.name``)."""

    key: str
    model: str
    agent: str | None
    transcription: bool
    dialect: Literal["ga", "beta"] = "ga"
    end_user: str = ""
    address: str = ""
    version: str = ""
    values: Mapping[str, str] = field(default_factory=dict)
    channel: str = "websocket"


class AgentName(NamedTuple):
    """``front`` or ``front@3``: a slug, and a version's number, ``draft``, or nothing."""

    slug: str
    version: str = ""


@dataclass(frozen=True, slots=True)
class Admission:
    """What a visit gets: whose call it is, what was asked for its session before it began, with the instructions of the
    stored prompt in it, and whose limits count; ``prompts`` are the agents whose instructions it may ask for as stored
    prompts, None all."""

    caller: Caller
    party: Party
    model: str
    transcription: bool
    session: ev.JsonObject | None = None
    instructions: str | None = None
    key_kind: Kind = "key"
    prompts: frozenset[str] | None = None

    def config(self, session_id: str, expires_at: int) -> SessionConfig:
        """Raises Refusal."""
        try:
            return first_session(
                session_id=session_id,
                expires_at=expires_at,
                model=self.model,
                agent=self.caller.agent,
                transcription=self.transcription,
                asked=self.session,
                instructions=self.instructions,
            )
        except Invalid as invalid:
            raise Refusal(invalid.code, invalid.message, CLOSE_UNUSABLE) from invalid


def mask(key: str) -> str:
    """Enough of a key to recognise it by."""
    return f"{key[:9]}***{key[-4:]}" if len(key) > 20 else "***"


def find_key(headers: Mapping[str, str], subprotocols: Iterable[str]) -> str:
    """From ``Authorization: Bearer``, ``api-key`` or the browsers' subprotocol. Raises Refusal."""
    scheme, _, bearer = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and bearer.strip():
        return bearer.strip()
    if headers.get("api-key"):
        return headers["api-key"]
    for offered in subprotocols:
        if offered.startswith(KEY_SUBPROTOCOL):
            return offered.removeprefix(KEY_SUBPROTOCOL)
    raise Refusal(None, "Missing bearer or basic authentication in header", CLOSE_UNAUTHENTICATED)


def choose_subprotocol(offered: Iterable[str]) -> str | None:
    """Browsers fail the handshake unless one that they offered is selected; the others carry keys."""
    return "realtime" if "realtime" in offered else None


def choose_dialect(
    headers: Mapping[str, str], subprotocols: Iterable[str], api_version: str, *, beta: bool
) -> Literal["ga", "beta"]:
    """``api_version`` as Azure's clients name it; ``beta``: whether that dialect is spoken here. Raises Refusal."""
    asked = [token.strip() for token in headers.get("openai-beta", "").split(",")]
    if BETA_HEADER not in asked and BETA_SUBPROTOCOL not in subprotocols and not api_version.endswith("-preview"):
        return "ga"
    if not beta:
        raise no_beta()
    return "beta"


def no_beta() -> Refusal:
    return Refusal(
        "beta_api_shape_disabled",
        "The Realtime Beta API is no longer supported. Please use /v1/realtime for the GA API.",
        CLOSE_UNUSABLE,
    )


def read_visit(
    headers: Mapping[str, str], subprotocols: list[str], query: str, *, beta: bool = True, address: str = ""
) -> Visit:
    """``headers`` with lower-case names; unknown query keys are ignored. Raises Refusal."""
    key = find_key(headers, subprotocols)
    fields = parse_qs(query, keep_blank_values=True)
    asked = {name: values[-1] for name, values in fields.items() if values[-1]}
    end_user = check_end_user(headers.get(END_USER_HEADER) or asked.get("user", ""))
    dialect = choose_dialect(headers, subprotocols, asked.get("api-version", ""), beta=beta)
    values = read_values({name: values[-1] for name, values in fields.items()})
    if values and is_client_secret(key):
        raise Refusal(
            "invalid_variable",
            "With a client secret the variables are those that it was made with "
            "(session.prompt.variables); the address may bring none.",
            CLOSE_UNUSABLE,
        )
    named = name_agent(asked["agent"]) if "agent" in asked else None
    transcription = asked.get("intent") == "transcription"
    model = "" if transcription else asked.get("model") or asked.get("deployment", "")
    if not model and not transcription and not is_client_secret(key):
        raise Refusal(
            "missing_model",
            "You must provide a model parameter, for example wss://HOST/v1/realtime?model=gpt-realtime "
            "or ?model=agent:NAME",
            CLOSE_UNUSABLE,
        )
    slug, version = (agent_of(model) if model else None) or named or (None, "")
    return Visit(key, model, slug, transcription, dialect, end_user, address, version, values)


def read_values(fields: Mapping[str, str]) -> dict[str, str]:
    """The variables that a query brings: ``caller.*`` as they are, others behind ``variables.``. Raises Refusal."""
    fields = {
        name.removeprefix(VARIABLES): value for name, value in fields.items() if name.startswith((CALLER, VARIABLES))
    }
    if len(fields) > VALUES:
        raise Refusal(
            "too_many_variables",
            f"An address brings at most {VALUES} variables; got {len(fields)}.",
            CLOSE_UNUSABLE,
        )
    for name, value in fields.items():
        if fault := _wrong_value(name, value):
            raise Refusal("invalid_variable", fault, CLOSE_UNUSABLE)
    return dict(fields)


def _wrong_value(name: str, value: str) -> str:
    if name == CALLER_ID:
        return "caller.id is the end user: bring it by OpenAI-Safety-Identifier (or ?user=)."
    if wrong := check_name(name):
        return f"{name[:64]!r}: {wrong}"
    if len(value) > VALUE_CHARACTERS or "\0" in value:
        return f"{name} has at most {VALUE_CHARACTERS} characters and no NUL; got {len(value)}."
    return ""


def check_end_user(name: str) -> str:
    """Raises Refusal for a name that cannot be kept."""
    if len(name) > END_USER_CHARACTERS or "\0" in name:
        raise Refusal(
            "invalid_end_user",
            f"OpenAI-Safety-Identifier (or ?user=) has at most {END_USER_CHARACTERS} characters; got {len(name)}.",
            CLOSE_UNUSABLE,
        )
    return name


def name_agent(name: str) -> AgentName:
    """With or without ``agent:``."""
    slug, _, version = name.removeprefix(AGENT_PREFIX).partition("@")
    return AgentName(slug, version)


def agent_of(model: str) -> AgentName | None:
    """The agent that a model name means, or None for the default one."""
    known = any(model == name or model.startswith(f"{name}-20") for name in MODELS)
    return None if known else name_agent(model)


def first_session(
    *,
    session_id: str,
    expires_at: int,
    model: str,
    agent: AgentSpec,
    transcription: bool,
    asked: ev.JsonObject | None = None,
    instructions: str | None = None,
) -> SessionConfig:
    """The session of a call that begins: the agent's, with what was asked for on top; ``instructions`` are those of the
    stored prompt that was asked for. Raises Invalid."""
    if transcription:
        config = SessionConfig.transcription(session_id=session_id, expires_at=expires_at)
    else:
        config = SessionConfig.realtime(session_id=session_id, model=model, expires_at=expires_at, agent=agent)
    return config if asked is None else config.updated(asked, prompt=instructions)


def admit_with_secret(visit: Visit, secret: ClientSecret, caller: Caller, party: Party) -> Admission:
    """A client secret opens the agent and the session it was made for, and no other. Raises Refusal."""
    model = secret.session.get("model") or MODELS[0]
    entry = caller.agent.slug if caller.entry is None else caller.entry
    if visit.agent is not None and AgentName(visit.agent, visit.version) != AgentName(entry, secret.version):
        raise Refusal(
            "invalid_model",
            f'This client secret is for the model "{model}"; it cannot open "{visit.model or visit.agent}".',
            CLOSE_UNUSABLE,
        )
    transcription = secret.session["type"] == "transcription"
    prompt = secret.session.get("prompt") or {"id": entry}
    prompts = frozenset({entry, prompt_agent(prompt)})
    return Admission(caller, party, "" if transcription else model, transcription, secret.session, prompts=prompts)


def prompt_agent(prompt: ev.JsonObject) -> str:
    """The agent whose instructions a stored prompt is."""
    return str(prompt["id"]).removeprefix(AGENT_PREFIX)


def unknown_model(model: str) -> Refusal:
    return Refusal(
        "invalid_model",
        f'Model "{model}" is not supported in realtime mode. Use {MODELS[0]} or agent:NAME.',
        CLOSE_UNUSABLE,
    )


def wrong_key(key: str) -> Refusal:
    return Refusal("invalid_api_key", f"Incorrect API key provided: {mask(key)}.", CLOSE_UNAUTHENTICATED)


def too_many(answer: Answer) -> Refusal:
    """A limit has no room for this call. Who would have to wait long is not told to come again at once."""
    refused = answer.refused
    assert refused is not None  # noqa: S101 - only refusals have words
    whose = {"tenant": "", "key": " of this API key", "end_user": " of this end user", "address": ""}[refused.level]
    wait_s = answer.retry_after_s if answer.retry_after_s is not None else refused.window_s
    sessions = refused.kind == "place"
    return Refusal(
        "too_many_sessions" if sessions else "rate_limit_exceeded",
        f"Rate limit reached for {refused.name}{whose}: Limit {refused.limit}. "
        + ("Please try again when another session has ended." if sessions else f"Please try again in {wait_s:.3g}s."),
        CLOSE_TRY_AGAIN if wait_s <= MINUTE_S else CLOSE_UNUSABLE,
        kind="rate_limit_error",
    )


def subscriber_at_gate(peer: str, address: str, trusted_proxies: Iterable[str]) -> str:
    """By whom ``ConnectGate`` counts; empty where callers cannot be told apart: while no proxy is named, a peer that is
    not on the public internet may be a load balancer with all of them behind it."""
    read = read_address(peer)
    if not any(trusted_proxies) and (read is None or not read.is_global):
        return ""
    return subscriber_of(address)


class ConnectGate:
    """How many sockets one process takes in a second, in all and of one subscriber (``per_address``, 0 is no such
    limit). Those beyond hear that they may come again, and cost nothing: neither Redis nor the database is asked about
    them."""

    def __init__(self, per_second: int, per_address: int = 0, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_second, self._per_address = per_second, per_address
        self._taken: deque[tuple[float, str]] = deque()
        self._by: Counter[str] = Counter()
        self._clock = clock

    def enter(self, subscriber: str = "") -> None:
        """Raises Refusal."""
        now = self._clock()
        while self._taken and now - self._taken[0][0] >= 1.0:
            _, gone = self._taken.popleft()
            self._by[gone] -= 1
            if not self._by[gone]:
                del self._by[gone]
        if subscriber and self._per_address and self._by[subscriber] >= self._per_address:
            raise self._refusal(f"{self._per_address} new connections a second from one address")
        if len(self._taken) >= self._per_second:
            raise self._refusal(f"{self._per_second} new connections a second")
        self._taken.append((now, subscriber))
        self._by[subscriber] += 1

    def _refusal(self, limit: str) -> Refusal:
        return Refusal(
            "too_many_connections",
            f"This server takes {limit}. Please try again.",
            CLOSE_TRY_AGAIN,
            kind="rate_limit_error",
        )


def id_source() -> Callable[[str], str]:
    """Unique ids such as ``item_…`` with 21 characters after the prefix; not secrets."""
    random = Random(secrets.randbits(128))  # noqa: S311

    def new_id(prefix: str) -> str:
        return f"{prefix}_{random.getrandbits(84):021x}"

    return new_id
