"""The end of a tenant's recordings: one of ``TENANT_ERASERS``."""

from django.conf import settings

from realtime.recordings.storage import storage
from realtime.recordings.storing import purge_tenant
from tenants.models import Tenant


class Recordings:
    """Every object under the tenant's name, in all its versions, and what lies in this machine's spool.

    Another machine's spool empties itself: its storer finds that the schema is gone.
    """

    name = "recordings"

    def count(self, tenant: Tenant) -> dict[str, int]:
        spooled = sum(path.is_dir() for path in (settings.RECORDING_SPOOL_DIR / tenant.schema_name).glob("*"))
        return {"objects": sum(1 for _ in storage().keys(f"{tenant.schema_name}/")), "spooled_calls": spooled}

    def erase(self, tenant: Tenant) -> None:
        purge_tenant(settings.RECORDING_SPOOL_DIR, tenant.schema_name)
        storage().delete_all(f"{tenant.schema_name}/")
