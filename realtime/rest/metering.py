"""What a request used, for the ledger: by the same way as the use of live calls."""

import time
from decimal import Decimal

from realtime.archive.events import UsageMetered
from realtime.rest.authentication import KeyHolder
from realtime.rest.ports import installed
from tenants.usage.meters import Meter

AUDIO = (Meter.AUDIO_SECONDS_OUT, Meter.STT_SECONDS)
"""What counts in the minutes of audio that a tenant may use in a day."""


def meter(
    holder: KeyHolder, request_id: str, meter: Meter, quantity: int | Decimal, provider: str = "", model: str = ""
) -> None:
    """Never blocks. A request counts once under its id."""
    if not quantity:
        return
    event = UsageMetered(
        session_id=request_id,
        seq=0,
        at=time.time(),
        source="request",
        quantities={meter.value: Decimal(quantity)},
        provider=provider,
        model=model,
        key_id=holder.key_id,
    )
    installed().archive.put(holder.tenant, event)
    if meter in AUDIO:
        installed().budgets.charge_audio(holder.party, int(quantity * 1000))
