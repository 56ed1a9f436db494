"""After a data key's rotation: objects that an older version has sealed are sealed by the active one, one by one. Runs
inside the tenant's schema."""

import logging

from django.db import connection, transaction

from realtime.recordings.models import Part
from realtime.recordings.operations import PURPOSE, _lock_object
from realtime.recordings.storage import ObjectMissing, storage
from tenants.encryption.data_keys import active_key
from tenants.encryption.errors import Tampered, WrongKey
from tenants.encryption.sealing import seal_stream, sealed_version, unseal_stream

log = logging.getLogger(__name__)


@transaction.atomic
def reseal_next(*, after: str) -> tuple[str, bool] | None:
    """The next object behind the key ``after`` that an older version has sealed: its key, and whether it is sealed anew
    or could not be opened. None: there is no more. Which are left stands in the rows, so a run that was broken off goes
    on with the next. Raises StorageUnavailable, MasterKeyMissing, KeySourceUnavailable."""
    tenant = connection.schema_name
    older = Part.objects.filter(key_version__lt=active_key(tenant).version, object_key__gt=after)
    key = older.order_by("object_key").values_list("object_key", flat=True).first()
    if key is None:
        return None
    _lock_object(key)
    try:
        opened = unseal_stream(tenant, [storage().get(key)], purpose=PURPOSE)
        sealed = b"".join(seal_stream(tenant, opened, purpose=PURPOSE))
    except (ObjectMissing, Tampered, WrongKey) as error:
        log.error("a stored recording cannot be sealed anew: %s", type(error).__name__)
        return key, False
    storage().put(key, sealed)
    Part.objects.filter(object_key=key).update(key_version=sealed_version(sealed))
    return key, True
