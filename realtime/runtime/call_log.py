"""What one call writes of itself: events for the archive, numbered, and its entry in the register of calls."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any

from agents.spec import Redaction
from realtime.archive import events as archive
from realtime.privacy.redaction_queue import RedactionQueue
from realtime.protocol import effects as do
from realtime.protocol.config import SessionConfig
from realtime.runtime.ports import Ports
from realtime.runtime.register import SessionRecord


@dataclass(frozen=True)
class CallRecord:
    """What the archive wants to know of a call that its items do not say. ``agent`` is who began it, ``entry`` whom the
    caller called, where that was another; ``values`` are the variables that the call brought; ``redaction`` is the
    tenant's; ``prompts`` are the agents whose instructions the client may ask for as stored prompts, None all."""

    tenant: str
    agent: str
    channel: str
    key_id: str
    end_user: str
    model: str
    agent_version: int = 0
    trial: str = ""
    entry: str | None = None
    values: Mapping[str, str] = field(default_factory=dict)
    redaction: Redaction = field(default_factory=Redaction)
    prompts: frozenset[str] | None = None

    @property
    def called(self) -> str:
        """The agent that the caller called."""
        return self.agent if self.entry is None else self.entry


@dataclass
class CallLog:
    """``seq`` is the number of the last event; ``agent`` is who answers at the moment, by slug. ``redaction`` stands
    between items and the archive, where the tenant wants it. Nothing here waits but ``make_room``
    and ``settle``."""

    record: CallRecord
    session_id: str
    ports: Ports
    now: Callable[[], float]
    agent: str = ""
    seq: int = 0

    def __post_init__(self) -> None:
        self.agent = self.agent or self.record.agent
        self.redaction: RedactionQueue | None = None
        if self.record.redaction.kinds:
            self.redaction = RedactionQueue(self.record.redaction, put=self._put_item, forget=self._delete_item)

    def _put(self, kind: type[archive.ArchiveEvent], **fields: Any) -> None:
        self.seq += 1
        event: Any = kind(session_id=self.session_id, seq=self.seq, at=self.now(), **fields)
        self.ports.archive.put(self.record.tenant, event)

    def start(self, conversation_id: str, config: SessionConfig) -> None:
        record = self.record
        self._put(
            archive.CallStarted,
            conversation_id=conversation_id,
            agent=record.agent,
            channel=record.channel,
            key_id=record.key_id,
            end_user=record.end_user,
            model=record.model,
            agent_version=record.agent_version,
            trial=record.trial,
        )
        entry = SessionRecord(
            id=self.session_id,
            tenant=record.tenant,
            conversation_id=conversation_id,
            gateway=self.ports.register.gateway_id,
            agent=record.agent,
            model=record.model,
            channel=record.channel,
            key_id=record.key_id,
            end_user=record.end_user,
            started_at=self.now(),
            type="transcription" if config.is_transcription else "realtime",
            voice=config.voice,
            output_modality=config.output_modality,
        )
        self.ports.register.enter(entry)

    def change(self, config: SessionConfig) -> None:
        self.ports.register.change(self.session_id, voice=config.voice, output_modality=config.output_modality)

    def serve(self, agent: str) -> None:
        """Another agent answers from now on."""
        self.agent = agent
        self.ports.register.change(self.session_id, agent=agent)

    def store(self, store: do.Store, timings_ms: dict[str, float]) -> None:
        if store.receipt is not None and not store.receipt.get("began_at"):
            # The session itself did it, which knows no clock.
            store = replace(store, receipt={**store.receipt, "began_at": self.now()})
        (self._put_item if self.redaction is None else self.redaction.store)(store, timings_ms)

    def forget(self, item_id: str) -> None:
        (self._delete_item if self.redaction is None else self.redaction.remove)(item_id)

    async def make_room(self) -> None:
        """Until what was stored takes no more memory than it may."""
        if self.redaction is not None:
            await self.redaction.make_room()

    async def settle(self) -> None:
        """Until all that was stored has left."""
        if self.redaction is not None:
            await self.redaction.settle()

    def _put_item(self, store: do.Store, timings_ms: dict[str, float]) -> None:
        self._put(
            archive.ItemStored,
            item=store.item,
            previous_item_id=store.previous_item_id,
            response_id=store.response_id,
            audio_ms=store.audio_ms,
            timings_ms=timings_ms,
            agent=store.agent,
            agent_version=store.agent_version,
            receipt=store.receipt,
        )

    def _delete_item(self, item_id: str) -> None:
        self._put(archive.ItemDeleted, item_id=item_id)

    def meter(self, source: str, quantities: dict[str, Decimal], provider: str, model: str) -> None:
        self._put(
            archive.UsageMetered,
            source=source,
            quantities=quantities,
            provider=provider,
            model=model,
            agent=self.agent,
            key_id=self.record.key_id,
            end_user=self.record.end_user,
        )

    def end(self, reason: str, duration_s: float, outcomes: tuple[archive.Outcome, ...]) -> None:
        self._put(archive.CallEnded, reason=reason, duration_s=duration_s, outcomes=outcomes)
        self.ports.register.leave(self.session_id, reason)
