"""Who opened which data key how often, and what failed: counted in Redis as it happens, entered into the audit log by
the minute. So a refusal is on record although the transaction that met it is rolled back, and no read waits for a log.
"""

import logging
from typing import Any

import redis
from django.conf import settings

from tenants.encryption.errors import EncryptionError

log = logging.getLogger(__name__)

TENANTS_KEY = "avb:data_keys:tenants"
UNWRAPPED, REFUSED = "unwrapped", "refused"

# Counts that are entered, and then the tenant without any: in one step, so that none that comes meanwhile is lost.
DROP_ZEROS = """
local counts = redis.call('HGETALL', KEYS[1])
for i = 1, #counts, 2 do
  if tonumber(counts[i + 1]) <= 0 then redis.call('HDEL', KEYS[1], counts[i]) end
end
if redis.call('EXISTS', KEYS[1]) == 0 then redis.call('SREM', KEYS[2], ARGV[1]) end
return 0
"""

_clients: dict[str, Any] = {}


def counts_key(tenant: str) -> str:
    """Hash: ``unwrapped:{version}`` and ``refused:{version}:{reason}`` → how often since the last entry."""
    return f"avb:{tenant}:data_keys:counts"


def client() -> Any:
    """Of whatever server is configured now."""
    url = settings.REDIS_URL
    if url not in _clients:
        timeout_s = settings.REDIS_WRITE_TIMEOUT_S
        _clients[url] = redis.Redis.from_url(url, socket_timeout=timeout_s, socket_connect_timeout=timeout_s)
    return _clients[url]


def count_unwrap(tenant: str, version: int) -> None:
    _count(tenant, f"{UNWRAPPED}:{version}")


def count_refusal(tenant: str, version: int, error: EncryptionError) -> None:
    """Each error once, however many layers it passes."""
    if error.is_counted:
        return
    error.is_counted = True
    log.error("a data key or what it sealed does not open", extra={"tenant_id": tenant, "reason": error.reason})
    _count(tenant, f"{REFUSED}:{version}:{error.reason}")


def _count(tenant: str, field: str) -> None:
    try:
        with client().pipeline(transaction=False) as pipe:
            pipe.hincrby(counts_key(tenant), field, 1)
            pipe.sadd(TENANTS_KEY, tenant)
            pipe.execute()
    except (redis.RedisError, OSError) as error:
        # The metrics have it all the same; a call that needs its key must not fail for a count.
        log.warning("the use of a data key is not in the audit log: %s", type(error).__name__)
