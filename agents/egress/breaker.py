"""Circuit breakers that all gateways share through Redis: who has failed ``failures`` times in a row is left alone for
``open_s``; then one probe decides."""

from typing import Protocol


class BreakerOpen(Exception):
    """Nobody asks there at the moment. ``retry_after_s`` until a probe may."""

    def __init__(self, name: str, retry_after_s: float) -> None:
        super().__init__(f"{name} has failed repeatedly and is left alone for {retry_after_s:.0f} s.")
        self.name = name
        self.retry_after_s = retry_after_s


class Permit(Protocol):
    """One attempt. Exactly one of these is called, once; each is quick and raises nothing."""

    async def succeed(self) -> None: ...

    async def fail(self) -> None: ...

    async def drop(self) -> None:
        """Cancelled, or refused for a reason that says nothing of the other side's health."""
        ...


class Breakers(Protocol):
    async def ask(self, name: str, *, tenant: str = "") -> Permit:
        """For one attempt at ``name`` (``llm:openai``, ``tool:crm``) of a tenant, or of the platform. Raises
        BreakerOpen. Without Redis each process counts for itself."""
        ...
