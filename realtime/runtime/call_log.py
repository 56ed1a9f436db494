"""What one call writes of itself: events for the archive, numbered, and its entry in the register of calls."""

from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from realtime.archive import events as archive
from realtime.protocol import effects as do
from realtime.protocol.config import SessionConfig
from realtime.runtime.ports import Ports
from realtime.runtime.register import SessionRecord


@dataclass(frozen=True)
class CallRecord:
    """What the archive wants to know of a call that its items do not say."""

    tenant: str
    agent: str
    channel: str
    key_id: str
    end_user: str
    model: str


@dataclass
class CallLog:
    """``seq`` is the number of the last event. Nothing here waits."""

    record: CallRecord
    session_id: str
    ports: Ports
    now: Callable[[], float]
    seq: int = 0

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

    def store(self, store: do.Store, timings_ms: dict[str, float]) -> None:
        self._put(
            archive.ItemStored,
            item=store.item,
            previous_item_id=store.previous_item_id,
            response_id=store.response_id,
            audio_ms=store.audio_ms,
            timings_ms=timings_ms,
        )

    def forget(self, item_id: str) -> None:
        self._put(archive.ItemDeleted, item_id=item_id)

    def meter(self, source: str, quantities: dict[str, Decimal], provider: str, model: str) -> None:
        self._put(
            archive.UsageMetered,
            source=source,
            quantities=quantities,
            provider=provider,
            model=model,
            agent=self.record.agent,
            key_id=self.record.key_id,
            end_user=self.record.end_user,
        )

    def end(self, reason: str, duration_s: float) -> None:
        self._put(archive.CallEnded, reason=reason, duration_s=duration_s)
        self.ports.register.leave(self.session_id, reason)
