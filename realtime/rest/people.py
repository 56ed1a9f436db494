"""People who are signed in, under ``/v1``: their session's cookie, and for everything but reading Django's CSRF token
in the header ``X-CSRFToken``. They have the scopes of their role in the tenant in which they act."""

import copy

from channels.db import database_sync_to_async
from django.conf import settings
from django.db import connection, transaction
from django.http import HttpRequest
from django_tenants.utils import get_public_schema_name, schema_context
from rest_framework.authentication import CSRFCheck

from realtime.rest.errors import ApiError
from tenants.keys.credential import Credential
from tenants.people.credentials import credential_of_person
from tenants.people.standing import find_standing


async def find_person(request: HttpRequest) -> Credential | None:
    """None when nobody is signed in. Raises ApiError and django.db.Error."""
    if settings.SESSION_COOKIE_NAME not in request.COOKIES:
        return None
    found: Credential | None = await database_sync_to_async(_find_person)(request)
    return found


def _find_person(request: HttpRequest) -> Credential | None:
    with schema_context(get_public_schema_name()), transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute("SET LOCAL statement_timeout = %s", [settings.POSTGRES_READ_TIMEOUT_MS])
        standing = find_standing(request)
        if standing is None:
            return None
        _enforce_csrf(request)
        if standing.refusal is not None:
            raise ApiError(403, standing.refusal.message, code=standing.refusal.code)
        return credential_of_person(standing)


def _enforce_csrf(request: HttpRequest) -> None:
    """Raises ApiError. As of a PUT, of which Django takes the token from the header alone: it would look for that of a
    POST in the form, and so read a whole recording before anything is known of it."""
    asked = copy.copy(request)
    if request.method not in ("GET", "HEAD", "OPTIONS"):
        asked.method = "PUT"
    check = CSRFCheck(lambda _: None)
    check.process_request(asked)
    reason = check.process_view(asked, None, (), {})
    if reason:
        raise ApiError(403, f"CSRF Failed: {reason} Send the CSRF token in the header X-CSRFToken.", code="csrf_failed")
