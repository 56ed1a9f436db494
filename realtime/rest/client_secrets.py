"""Ephemeral client secrets for browsers: ``POST /v1/realtime/client_secrets``, and the beta's two older addresses."""

import time

import msgspec
from django.conf import settings
from django.http import HttpRequest, JsonResponse

from agents.loading import load_spec
from agents.prompts import CANNOT, PromptInvalid, caller_values, fill_prompt, refusal_code
from agents.spec import AgentSpec
from realtime.protocol import contract, contract_beta
from realtime.protocol.beta import session_to_beta, session_to_ga
from realtime.protocol.config import SessionConfig
from realtime.protocol.events import JsonObject
from realtime.protocol.shapes import Choice, Invalid, Number, Object, Tagged
from realtime.rest.authentication import KeyHolder, authenticate, read_in_tenant
from realtime.rest.body import read_json
from realtime.rest.errors import ApiError, endpoint, new_id
from realtime.rest.ports import installed
from realtime.rest.sealed_tools import seal_tools
from realtime.runtime import door
from realtime.runtime.secrets import BETA_DEFAULT_S, DEFAULT_S, LONGEST_S, SHORTEST_S, ClientSecret
from tenants.features.flags import Feature
from tenants.features.queries import is_enabled
from tenants.permissions import Scope

REQUEST = Object(
    {
        "expires_after": Object(
            {"anchor": Choice(("created_at",)), "seconds": Number(SHORTEST_S, LONGEST_S, whole=True)}, ("anchor",)
        ),
        "session": Tagged("type", contract.SESSION.shapes, default="realtime"),
    }
)
# What a flat session calls the fields that are checked once it is nested.
BETA_PARAMS = {
    "session.audio.output.voice": "voice",
    "session.output_modalities": "modalities",
    "session.model": "model",
}
# A session that has not begun has no end yet.
NOT_BEGUN = 0


@endpoint("POST")
async def create_client_secret(request: HttpRequest) -> JsonResponse:
    holder = await authenticate(request, Scope.REALTIME)
    asked = REQUEST.check(read_json(request), "")
    session = asked.get("session", {"type": "realtime"})
    ttl_s = asked.get("expires_after", {}).get("seconds", DEFAULT_S)
    value, expires_at, config = await _create(holder, session, ttl_s)
    return JsonResponse({"value": value, "expires_at": expires_at, "session": config.wire})


@endpoint("POST")
async def create_beta_session(request: HttpRequest) -> JsonResponse:
    return await _create_beta(request, transcription=False)


@endpoint("POST")
async def create_beta_transcription_session(request: HttpRequest) -> JsonResponse:
    return await _create_beta(request, transcription=True)


async def _create_beta(request: HttpRequest, *, transcription: bool) -> JsonResponse:
    holder = await authenticate(request, Scope.REALTIME)
    if not (settings.REALTIME_BETA and await read_in_tenant(holder, lambda: _speaks_beta(holder))):
        raise ApiError(
            400,
            "The Realtime Beta API is no longer supported. Please use /v1/realtime/client_secrets for the GA API.",
            code="beta_api_shape_disabled",
        )
    shape = contract_beta.TRANSCRIPTION_SESSION if transcription else contract_beta.REALTIME_SESSION
    flat = shape.check(read_json(request), "")
    # The two addresses spell it differently.
    expiry = flat.get("client_secret", {})
    expiry = expiry.get("expires_after") or expiry.get("expires_at") or {}
    session = session_to_ga(flat, transcription=transcription)
    try:
        value, expires_at, config = await _create(holder, session, expiry.get("seconds", BETA_DEFAULT_S))
    except Invalid as invalid:
        raise Invalid(invalid.code, invalid.message, BETA_PARAMS.get(invalid.param or "", invalid.param)) from invalid
    answer = session_to_beta(config.wire) | {"client_secret": {"value": value, "expires_at": expires_at}}
    return JsonResponse(answer)


def _speaks_beta(holder: KeyHolder) -> bool:
    return is_enabled(Feature.REALTIME_BETA, holder.tenant)


async def _create(holder: KeyHolder, session: JsonObject, ttl_s: int) -> tuple[str, int, SessionConfig]:
    """The secret's value, its end, and the session it will open. Raises Invalid and TooManySecrets."""
    size, limit = len(msgspec.json.encode(session)), settings.CLIENT_SECRET_SESSION_BYTES
    if size > limit:
        raise Invalid(
            "session_too_large",
            f"Invalid 'session': too large. Expected at most {limit} bytes of JSON, but got {size} instead.",
            "session",
        )
    model = session.get("model") or door.MODELS[0]
    named = door.agent_of(model) or door.AgentName("")
    if named.version and Scope.AGENTS_READ not in holder.scopes:
        raise Invalid("insufficient_scope", f"To name a version takes the scope {Scope.AGENTS_READ}.", "session.model")
    try:
        values = caller_values(session)
        agent, words, kept, sealed = await read_in_tenant(holder, lambda: _read(holder, named, values, session))
    except CANNOT as error:
        raise _refuse(error, model, named) from error
    except PromptInvalid as error:
        raise Invalid(error.code, error.message, f"session.prompt.{error.part}") from error
    config = door.first_session(
        session_id=new_id("sess"),
        expires_at=NOT_BEGUN,
        model=model,
        agent=agent,
        transcription=session["type"] == "transcription",
        asked=session,
        instructions=words,
    )
    expires_at = int(time.time()) + ttl_s
    secret = ClientSecret(
        tenant=holder.tenant,
        key_id=holder.key_id,
        kind=holder.kind,
        agent=named.slug or None,
        version=named.version,
        session=kept,
        sealed=sealed,
        expires_at=expires_at,
        end_user=holder.party.end_user,
        values=values,
    )
    return await installed().secrets.create(secret, ttl_s), expires_at, config


def _read(
    holder: KeyHolder, named: door.AgentName, values: dict[str, str], session: JsonObject
) -> tuple[AgentSpec, str | None, JsonObject, bytes]:
    """The agent as the session will begin with it, the instructions of its stored prompt, and the session as it may be
    kept, with its tools sealed. Raises SecretsUnavailable, and what ``load_spec`` and ``fill_prompt`` do."""
    end_user = holder.party.end_user
    known = {**values, "call.id": "", "call.channel": "", **({"caller.id": end_user} if end_user else {})}
    slug = named.slug or holder.agent or None
    agent = load_spec(slug, subject=end_user, values=known, version=named.version)
    prompt = session.get("prompt")
    words = fill_prompt(prompt, subject=end_user, values=known) if prompt else None
    return agent, words, *seal_tools(holder.tenant, session)


def _refuse(error: Exception, model: str, named: door.AgentName) -> Invalid:
    code = refusal_code(error)
    if code == "agent_not_found" and model == named.slug:  # it may be a model that clients of others know
        return Invalid("invalid_model", door.unknown_model(model).message, "session.model")
    param = "session.prompt.variables" if code == "missing_variable" else "session.model"
    return Invalid(code, str(error), param)
