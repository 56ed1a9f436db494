"""Model fields that PostgreSQL only ever sees sealed.

    class Provider(models.Model):                       # in a tenant's schema: the schema's own key
        api_key = EncryptedTextField()

    class Connection(models.Model):                     # in the public schema: the key of the tenant it names
        tenant = models.ForeignKey(Tenant, models.CASCADE)
        client_secret = EncryptedTextField(tenant="tenant.schema_name")

A value is unsealed when it is first asked for, so lists, ``repr`` and the admin's queries open nothing. The purpose is
the model and the field: sealed bytes that are copied to another column do not open. Empty text is stored as it is.
A sealed field cannot be searched; ``isnull`` is its only lookup.
"""

import json
from dataclasses import dataclass
from functools import reduce
from typing import Any

from django.core.exceptions import FieldError
from django.core.serializers.json import DjangoJSONEncoder
from django.db import models
from django.db.models.expressions import BaseExpression
from django_tenants.utils import get_public_schema_name

from tenants.encryption.errors import TenantUnnamed
from tenants.encryption.sealing import seal, unseal


@dataclass(frozen=True, slots=True, repr=False)
class Sealed:
    """What a row holds, and the schema that it was read from; ``None`` when the row came from elsewhere."""

    value: bytes
    schema: str


class _Attribute:
    """On the model's class: unseals at the first look."""

    def __init__(self, field: "EncryptedField") -> None:
        self.field = field

    def __get__(self, instance: models.Model | None, owner: type[models.Model]) -> Any:
        if instance is None:
            return self
        name = self.field.attname
        if name not in instance.__dict__:
            instance.refresh_from_db(fields=[name])
        value = instance.__dict__[name]
        if isinstance(value, Sealed):
            value = instance.__dict__[name] = self.field.open(value, instance)
        return value

    def __set__(self, instance: models.Model, value: Any) -> None:
        instance.__dict__[self.field.attname] = value


class EncryptedField(models.BinaryField):
    """``tenant`` is the way from the row to the schema name of the tenant whose key seals it, such as
    ``"tenant.schema_name"``; without it the row must live in a tenant's schema. Reading raises what
    ``sealing.unseal`` raises."""

    descriptor_class = _Attribute

    def __init__(self, *args: Any, tenant: str = "", **kwargs: Any) -> None:
        kwargs.setdefault("editable", False)
        self.tenant = tenant
        super().__init__(*args, **kwargs)

    def deconstruct(self) -> Any:
        name, path, args, kwargs = super().deconstruct()
        if self.tenant:
            kwargs["tenant"] = self.tenant
        return name, path, args, kwargs

    @property
    def purpose(self) -> str:
        return f"{self.model._meta.label_lower}.{self.name}"

    def encode(self, value: Any) -> bytes:
        raise NotImplementedError

    def decode(self, plaintext: bytes) -> Any:
        raise NotImplementedError

    def tenant_of(self, instance: models.Model, schema: str) -> str:
        """The schema name of the tenant whose key is the row's."""
        named = reduce(getattr, self.tenant.split("."), instance) if self.tenant else schema
        if not named or (not self.tenant and named == get_public_schema_name()):
            raise TenantUnnamed(f"{self.purpose} is in the public schema: write the field with tenant='…'.")
        return str(named)

    def open(self, sealed: Sealed, instance: models.Model) -> Any:
        tenant = self.tenant_of(instance, sealed.schema)
        return self.decode(unseal(tenant, sealed.value, purpose=self.purpose))

    def from_db_value(self, value: Any, expression: Any, connection: Any) -> Any:
        if value is None:
            return None
        # Empty was stored as it is: there is nothing to open.
        return Sealed(bytes(value), connection.schema_name) if len(value) else self.decode(b"")

    def pre_save(self, model_instance: models.Model, add: bool) -> Any:
        value = model_instance.__dict__.get(self.attname)
        if self.tenant and value is not None and not isinstance(value, Sealed | BaseExpression):
            tenant, plaintext = self.tenant_of(model_instance, ""), self.encode(value)
            return Sealed(seal(tenant, plaintext, purpose=self.purpose) if plaintext else b"", tenant)
        return value

    def get_db_prep_value(self, value: Any, connection: Any, prepared: bool = False) -> Any:
        if value is None or isinstance(value, BaseExpression):
            return value
        if not isinstance(value, Sealed):
            plaintext = self.encode(value)
            if self.tenant or connection.schema_name == get_public_schema_name():
                raise TenantUnnamed(
                    f"{self.purpose} is sealed by the key of the tenant that its row names: save the row, "
                    "update() and queries do not know it."
                )
            sealed = seal(connection.schema_name, plaintext, purpose=self.purpose) if plaintext else b""
            value = Sealed(sealed, connection.schema_name)
        return super().get_db_prep_value(value.value, connection, prepared)

    # Behind the bytes is text or JSON, and so is the default: BinaryField's own two rules do not hold.
    def get_default(self) -> Any:
        return self._get_default()

    def _check_str_default_value(self) -> list[Any]:
        return []

    def get_lookup(self, lookup_name: str) -> Any:
        if lookup_name != "isnull":
            raise FieldError(f"{self.purpose} is sealed: it can be asked for isnull, not for {lookup_name!r}.")
        return super().get_lookup(lookup_name)

    def value_to_string(self, obj: models.Model) -> str:
        raise FieldError(f"{self.purpose} is sealed and is not written into fixtures.")


class EncryptedTextField(EncryptedField):
    """Text."""

    empty_values = [None, ""]

    def encode(self, value: Any) -> bytes:
        if not isinstance(value, str):
            raise TypeError(f"{self.purpose} holds text; got {type(value).__name__}.")
        return value.encode()

    def decode(self, plaintext: bytes) -> str:
        return plaintext.decode()


class EncryptedJSONField(EncryptedField):
    """Any JSON value but null, which is the column's own NULL."""

    empty_strings_allowed = False

    def encode(self, value: Any) -> bytes:
        return json.dumps(value, separators=(",", ":"), cls=DjangoJSONEncoder).encode()

    def decode(self, plaintext: bytes) -> Any:
        return json.loads(plaintext) if plaintext else None
