"""Who is let into a call: a key or a client secret becomes an admission, or a refusal that says why.

A key that is known in Redis costs no query; the agent is read from the database all the same, so that it is the
present one. Then one round trip counts everything: the connection, the session's places, the audio of the day.
"""

import logging
from dataclasses import replace

from channels.db import database_sync_to_async
from django.db import Error as DatabaseError
from django.db import transaction
from django_tenants.utils import schema_context

from agents.prompts import CANNOT, PromptInvalid, fill_prompt, refusal_code
from agents.queries import AgentUnknown, find_caller, find_maker, limit_statements
from agents.spec import Caller
from realtime.privacy.redaction_policy import read_redaction
from realtime.protocol.events import JsonObject
from realtime.recordings.queries import records_call
from realtime.rest.authentication import note_use
from realtime.rest.sealed_tools import unseal_tools
from realtime.runtime.active_agents import ActiveAgent, ActiveAgents
from realtime.runtime.door import (
    CLOSE_TRY_AGAIN,
    CLOSE_UNAUTHENTICATED,
    CLOSE_UNUSABLE,
    Admission,
    Refusal,
    Visit,
    admit_with_secret,
    no_beta,
    too_many,
    unknown_model,
    wrong_key,
)
from realtime.runtime.keys import Keys, TooManyUnknown
from realtime.runtime.secrets import ClientSecret, ClientSecrets, SecretsUnavailable, is_client_secret
from tenants.encryption.errors import EncryptionError
from tenants.features.flags import Feature
from tenants.features.queries import is_enabled
from tenants.keys.credential import Credential
from tenants.keys.refusals import InvalidKey, KeyRefused
from tenants.limits.allowance import Party
from tenants.limits.counters import Limiter, LimitsUnavailable
from tenants.limits.throttle import access_note
from tenants.permissions import Scope
from tenants.principal import Principal

log = logging.getLogger(__name__)


class Admissions:
    """``admit`` is what a transport asks for each visit."""

    def __init__(self, keys: Keys, secrets: ClientSecrets, limiter: Limiter, active: ActiveAgents) -> None:
        self._active = active
        self._keys = keys
        self._secrets = secrets
        self._limiter = limiter

    async def admit(self, visit: Visit, session_id: str) -> Admission:
        """With places held for the session. Raises Refusal."""
        try:
            return await self._admit(visit, session_id)
        except CANNOT as error:
            raise _refuse_agent(error, visit) from None
        except PromptInvalid as error:
            raise Refusal(error.code, error.message, CLOSE_UNUSABLE) from None
        except TooManyUnknown as error:
            raise too_many(error.answer) from None
        except KeyRefused as error:
            if type(error) is InvalidKey:
                raise wrong_key(visit.key) from None
            raise Refusal(error.code, error.message, CLOSE_UNAUTHENTICATED) from None
        except (DatabaseError, SecretsUnavailable, LimitsUnavailable, EncryptionError) as error:
            log.warning("no call can be let in: %s", type(error).__name__)
            raise try_again() from error

    async def _admit(self, visit: Visit, session_id: str) -> Admission:
        secret: ClientSecret | None = None
        if is_client_secret(visit.key):
            secret = await self._secrets.find(visit.key)
            if secret is None:
                raise wrong_key(visit.key)
            # Whoever made it, as they stand now; a secret is used by browsers, from wherever they are.
            maker = (secret.kind, secret.key_id, secret.tenant)
            credential: Credential = await database_sync_to_async(find_maker)(*maker)
            # A browser is anybody's: it names no end user, not even where the secret has none.
            visit = replace(visit, end_user=secret.end_user, values=secret.values)
            asked = replace(visit, agent=secret.agent, version=secret.version)
        else:
            credential = await self._keys.find(visit.key, visit.address)
            credential.require(Scope.REALTIME, visit.address)
            asked = visit
        end_user = asked.end_user
        active = await self._active.recall(credential.tenant, asked.channel, end_user)
        caller: Caller
        caller, session, instructions = await database_sync_to_async(_read)(
            credential, asked, session_id, active, secret
        )
        party = credential.party(end_user, caller.limits)
        if secret is None:
            admission = Admission(caller, party, visit.model, visit.transcription)
        else:
            admission = admit_with_secret(visit, secret, caller, party)
            admission = replace(admission, session=session, instructions=instructions)
        await self._count(credential, party, session_id, visit.address)
        return replace(admission, key_kind=credential.kind)

    async def _count(self, credential: Credential, party: Party, session_id: str, address: str) -> None:
        """Raises Refusal and LimitsUnavailable."""
        answer = await self._limiter.ask(
            [
                *party.counters("connections_per_second", 1),
                *party.counters("audio_minutes_per_day", 1),
                *party.places(session_id),
                access_note(party.tenant, party.key_id, address),
            ]
        )
        if answer.refused is not None:
            raise too_many(answer)
        if answer.standings[-1].used and credential.kind == "key":
            scopes = credential.scopes
            await note_use(Principal("key", credential.id, credential.name, credential.tenant, scopes, address))


def _read(
    credential: Credential, asked: Visit, session_id: str, active: ActiveAgent | None, secret: ClientSecret | None
) -> tuple[Caller, JsonObject | None, str | None]:
    """Who calls, with whether their tenant has the call recorded; a client secret's session, and the instructions of
    the stored prompt that it names. Raises Refusal, SecretsUnavailable, and what ``find_caller`` does."""
    with schema_context(credential.tenant), transaction.atomic():
        limit_statements()
        if asked.dialect == "beta" and not is_enabled(Feature.REALTIME_BETA, credential.tenant):
            raise no_beta()
        caller = find_caller(
            credential,
            asked.agent,
            asked.end_user,
            version=asked.version,
            session_id=session_id,
            channel=asked.channel,
            values=asked.values,
            active=active,
        )
        record, redaction = records_call(caller.agent.record), read_redaction()
        session = None if secret is None else unseal_tools(secret.tenant, secret.session, secret.sealed)
        prompt, words = (session or {}).get("prompt"), None
        if prompt:
            words = fill_prompt(prompt, subject=asked.end_user or session_id, values=caller.values)
    return replace(caller, agent=replace(caller.agent, record=record), redaction=redaction), session, words


def _refuse_agent(error: Exception, visit: Visit) -> Refusal:
    """A name that is neither a model's nor written as an agent's may be a model that clients of others know."""
    if isinstance(error, AgentUnknown) and visit.agent == error.slug == visit.model:
        return unknown_model(visit.model)
    return Refusal(refusal_code(error), str(error), CLOSE_UNUSABLE)


def try_again() -> Refusal:
    return Refusal(
        "service_unavailable",
        "The server cannot take new sessions at the moment. Please try again.",
        CLOSE_TRY_AGAIN,
        kind="server_error",
    )
