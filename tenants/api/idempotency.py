"""``Idempotency-Key``: a POST that is sent again is answered again, and done once.

The rules are those of the IETF draft (draft-ietf-httpapi-idempotency-key-header): the same key with the same request
gets the stored answer; with another request 422; while the first one still runs 409. Keys belong to one principal of
one tenant, who has a bounded number of them at a time. Only what succeeded is kept: what was refused or failed changed
nothing, so it may be tried again. Of an answer that is too large only that it was given is kept: sent again, the
request is refused with 409 and not done anew.

An answer may show a secret this once, so what lies in Redis is sealed under a key that is derived from the platform's
secret key and from the ``Idempotency-Key`` itself, of which only a keyed hash is stored: neither a copy of Redis nor
the secret key opens it.
"""

import base64
import hashlib
import hmac
import json
import logging
import os
import re
from dataclasses import dataclass
from functools import cache
from typing import Any

import redis
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from django.conf import settings
from django.http import HttpResponse
from django_tenants.utils import get_public_schema_name
from rest_framework.exceptions import APIException, ErrorDetail, ValidationError
from rest_framework.request import Request

from tenants.principal import Principal

HEADER = "Idempotency-Key"
REPLAYED_HEADER = "Idempotency-Replayed"
KEPT_HEADERS = ("Content-Type", "Location", "ETag", "Cache-Control")
# A structured-field string, as the draft wants it, or the same without quotes, as everybody sends it.
KEY = re.compile(r'"([\x21\x23-\x5b\x5d-\x7e]{1,255})"|([\x21\x23-\x5b\x5d-\x7e]{1,255})')
RUNNING, DONE = b"r", b"d"
FINGERPRINT_BYTES = 32
NONCE_BYTES = 12

# KEYS, here and below: what lies under the key, and its principal's keys by when each lapses. ARGV: the claim, its life
# in seconds, the most keys. Gives what was there, nothing where the claim is taken, or, where there are too many keys,
# the seconds until the first of them lapses.
CLAIM = """
local found = redis.call('GET', KEYS[1])
if found then return found end
local now = tonumber(redis.call('TIME')[1])
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', now)
if redis.call('ZCARD', KEYS[2]) >= tonumber(ARGV[3]) then
  return math.max(1, tonumber(redis.call('ZRANGE', KEYS[2], 0, 0, 'WITHSCORES')[2]) - now)
end
redis.call('SET', KEYS[1], ARGV[1], 'EX', ARGV[2])
redis.call('ZADD', KEYS[2], now + ARGV[2], KEYS[1])
local last = redis.call('ZRANGE', KEYS[2], -1, -1, 'WITHSCORES')
redis.call('EXPIREAT', KEYS[2], last[2])
return false
"""

# Only whoever still holds the claim settles it: with an answer, or, without one, by letting go.
SETTLE = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
if ARGV[2] == '' then
  redis.call('DEL', KEYS[1])
  redis.call('ZREM', KEYS[2], KEYS[1])
else
  local ends = redis.call('TIME')[1] + ARGV[3]
  redis.call('SET', KEYS[1], ARGV[2], 'EX', ARGV[3])
  redis.call('ZADD', KEYS[2], ends, KEYS[1])
  local last = redis.call('ZRANGE', KEYS[2], -1, -1, 'WITHSCORES')
  redis.call('EXPIREAT', KEYS[2], last[2])
