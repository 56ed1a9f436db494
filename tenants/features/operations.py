"""Turning features on and off. Each function is one transaction in the shared schema."""

from django.db import transaction
from django.utils import timezone

from tenants.audit.operations import record
from tenants.features.models import Setting
from tenants.features.queries import snapshot
from tenants.models import Tenant
from tenants.principal import acting


@transaction.atomic
def set_feature(*, feature: str, is_enabled: bool | None, tenant: Tenant | None = None) -> None:
    """For one tenant, or without one for the platform; None takes the setting away, so that the next one holds.
    ``feature`` is a ``Feature``, or one that this release knows no more.

    Other processes follow within ``settings.FEATURE_CACHE_S``; calls in progress stay as they are.
    """
    known = Setting.objects.select_for_update().filter(feature=feature, tenant=tenant).first()
    before = known.is_enabled if known else None
    if before == is_enabled:
        return
    if is_enabled is None:
        Setting.objects.filter(feature=feature, tenant=tenant).delete()
    else:
        Setting.objects.update_or_create(
            feature=feature,
            tenant=tenant,
            defaults={"is_enabled": is_enabled, "set_by": acting().name, "set_at": timezone.now()},
        )
    transaction.on_commit(snapshot.forget)
    change = {"before": {"is_enabled": before}, "after": {"is_enabled": is_enabled}}
    if tenant is not None:
        record(action="feature.set", target=feature, tenant=tenant.schema_name, **change)
        change["after"]["tenant"] = tenant.slug
    record(action="feature.set", target=feature, **change)
