"""What the endpoints need of their process. The gateway installs it when it starts; tests install their own."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from realtime.rest.capacity import Capacity
from realtime.rest.errors import ApiError
from realtime.runtime.budget import Budgets
from realtime.runtime.keys import Keys
from realtime.runtime.passes import Passes
from realtime.runtime.ports import Archive, Speaking
from realtime.runtime.secrets import ClientSecrets
from speech.engines import Pcm, Transcript
from speech.jobs import WorkerState
from tenants.limits.counter import Counter
from tenants.limits.counters import Limiter


class FileHearing(Protocol):
    """``speech.remote.RemoteSpeech``, as far as whole recordings need it."""

    async def transcribe(
        self,
        pcm: Pcm,
        *,
        tenant: str,
        session_id: str,
        sample_rate_hz: int,
        language: str | None,
        prompt: str | None,
        translate: bool = False,
        answer_s: float | None = None,
    ) -> Transcript:
        """``answer_s`` is how long it may take; as long as a turn of a call, when not given. Cancelling the task drops
        the job, on the worker too. Raises speech.engines.SpeechFailed."""
        ...

    async def live_workers(self, queue: str) -> list[WorkerState]:
        """Raises speech.engines.SpeechFailed."""
        ...


@dataclass(frozen=True, slots=True)
class RestPorts:
    hearing: FileHearing
    speaking: Speaking
    secrets: ClientSecrets
    capacity: Capacity
    archive: Archive
    keys: Keys
    limiter: Limiter
    passes: Passes
    budgets: Budgets
    anonymous: Callable[[str], Counter]
    """The counter of those who come from this IP address without a key."""


_installed: list[RestPorts] = []


def install(ports: RestPorts) -> None:
    """From now on the endpoints of this process use these."""
    _installed[:] = [ports]


def installed() -> RestPorts:
    """Raises ApiError while the gateway has not started, or in a process without one."""
    if not _installed:
        raise ApiError(503, "The server is not ready yet. Please try again.", kind="server_error")
    return _installed[0]
