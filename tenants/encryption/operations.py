"""Keys change: new versions, new master keys, the end of a tenant's keys. Each is in the audit log."""

from django.db import transaction
from django.db.models.functions import Now
from django_tenants.utils import get_public_schema_name, schema_context, schema_exists

from tenants.audit.operations import record
from tenants.encryption import accounting, data_keys
from tenants.encryption.data_keys import make_key, wrapping_context
from tenants.encryption.errors import EncryptionError
from tenants.encryption.keyring import current_master_key, forget_master_keys, master_key_of
from tenants.encryption.models import DataKey, KeyState

REWRAP_KEYS = 100
"""Data keys that are wrapped anew in one transaction."""


def rotate_data_key(*, tenant: str) -> int:
    """A new version seals from now on; in other processes when what they hold lapses. The old ones go on unsealing,
    and ``resealing`` brings what they sealed to the new one. Gives the version. Raises EncryptionError."""
    with schema_context(get_public_schema_name()), transaction.atomic():
        before = DataKey.objects.select_for_update().filter(tenant=tenant).order_by("-version").first()
        version = before.version + 1 if before else 1
        DataKey.objects.filter(tenant=tenant, state=KeyState.ACTIVE).update(state=KeyState.RETIRED)
        make_key(tenant, version)
        transaction.on_commit(lambda: data_keys.cache.forget(tenant))
        _record(tenant, "data_key.rotated", before={"version": before.version} if before else None, version=version)
    return version


def rotate_aged_keys(*, days: int) -> int:
    """A new version for each tenant whose active one is older; how many."""
    with schema_context(get_public_schema_name()), transaction.atomic():
        aged = DataKey.objects.filter(state=KeyState.ACTIVE).annotate(now=Now())
        tenants = [key.tenant for key in aged if (key.now - key.created_at).days >= days]
    for tenant in tenants:
        rotate_data_key(tenant=tenant)
    return len(tenants)


def rewrap_data_keys() -> int:
    """Every data key under the current master key; how many were under another. What was done is kept when it ends
    half-way, and the next run goes on. Raises MasterKeyMissing when one is wrapped by a key that is not configured."""
    forget_master_keys()
    master = current_master_key()
    now_id = master.current_id()
    total, before = 0, set()
    with schema_context(get_public_schema_name()):
        while True:
            with transaction.atomic():
                others = DataKey.objects.select_for_update(skip_locked=True).exclude(master_key_id=now_id)
                batch = list(others.order_by("pk")[:REWRAP_KEYS])
                for key in batch:
                    before.add(key.master_key_id)
                    context = wrapping_context(key.tenant, key.version)
                    plain = master_key_of(key.master_key_id).unwrap(bytes(key.wrapped), context)
                    key.wrapped, key.master_key_id = master.wrap(plain, context)
                    key.save(update_fields=["wrapped", "master_key_id"])
                total += len(batch)
            if not batch:
                break
        if total:
            record(
                action="master_key.rotated", target=now_id, before={"ids": sorted(before)}, after={"data_keys": total}
            )
    return total


@transaction.atomic
def destroy_data_keys(*, tenant: str) -> int:
    """What was sealed for the tenant is gone for good, copies and backups included; how many keys there were. Other
    processes open no more of it once what they hold lapses."""
    count, _ = DataKey.objects.filter(tenant=tenant).delete()
    transaction.on_commit(lambda: data_keys.cache.forget(tenant))
    if count:
        record(action="data_key.destroyed", target=tenant, before={"versions": count})
    return count


def check_data_keys() -> dict[str, str]:
    """Open every data key by its master key; what is wrong, by ``tenant vN``. For ``encryption status``."""
    faults = {}
    with schema_context(get_public_schema_name()):
        for key in DataKey.objects.all().iterator():
            try:
                context = wrapping_context(key.tenant, key.version)
                master_key_of(key.master_key_id).unwrap(bytes(key.wrapped), context)
            except EncryptionError as error:
                faults[f"{key.tenant} v{key.version}"] = str(error)
    return faults


def enter_counts() -> int:
    """What ``accounting`` counted, into the audit logs; how many entries. A count is taken off only after its entry is
    committed, so after a crash it may be entered twice, and never not at all."""
    client = accounting.client()
    entered = 0
    for member in client.smembers(accounting.TENANTS_KEY):
        tenant = member.decode()
        key = accounting.counts_key(tenant)
        counts = {field.decode(): int(count) for field, count in client.hgetall(key).items()}
        with transaction.atomic():
            for field, count in sorted(counts.items()):
                kind, version, *reason = field.split(":")
                action = "data_key.unwrapped" if kind == accounting.UNWRAPPED else "data_key.refused"
                _record(tenant, action, version=int(version), count=count, **({"reason": reason[0]} if reason else {}))
        entered += len(counts)
        with client.pipeline(transaction=True) as pipe:
            for field, count in counts.items():
                pipe.hincrby(key, field, -count)
            pipe.execute()
        client.eval(accounting.DROP_ZEROS, 2, key, accounting.TENANTS_KEY, tenant)
    return entered


def _record(tenant: str, action: str, *, before: dict[str, int] | None = None, **after: object) -> None:
    """In the tenant's own log; in the platform's for the platform's key, and for a tenant that has none (any more)."""
    own = tenant != get_public_schema_name() and schema_exists(tenant)
    record(
        action=action, target=f"{tenant} v{after['version']}", before=before, after=after, tenant=tenant if own else ""
    )
