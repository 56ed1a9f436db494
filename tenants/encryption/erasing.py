"""The end of a tenant's keys: one of ``TENANT_ERASERS``. What was sealed for it cannot be opened any more, wherever a
copy of it lies."""

from tenants.encryption.models import DataKey
from tenants.encryption.operations import destroy_data_keys
from tenants.models import Tenant


class DataKeys:
    name = "data_keys"

    def count(self, tenant: Tenant) -> dict[str, int]:
        return {"data_keys": DataKey.objects.filter(tenant=tenant.schema_name).count()}

    def erase(self, tenant: Tenant) -> None:
        destroy_data_keys(tenant=tenant.schema_name)
