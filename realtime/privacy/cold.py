"""Cold storage: what was said long ago leaves the database for the storage of recordings, sealed, and comes back when
somebody reads it. Runs inside the tenant's schema.

The conversation's row stays, so that lists, retention, holds, erasure and export find it as before; only its items go.
They lie in one object, gzipped JSON lines under the tenant's data key. An object is there before the rows go, and the
rows are there before anything is read.
"""

import gzip
import logging
from datetime import datetime, timedelta
from hashlib import sha256

from django.conf import settings
from django.core import serializers
from django.db import connection, transaction
from django.db.models import Q
from django.utils import timezone

from realtime.archive.models import Conversation, Item
from realtime.privacy.holds import serialise_with_deletion
from realtime.privacy.models import FrozenItems
from realtime.recordings.models import Part
from realtime.recordings.storage import ObjectMissing, storage
from tenants.audit.operations import record
from tenants.encryption.data_keys import active_key
from tenants.encryption.errors import EncryptionError, Tampered, WrongKey
from tenants.encryption.sealing import seal_stream, sealed_version, unseal_stream

PURPOSE = "cold conversation"
WARM = timedelta(days=7)
"""How long what was read again stays in the database."""

log = logging.getLogger(__name__)


class FrozenItemsLost(Exception):
    """The object of a conversation is missing or damaged; the message says which."""


@transaction.atomic
def freeze_batch(*, days: int, now: datetime) -> int:
    """At most ``settings.RETENTION_BATCH_ROWS`` conversations that began before ``now`` less ``days``, the oldest
    first; how many. Raises StorageUnavailable and EncryptionError: then all of the batch is where it was."""
    serialise_with_deletion()
    aged = Conversation.objects.filter(started_at__lt=now - timedelta(days=days), ended_at__isnull=False)
    warm = Q(frozen__isnull=True) | Q(frozen__thawed_at__lt=now - WARM)
    batch = list(aged.filter(warm, item_count__gt=0).order_by("started_at", "pk")[: settings.RETENTION_BATCH_ROWS])
    for conversation in batch:
        _freeze(conversation)
    if batch:
        record(
            action="conversations.frozen", target=f"{days} days", after={"conversations": len(batch)},
            tenant=connection.schema_name,
        )  # fmt: skip
    return len(batch)


def _freeze(conversation: Conversation) -> None:
    tenant, key = connection.schema_name, _object_key(conversation.pk)
    # Read once: what the archive adds meanwhile is not in the object, so it stays where it is.
    items = list(Item.objects.filter(conversation=conversation).order_by("pk"))
    lines = serializers.serialize("jsonl", items).encode()
    sealed = b"".join(seal_stream(tenant, [gzip.compress(lines)], purpose=PURPOSE))
    storage().put(key, sealed, cold=True)
    for part in Part.objects.filter(recording=conversation.pk):
        storage().cool(part.object_key)
    FrozenItems.objects.update_or_create(
        conversation=conversation,
        defaults={
            "object_key": key, "sha256": sha256(lines).hexdigest(), "bytes": len(sealed),
            "key_version": sealed_version(sealed), "thawed_at": None, "items": lines.count(b"\n"),
        },
    )  # fmt: skip
    gone = Item.objects.filter(pk__in=[item.pk for item in items])
    gone._raw_delete(gone.db)  # nothing refers to an item, so there is nothing to collect


@transaction.atomic
def thaw(conversation: Conversation) -> None:
    """Its items are in the database when this returns; most are there anyway. Raises StorageUnavailable,
    EncryptionError and FrozenItemsLost."""
    frozen = FrozenItems.objects.select_for_update().filter(pk=conversation.pk, thawed_at__isnull=True).first()
    if frozen is None:
        return
    restored = [line.object for line in serializers.deserialize("jsonl", _read(frozen).decode())]
    Item.objects.bulk_create(restored, batch_size=500, ignore_conflicts=True)
    frozen.thawed_at = timezone.now()
    frozen.save(update_fields=["thawed_at"])


def remove_frozen(session_ids: list[str]) -> int:
    """The objects of these conversations, inside the caller's transaction; how many items were nowhere else. Raises
    StorageUnavailable."""
    found = list(FrozenItems.objects.select_for_update().filter(pk__in=session_ids).order_by("pk"))
    for frozen in found:
        storage().delete(frozen.object_key)
    FrozenItems.objects.filter(pk__in=[frozen.pk for frozen in found]).delete()
    return sum(frozen.items for frozen in found if frozen.thawed_at is None)


@transaction.atomic
def reseal_next_frozen(*, after: str) -> tuple[str, bool] | None:
    """As ``realtime.recordings.resealing.reseal_next``: the id of the next conversation behind ``after`` whose object
    an older version has sealed, and whether it is sealed anew or could not be opened. None: there is no more."""
    tenant = connection.schema_name
    older = FrozenItems.objects.select_for_update().filter(key_version__lt=active_key(tenant).version, pk__gt=after)
    frozen = older.order_by("pk").first()
    if frozen is None:
        return None
    try:
        opened = unseal_stream(tenant, [storage().get(frozen.object_key)], purpose=PURPOSE)
        sealed = b"".join(seal_stream(tenant, opened, purpose=PURPOSE))
    except (ObjectMissing, Tampered, WrongKey) as error:
        log.error("a cold conversation cannot be sealed anew: %s", type(error).__name__)
        return frozen.pk, False
    storage().put(frozen.object_key, sealed, cold=True)
    frozen.key_version = sealed_version(sealed)
    frozen.save(update_fields=["key_version"])
    return frozen.pk, True


def _read(frozen: FrozenItems) -> bytes:
    tenant = connection.schema_name
    try:
        sealed = storage().get(frozen.object_key)
        lines = gzip.decompress(b"".join(unseal_stream(tenant, [sealed], purpose=PURPOSE)))
    except (ObjectMissing, Tampered, WrongKey) as error:
        raise FrozenItemsLost(f"The items of {frozen.pk} cannot be read: {type(error).__name__}.") from error
    if sha256(lines).hexdigest() != frozen.sha256:
        raise FrozenItemsLost(f"The items of {frozen.pk} are not those that were stored.")
    return lines


def _object_key(session_id: str) -> str:
    """Under the tenant's name, as all that is erased with it."""
    return f"{connection.schema_name}/cold/{sha256(session_id.encode()).hexdigest()}"


UNREADABLE = (EncryptionError, FrozenItemsLost)
"""Why cold items cannot be had, beside a storage that does not answer."""
