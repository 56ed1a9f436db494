"""What each kind of credential holds: what may be seen of it, what may not, and the value that a live call gets."""

import re
from typing import Any, Literal

import jwt
import msgspec
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from agents.toolbox.errors import ToolboxInvalid
from agents.toolbox.hosts import is_inside
from agents.toolbox.models import Credential, CredentialKind
from agents.tools import credentials as live
from agents.tools.http import HEADER, OURS, HttpToolInvalid, check_address, origin_of

SECRET_CHARACTERS = 16_384
TEXT_CHARACTERS = 1_000
SHORTEST_HS256_BYTES = 32
SHORTEST_RSA_BITS = 2_048
VISIBLE = re.compile(r"[\x20-\x7e]+")
RESERVED_CLAIMS = frozenset({"iss", "sub", "aud", "iat", "exp", "jti"})


class _Shape(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    pass


class ApiKeyConfig(_Shape, frozen=True):
    name: str
    place: Literal["header", "query"] = msgspec.field(default="header", name="in")
    prefix: str = ""


class ApiKeySecret(_Shape, frozen=True):
    value: str


class Nothing(_Shape, frozen=True):
    pass


class BearerSecret(_Shape, frozen=True):
    token: str


class BasicConfig(_Shape, frozen=True):
    username: str


class BasicSecret(_Shape, frozen=True):
    password: str


class OAuth2Config(_Shape, frozen=True):
    token_url: str
    client_id: str
    scope: str = ""
    audience: str = ""
    authentication: Literal["basic", "body"] = "basic"


class OAuth2Secret(_Shape, frozen=True):
    client_secret: str


class JwtConfig(_Shape, frozen=True):
    algorithm: Literal["HS256", "RS256", "ES256"]
    issuer: str = ""
    subject: str = ""
    audience: str = ""
    key_id: str = ""
    lifetime_s: int = 300
    claims: dict[str, Any] = {}


class JwtSecret(_Shape, frozen=True):
    key: str


SHAPES: dict[str, tuple[type[_Shape], type[_Shape]]] = {
    CredentialKind.API_KEY: (ApiKeyConfig, ApiKeySecret),
    CredentialKind.BEARER: (Nothing, BearerSecret),
    CredentialKind.BASIC: (BasicConfig, BasicSecret),
    CredentialKind.OAUTH2: (OAuth2Config, OAuth2Secret),
    CredentialKind.JWT: (JwtConfig, JwtSecret),
}
WHERE = {CredentialKind.OAUTH2: ("token_url", "client_id")}
"""What a secret is sent to: with another of these it must be given anew, or who may not read it could have it sent."""


def check_credential(kind: str, config: Any, secret: Any) -> None:
    """Raises ToolboxInvalid."""
    shapes = SHAPES.get(kind)
    if shapes is None:
        raise ToolboxInvalid({"kind": f"There are {', '.join(SHAPES)}."})
    shown, hidden = _convert(config, shapes[0], "config"), _convert(secret, shapes[1], "secret")
    for param, shape in (("config", shown), ("secret", hidden)):
        for name, value in msgspec.to_builtins(shape).items():
            _check_text(f"{param}.{name}", value, needed=param == "secret" or name in REQUIRED)
    match shown:
        case ApiKeyConfig():
            _check_api_key(shown)
        case OAuth2Config():
            _check_token_url(shown.token_url)
        case BasicConfig() if ":" in shown.username:
            raise ToolboxInvalid({"config.username": "A user's name has no ':'."})
        case JwtConfig():
            _check_jwt(shown, hidden)


def check_use(row: Credential | None, url: str) -> None:
    """Whether the credential may be sent to where ``url`` is. Raises ToolboxInvalid."""
    if row is not None and not is_inside(row.hosts, url):
        where = origin_of(url).partition("://")[2]
        words = f"{row.name!r} may be sent to {', '.join(row.hosts)} only, which {where} is not: see its hosts."
        raise ToolboxInvalid({"credential": words})


def live_credential(row: Credential | None, url: str) -> live.Credential | None:
    """What a call gets to ask ``url`` with; the secret is unsealed here. Raises ToolboxInvalid where it may not be sent
    there, and EncryptionError."""
    if row is None:
        return None
    check_use(row, url)
    config, secret = row.config, row.secret
    match row.kind:
        case CredentialKind.API_KEY:
            shown = msgspec.convert(config, ApiKeyConfig)
            return live.ApiKey(row.name, shown.name, secret["value"], shown.place, shown.prefix)
        case CredentialKind.BEARER:
            return live.BearerToken(row.name, secret["token"])
        case CredentialKind.BASIC:
            return live.BasicLogin(row.name, config["username"], secret["password"])
        case CredentialKind.OAUTH2:
            return live.ClientCredentials(name=row.name, **config, **secret)
        case _:
            return live.SignedToken(name=row.name, **config, **secret)


REQUIRED = {"name", "username", "token_url", "client_id", "algorithm"}


def _convert(value: Any, shape: type[_Shape], param: str) -> Any:
    try:
        return msgspec.convert(value, shape)
    except msgspec.ValidationError as error:
        words, _, place = str(error).partition(" - at `$")
        raise ToolboxInvalid({f"{param}{place.removesuffix('`')}": f"{words}."}) from error


def _check_text(param: str, value: Any, *, needed: bool) -> None:
    if not isinstance(value, str):
        return
    longest = SECRET_CHARACTERS if param.startswith("secret.") else TEXT_CHARACTERS
    if needed and not value:
        raise ToolboxInvalid({param: "This may not be empty."})
    if len(value) > longest:
        raise ToolboxInvalid({param: f"This may have at most {longest} characters."})
    # A password goes out in base64 and a key is only signed with; anything else goes out as it is.
    free = param in ("secret.password", "secret.key", "config.username")
    if value and not free and not VISIBLE.fullmatch(value):
        raise ToolboxInvalid({param: "Use visible ASCII characters and spaces, without line breaks."})


def _check_api_key(shown: ApiKeyConfig) -> None:
    if shown.place == "header" and (not HEADER.fullmatch(shown.name) or shown.name.lower() in OURS):
        raise ToolboxInvalid({"config.name": "This is no header that may be set, such as X-Api-Key."})
    if shown.place == "query" and not re.fullmatch(r"[A-Za-z0-9_.\[\]-]{1,100}", shown.name):
        raise ToolboxInvalid({"config.name": "A query parameter is called by letters, digits, '_', '-' and '.'."})


def _check_token_url(url: str) -> None:
    try:
        check_address(url)
    except HttpToolInvalid as error:
        raise ToolboxInvalid({"config.token_url": error.message}) from error


def _check_jwt(shown: JwtConfig, hidden: JwtSecret) -> None:
    if not 10 <= shown.lifetime_s <= 3_600:
        raise ToolboxInvalid({"config.lifetime_s": "A token is good for 10 to 3600 seconds."})
    if wrong := sorted(RESERVED_CLAIMS & shown.claims.keys()):
        raise ToolboxInvalid({f"config.claims.{wrong[0]}": "This claim is set by us or has a field of its own."})
    if len(msgspec.json.encode(shown.claims)) > TEXT_CHARACTERS:
        raise ToolboxInvalid({"config.claims": f"The claims may have at most {TEXT_CHARACTERS} characters of JSON."})
    if shown.algorithm == "HS256":
        if len(hidden.key.encode()) < SHORTEST_HS256_BYTES:
            raise ToolboxInvalid({"secret.key": f"A key for HS256 has at least {SHORTEST_HS256_BYTES} bytes."})
        return
    wanted = "an RSA key of at least 2048 bits" if shown.algorithm == "RS256" else "an elliptic curve key on P-256"
    fault = ToolboxInvalid({"secret.key": f"{shown.algorithm} needs {wanted}, private, in PEM, without a password."})
    try:
        key = load_pem_private_key(hidden.key.encode(), password=None)
    except (ValueError, TypeError, jwt.PyJWTError) as error:
        raise fault from error
    if shown.algorithm == "RS256":
        fits = isinstance(key, RSAPrivateKey) and key.key_size >= SHORTEST_RSA_BITS
    else:
        fits = isinstance(key, EllipticCurvePrivateKey) and isinstance(key.curve, SECP256R1)
    if not fits:
        raise fault
