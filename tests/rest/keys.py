"""Keys that the endpoints' own database connections see."""

from collections.abc import Iterable

from channels.db import database_sync_to_async

from tenants.keys.operations import issue_key
from tenants.models import Tenant


async def committed_key(tenant: Tenant, scopes: Iterable[str]) -> str:
    """Made in another thread than the test's: there no test's transaction is open."""
    _, secret = await database_sync_to_async(issue_key)(tenant=tenant, name="limited", scopes=scopes)
    return str(secret)
