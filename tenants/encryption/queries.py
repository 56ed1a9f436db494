"""What is there of keys, for people to read: never a key."""

from dataclasses import dataclass
from datetime import datetime

from tenants.encryption.models import DataKey, KeyState


@dataclass(frozen=True, slots=True)
class TenantKeys:
    tenant: str
    active: int | None
    versions: int
    since: datetime | None
    master_key_ids: tuple[str, ...]


def list_tenant_keys() -> list[TenantKeys]:
    """By tenant's schema name. ``since`` is when the active version was made."""
    found: dict[str, list[DataKey]] = {}
    for key in DataKey.objects.order_by("tenant", "version"):
        found.setdefault(key.tenant, []).append(key)
    listed = []
    for tenant, keys in found.items():
        active = next((key for key in keys if key.state == KeyState.ACTIVE), None)
        masters = tuple(sorted({key.master_key_id for key in keys}))
        listed.append(
            TenantKeys(
                tenant, active.version if active else None, len(keys), active.created_at if active else None, masters
            )
        )
    return listed