end
return 1
"""

log = logging.getLogger(__name__)


class KeyInUse(APIException):
    status_code = 409

    def __init__(self) -> None:
        words = "The first request with this key is still running; try again shortly."
        super().__init__({HEADER: [ErrorDetail(words, "idempotency_key_in_use")]})
        self.wait = 1


class KeyReused(APIException):
    status_code = 422

    def __init__(self) -> None:
        words = "This key came before with another request; draw a new key for each."
        super().__init__({HEADER: [ErrorDetail(words, "idempotency_key_reused")]})


class AnswerNotKept(APIException):
    status_code = 409

    def __init__(self, status: int, where: str) -> None:
        words = (
            f"The request with this key was done and answered {status}; the answer was too large to be kept. "
            f"Nothing was done anew: read the result with GET {where}."
        )
        super().__init__({HEADER: [ErrorDetail(words, "idempotency_answer_not_kept")]})


class TooManyKeys(APIException):
    status_code = 429

    def __init__(self, wait_s: int) -> None:
        words = (
            f"At most {settings.IDEMPOTENCY_KEYS} idempotency keys of an API key, client or person are kept at a time; "
            f"the first of them lapses in {wait_s} s. Without the header the request is done, and may be done twice."
        )
        super().__init__({HEADER: [ErrorDetail(words, "too_many_idempotency_keys")]})
        self.wait = wait_s


class IdempotencyUnavailable(APIException):
    status_code = 503
    wait = 2

    def __init__(self) -> None:
        words = "Idempotency keys cannot be kept at the moment; try again shortly."
        super().__init__({HEADER: [ErrorDetail(words, "idempotency_unavailable")]})


@dataclass(frozen=True)
class Claim:
    """This request is the one that does the work. ``running`` is what lies in Redis as long as it does."""

    name: str
    owner_name: str
    running: bytes
    sealing_key: bytes

    def keep(self, response: HttpResponse) -> None:
        """After the commit: whoever sends the request again gets this answer."""
        headers = {name: response[name] for name in KEPT_HEADERS if name in response}
        small = len(response.content) <= settings.IDEMPOTENCY_ANSWER_BYTES
        body = base64.b64encode(response.content).decode() if small else None
        answer = json.dumps({"status": response.status_code, "headers": headers, "body": body}).encode()
        nonce = os.urandom(NONCE_BYTES)
        sealed = nonce + AESGCM(self.sealing_key).encrypt(nonce, answer, self.name.encode())
        self._settle(DONE + self.running[1 : 1 + FINGERPRINT_BYTES] + sealed)

    def release(self) -> None:
        """Nothing was done: the key may be used again."""
        self._settle(b"")

    def _settle(self, stored: bytes) -> None:
        try:
            _client().eval(SETTLE, 2, self.name, self.owner_name, self.running, stored, settings.API_IDEMPOTENCY_S)
        except redis.RedisError as error:
            # The work is done and its answer goes out; whoever repeats it hears 409 until the claim lapses.
            log.warning("an idempotency key was not settled: %s", type(error).__name__)


def claim(request: Request, principal: Principal) -> Claim | HttpResponse | None:
    """None without the header; the stored answer when the work was done before; else the claim to do it.

    Raises ValidationError (malformed key), KeyInUse, KeyReused, AnswerNotKept, TooManyKeys, IdempotencyUnavailable.
    """
    header = request.headers.get(HEADER)
    if header is None:
        return None
    match = KEY.fullmatch(header.strip())
    if match is None:
        words = f"{HEADER!r} has 1 to 255 visible ASCII characters, in double quotes or without."
        raise ValidationError({HEADER: [ErrorDetail(words, "invalid")]})
    owner = json.dumps([principal.kind, principal.id, match[1] or match[2]])
    place = f"avb:{principal.tenant or get_public_schema_name()}"
    name = f"{place}:idempotency:{_keyed_hash(owner.encode()).hex()}"
    owner_name = f"{place}:idempotency_keys:{_keyed_hash(json.dumps([principal.kind, principal.id]).encode()).hex()}"
    fingerprint = _fingerprint(request)
    running = RUNNING + fingerprint + os.urandom(16)
    sealing_key = HKDF(SHA256(), 32, salt=None, info=b"avb idempotency " + owner.encode()).derive(_secret())
    try:
        found: Any = _client().eval(
            CLAIM, 2, name, owner_name, running, settings.API_IDEMPOTENCY_RUNNING_S, settings.IDEMPOTENCY_KEYS
        )
    except redis.RedisError as error:
        raise IdempotencyUnavailable from error
    if found is None:
        return Claim(name, owner_name, running, sealing_key)
    if isinstance(found, int):
        raise TooManyKeys(found)
    if not hmac.compare_digest(found[1 : 1 + FINGERPRINT_BYTES], fingerprint):
        raise KeyReused
    if found[:1] == RUNNING:
        raise KeyInUse
    return _open(found[1 + FINGERPRINT_BYTES :], name, sealing_key, request.path)


def _open(sealed: bytes, name: str, sealing_key: bytes, path: str) -> HttpResponse:
    try:
        answer = json.loads(AESGCM(sealing_key).decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], name.encode()))
    except InvalidTag as error:
        # Sealed under a secret key that was changed since.
        raise IdempotencyUnavailable from error
    if answer["body"] is None:
        raise AnswerNotKept(answer["status"], answer["headers"].get("Location", path))
    headers = answer["headers"] | {REPLAYED_HEADER: "true"}
    return HttpResponse(base64.b64decode(answer["body"]), status=answer["status"], headers=headers)


def _fingerprint(request: Request) -> bytes:
    """A keyed hash of what was asked, so that not even a guess at the body can be checked against it."""
    asked = json.dumps([request.method, request.get_full_path(), request.content_type]).encode()
    return _keyed_hash(asked + b"\0" + request._request.body)


def _keyed_hash(content: bytes) -> bytes:
    return hmac.digest(_secret(), content, "sha256")


def _secret() -> bytes:
    return hashlib.sha256(b"avb idempotency " + settings.SECRET_KEY.encode()).digest()


@cache
def _client() -> "redis.Redis[bytes]":
    return redis.Redis.from_url(
        settings.REDIS_URL,
        socket_timeout=settings.REDIS_WRITE_TIMEOUT_S,
        socket_connect_timeout=settings.REDIS_WRITE_TIMEOUT_S,
    )
