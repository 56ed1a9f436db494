"""Reading the audit log: the tenant's inside its schema, the platform's in the shared one."""

from datetime import datetime

from django.db.models import QuerySet

from tenants.audit.models import Entry


def list_entries(
    *,
    action: str | None = None,
    actor: str | None = None,
    target: str | None = None,
    address: str | None = None,
    begin: datetime | None = None,
    end: datetime | None = None,
) -> QuerySet[Entry]:
    """Newest first, from ``begin`` on and before ``end``. An ``action`` that ends in a point, as ``api_key.``, asks for
    all of a kind."""
    found = Entry.objects.all()
    if action is not None:
        found = found.filter(action__startswith=action) if action.endswith(".") else found.filter(action=action)
    for name, wanted in (("actor_id", actor), ("target", target), ("address", address)):
        if wanted is not None:
            found = found.filter(**{name: wanted})
    if begin is not None:
        found = found.filter(at__gte=begin)
    if end is not None:
        found = found.filter(at__lt=end)
    return found
