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

from agents.queries import AgentUnknown, admit_credential, find_maker
from agents.spec import Caller
from realtime.recordings.queries import records_call
from realtime.rest.authentication import note_use
from realtime.runtime.door import (
    CLOSE_TRY_AGAIN,
    CLOSE_UNAUTHENTICATED,
    Admission,
    Refusal,
    Visit,
    admit_with_secret,
    too_many,
    unknown_model,
    wrong_key,
)
from realtime.runtime.keys import Keys, TooManyUnknown
from realtime.runtime.secrets import ClientSecret, ClientSecrets, SecretsUnavailable, is_client_secret
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

    def __init__(self, keys: Keys, secrets: ClientSecrets, limiter: Limiter) -> None:
        self._keys = keys
        self._secrets = secrets
        self._limiter = limiter

    async def admit(self, visit: Visit, session_id: str) -> Admission:
        """With places held for the session. Raises Refusal."""
        try:
            return await self._admit(visit, session_id)
        except AgentUnknown as error:
            raise unknown_model(visit.model or f"agent:{error.slug}") from None
        except TooManyUnknown as error:
            raise too_many(error.answer) from None
        except KeyRefused as error:
            if type(error) is InvalidKey:
                raise wrong_key(visit.key) from None
            raise Refusal(error.code, error.message, CLOSE_UNAUTHENTICATED) from None
        except (DatabaseError, SecretsUnavailable, LimitsUnavailable) as error:
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
            agent, end_user = secret.agent, secret.end_user
        else:
            credential = await self._keys.find(visit.key, visit.address)
            credential.require(Scope.REALTIME, visit.address)
            agent, end_user = visit.agent, visit.end_user
        caller: Caller = await database_sync_to_async(_read_caller)(credential, agent, end_user)
        party = credential.party(end_user, caller.limits)
        if secret is None:
            admission = Admission(caller, party, visit.model, visit.transcription)
        else:
            admission = admit_with_secret(visit, secret, caller, party)
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


def _read_caller(credential: Credential, agent: str | None, end_user: str) -> Caller:
    """Who calls, and whether their tenant has the call recorded."""
    caller = admit_credential(credential, agent, end_user)
    with schema_context(caller.tenant), transaction.atomic():
        record = records_call(caller.agent.record)
    return replace(caller, agent=replace(caller.agent, record=record))


def try_again() -> Refusal:
    return Refusal(
        "service_unavailable",
        "The server cannot take new sessions at the moment. Please try again.",
        CLOSE_TRY_AGAIN,
        kind="server_error",
    )
