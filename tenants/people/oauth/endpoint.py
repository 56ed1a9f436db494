"""``POST /oauth/token`` (RFC 6749, client credentials) and ``/.well-known/jwks.json``."""

import base64
import binascii
import logging
from typing import Any
from urllib.parse import unquote_plus, urlencode

from django.conf import settings
from django.db import InterfaceError, OperationalError
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_safe
from oauthlib.oauth2 import BackendApplicationServer, OAuth2Error, RequestValidator
from oauthlib.oauth2.rfc6749.errors import InvalidClientError, InvalidRequestError, TemporarilyUnavailableError

from tenants.models import OAuthClient, TenantStatus
from tenants.people.oauth.clients import find_client_by_secret, touch_client
from tenants.people.oauth.signing import public_keys
from tenants.people.oauth.tokens import issue_token

FORM = "application/x-www-form-urlencoded"
NO_STORE = {"Cache-Control": "no-store", "Pragma": "no-cache"}
JWKS_MAX_AGE_S = 300

# On the level DEBUG it writes requests and tokens into the log.
logging.getLogger("oauthlib").setLevel(logging.INFO)


class _Clients(RequestValidator):
    """What oauthlib asks of us about clients and scopes."""

    def client_authentication_required(self, request: Any, *args: Any, **kwargs: Any) -> bool:
        return True

    def authenticate_client(self, request: Any, *args: Any, **kwargs: Any) -> bool:
        client_id, secret = _credentials(request)
        client = find_client_by_secret(client_id, secret) if client_id and secret else None
        if client is None or client.tenant.status != TenantStatus.ACTIVE:
            return False
        # oauthlib wants an object with a client_id, which the row is.
        request.client, request.client_id = client, client.client_id
        return True

    def validate_grant_type(
        self, client_id: str, grant_type: str, client: OAuthClient, request: Any, *args: Any, **kwargs: Any
    ) -> bool:
        return grant_type == "client_credentials"

    def get_default_scopes(self, client_id: str, request: Any, *args: Any, **kwargs: Any) -> list[str]:
        return sorted(request.client.scopes)

    def validate_scopes(
        self, client_id: str, scopes: list[str], client: OAuthClient, request: Any, *args: Any, **kwargs: Any
    ) -> bool:
        return set(scopes) <= set(client.scopes)

    def save_token(self, token: dict[str, Any], request: Any, *args: Any, **kwargs: Any) -> None:
        """Tokens are not kept: they prove themselves."""
        touch_client(client=request.client)


def _server() -> BackendApplicationServer:
    return BackendApplicationServer(
        _Clients(),
        token_generator=lambda request: issue_token(request.client, request.scopes),
        token_expires_in=settings.OAUTH_TOKEN_S,
    )


@csrf_exempt
def token(request: HttpRequest) -> HttpResponse:
    """A token for whoever proves to be a client: by HTTP Basic, or ``client_id`` and ``client_secret`` in the form."""
    try:
        if request.method != "POST":
            raise InvalidRequestError("Send a POST.", status_code=405)
        if request.content_type != FORM:
            raise InvalidRequestError(f"Send the parameters as {FORM}.")
        # oauthlib reads the pairs itself, so that it sees which come twice.
        body = urlencode([(name, value) for name, values in request.POST.lists() for value in values])
        headers = {"Content-Type": FORM, "Authorization": request.headers.get("Authorization", "")}
        sent, answer, status = _server().create_token_response(request.get_full_path(), "POST", body, headers)
        return _answer(answer, status, sent)
    except OAuth2Error as error:
        return _answer(
            error.json, error.status_code, error.headers | ({"Allow": "POST"} if error.status_code == 405 else {})
        )
    except (OperationalError, InterfaceError):
        error = TemporarilyUnavailableError("The database does not answer at the moment; try again shortly.")
        return _answer(error.json, 503, {"Retry-After": "2"})


@require_safe
def jwks(request: HttpRequest) -> JsonResponse:
    """The public keys that access tokens can be checked with (RFC 7517)."""
    answer = JsonResponse({"keys": public_keys()})
    answer["Cache-Control"] = f"public, max-age={JWKS_MAX_AGE_S}"
    return answer


def _credentials(request: Any) -> tuple[str, str]:
    """RFC 6749 2.3.1. Raises InvalidRequestError for both ways at once, InvalidClientError for a wrong header."""
    header = request.headers.get("Authorization", "")
    in_form = request.client_secret
    if not header:
        return request.client_id or "", in_form or ""
    if in_form:
        raise InvalidRequestError("Send the client's secret in the header or in the form, not in both.")
    scheme, _, encoded = header.partition(" ")
    try:
        client_id, colon, secret = base64.b64decode(encoded.strip(), validate=True).decode().partition(":")
    except (binascii.Error, ValueError) as error:
        raise InvalidClientError("The header is 'Basic' and the base64 of client_id:client_secret.") from error
    if scheme.lower() != "basic" or not colon:
        raise InvalidClientError("The header is 'Basic' and the base64 of client_id:client_secret.")
    return unquote_plus(client_id), unquote_plus(secret)


def _answer(body: str, status: int, headers: dict[str, str]) -> HttpResponse:
    answer = HttpResponse(body, status=status, headers=headers | NO_STORE | {"Content-Type": "application/json"})
    if status == 401:
        answer["WWW-Authenticate"] = 'Basic realm="AgentVoiceBox"'
    return answer
