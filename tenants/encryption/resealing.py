"""After a rotation: rows that an older data key has sealed are sealed by the active one, batch by batch.

Which they are stands in the sealed bytes, so there is no progress to keep: whoever runs it next goes on.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from django.apps import apps
from django.conf import settings
from django.db import connection, models, transaction
from django.db.models import QuerySet
from django.db.models.expressions import RawSQL
from django.utils.module_loading import import_string
from django_tenants.utils import get_public_schema_name, schema_context

from tenants.encryption.data_keys import active_key
from tenants.encryption.errors import Tampered, WrongKey
from tenants.encryption.fields import EncryptedField, Sealed
from tenants.encryption.models import DataKey
from tenants.encryption.sealing import VERSION_BYTES, VERSION_OFFSET, seal, unseal

BY_HAND = [("tenants.SingleSignOn", "sealed_secret", "tenants.people.sign_on.PURPOSE", "tenant.schema_name")]
"""Columns of the public schema that a room seals itself: model, field, the purpose by name, the way to the tenant."""


@dataclass(frozen=True, slots=True)
class Column:
    """``tenant`` is the way from the row to its tenant, empty in a tenant's own schema."""

    field: models.Field
    purpose: str
    tenant: str

    @property
    def rows(self) -> QuerySet[models.Model]:
        return self.field.model._base_manager.all()

    @property
    def sql(self) -> str:
        quote = connection.ops.quote_name
        return f"{quote(self.field.model._meta.db_table)}.{quote(self.field.column)}"


def sealed_fields(*, in_tenant_schema: bool) -> Iterator[EncryptedField]:
    """Every field of the product that is sealed, in tenants' schemas or in the public one."""
    names = settings.TENANT_APPS if in_tenant_schema else settings.SHARED_APPS
    for model in apps.get_models():
        if model._meta.managed and model._meta.app_config.name in names:
            for field in model._meta.local_fields:
                if isinstance(field, EncryptedField) and bool(field.tenant) is not in_tenant_schema:
                    yield field


def sealed_columns(*, in_tenant_schema: bool) -> list[Column]:
    columns = [Column(field, field.purpose, field.tenant) for field in sealed_fields(in_tenant_schema=in_tenant_schema)]
    for label, name, purpose, tenant in BY_HAND if not in_tenant_schema else ():
        columns.append(Column(apps.get_model(label)._meta.get_field(name), import_string(purpose), tenant))
    return columns


def reseal_rows(*, tenant: str) -> tuple[int, int]:
    """All rows of one tenant that an older key has sealed; how many were sealed anew, and how many do not open (they
    are left as they are, and are on record). Raises MasterKeyMissing, KeySourceUnavailable."""
    with schema_context(get_public_schema_name()), transaction.atomic():
        if not DataKey.objects.filter(tenant=tenant).exists():
            return 0, 0
    public = get_public_schema_name()
    places = [(public, column) for column in sealed_columns(in_tenant_schema=False)]
    if tenant != public:
        places += [(tenant, column) for column in sealed_columns(in_tenant_schema=True)]
    done = broken = 0
    for schema, column in places:
        after = None
        while rows := _reseal_batch(column, schema, tenant, after):
            done += sum(opened for _, opened in rows)
            broken += sum(not opened for _, opened in rows)
            after = rows[-1][0]
    return done, broken


def _reseal_batch(column: Column, schema: str, tenant: str, after: Any) -> list[tuple[Any, bool]]:
    """One transaction: the rows behind ``after`` that an older key has sealed, and whether each of them opened."""
    name = column.field.name
    with schema_context(schema), transaction.atomic():
        sealed_by = f"substring({column.sql} from {VERSION_OFFSET + 1} for {VERSION_BYTES})"
        rows = column.rows.select_for_update(of=("self",)).annotate(sealed_by=RawSQL(sealed_by, []))  # noqa: S611
        rows = rows.filter(**{f"{name}__isnull": False}, sealed_by__lt=_version(tenant)).exclude(sealed_by=b"")
        if column.tenant:
            rows = rows.filter(**{column.tenant.replace(".", "__"): tenant})
        if after is not None:
            rows = rows.filter(pk__gt=after)
        batch = list(rows.order_by("pk").values_list("pk", name)[: settings.RESEAL_BATCH_ROWS])
        return [(pk, _reseal(column, tenant, pk, sealed)) for pk, sealed in batch]


def _reseal(column: Column, tenant: str, pk: Any, sealed: Any) -> bool:
    is_ours = isinstance(sealed, Sealed)
    try:
        plaintext = unseal(tenant, sealed.value if is_ours else bytes(sealed), purpose=column.purpose)
    except (Tampered, WrongKey):
        return False
    fresh = seal(tenant, plaintext, purpose=column.purpose)
    column.rows.filter(pk=pk).update(**{column.field.name: Sealed(fresh, tenant) if is_ours else fresh})
    return True


def _version(tenant: str) -> bytes:
    """The active version, as sealed bytes write it."""
    return active_key(tenant).version.to_bytes(VERSION_BYTES, "big")
