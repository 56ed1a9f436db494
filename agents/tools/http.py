"""A tenant's own HTTP tool: a templated request, sent through the guarded client, and what a model reads of the answer.

1. Scheme, host and port are written in the template without places: no argument and no variable can change them.
2. Values stay values: percent-encoded in the path and the query, typed in a JSON body, without line breaks in headers.
3. What is shown of a call (``sent``, ``answered``, the error) never holds a credential, also where a server repeats it.
"""

import asyncio
import json
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Literal
from urllib.parse import quote, urlencode, urlsplit

import httpx2
import msgspec

from agents.egress.addresses import EgressRefused
from agents.tools.credentials import NOTHING, Credential, CredentialFailed, Tokens, redact
from agents.tools.mapping import (
    MAP_S,
    MappingInvalid,
    MappingSlow,
    ResponseMapping,
    check_mapping,
    cut,
    decode_text,
    is_text,
    map_body,
)
from agents.tools.outcome import Outcome, failure
from agents.tools.placeholders import (
    ABSENT,
    ARGUMENTS,
    PLACE,
    PlaceInvalid,
    fill,
    fill_text,
    look_up,
    names_in,
    to_text,
)
from agents.tools.types import RECEIPT_CHARACTERS, TIMEOUT_S, JsonObject, ToolContext, ToolError

URL_CHARACTERS = 2_000
BODY_CHARACTERS = 32_000
PARTS = 64
"""Query parameters and headers, each."""
FILLED_URL_CHARACTERS = 8_000
FILLED_HEADER_CHARACTERS = 4_000
FILLED_BODY_BYTES = 256 * 1024
FILLED_CHARACTERS = 512 * 1024
"""Of all values that are put into one request; those of its path count several times."""
ERROR_CHARACTERS = 500
LOOP_BYTES = 16 * 1024
LOOP_S = 0.002
"""An answer of up to this size is read on the event loop, if that takes no longer; any other off it."""
HEADER = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}")
BREAKS = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
AUTHORITY = re.compile(r"https?://[A-Za-z0-9.-]+(:[0-9]{1,5})?|https?://\[[0-9A-Fa-f:.]+\](:[0-9]{1,5})?")
OURS = frozenset(
    {"connection", "content-length", "host", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade", "expect"}
)  # fmt: skip
SECRET = frozenset({"authorization", "cookie", "proxy-authorization", "x-api-key", "api-key"})


class HttpToolInvalid(Exception):
    """``param`` is the way to what is wrong, such as ``request.url``."""

    def __init__(self, message: str, param: str) -> None:
        super().__init__(message)
        self.message = message
        self.param = param


class RequestRefused(Exception):
    """The arguments make no request that may be sent; the message is for the model."""


class RequestTemplate(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``query``, ``headers`` and ``body`` are JSON with places (``agents.tools.placeholders``); a ``body`` of null
    sends none. In the query a list is sent as the same parameter several times."""

    method: Literal["GET", "POST", "PUT", "PATCH", "DELETE"]
    url: str
    query: dict[str, Any] = {}
    headers: dict[str, str] = {}
    body: Any = None


@dataclass(frozen=True, slots=True)
class HttpTool:
    """Made by ``read_http_tool``."""

    request: RequestTemplate
    response: ResponseMapping = field(default_factory=ResponseMapping)
    credential: Credential | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Prepared:
    """A request with its values, without its credential."""

    method: str
    url: str
    headers: tuple[tuple[str, str], ...]
    body: bytes | None

    def shown(self, credential: Credential | None) -> JsonObject:
        """For a receipt."""
        body = cut(self.body.decode(), RECEIPT_CHARACTERS // 2) if self.body is not None else None
        parts = {
            "method": self.method,
            "url": cut(self.url, RECEIPT_CHARACTERS // 4),
            "headers": {name: cut(value, 200) for name, value in self.headers},
            "body": body,
            "credential": credential.name if credential else None,
        }
        return {name: part for name, part in parts.items() if part}


def read_http_tool(
    request: Any,
    response: Any = None,
    parameters: Mapping[str, Any] | None = None,
    credential: Credential | None = None,
) -> HttpTool:
    """The tool as it is stored, checked; ``parameters``, the JSON Schema of its arguments, must declare each one that
    the request names. Raises HttpToolInvalid."""
    template = _convert(request, RequestTemplate, "request")
    mapping = _convert(response or {}, ResponseMapping, "response")
    try:
        check_mapping(mapping)
    except MappingInvalid as error:
        raise HttpToolInvalid(error.message, f"response.{error.param}") from error
    _check_url(template.url)
    _check_parts(template)
    if parameters is not None:
        _check_arguments(template, parameters)
    return HttpTool(template, mapping, credential)


def origin_of(url: str) -> str:
    """Scheme, host and port of an address or a template, as ``https://api.example.com:8443``. Raises ValueError."""
    parts = urlsplit(url)
    port = {"https": 443, "http": 80}.get(parts.scheme, 0) if parts.port is None else parts.port
    return f"{parts.scheme}://{parts.hostname}:{port}"


def variables_of(request: JsonObject) -> frozenset[str]:
    """The variables of a call that a stored request names."""
    names: set[str] = set().union(*(names_in(part) for part in request.values()))
    return frozenset(name for name in names if not _is_argument(name))


def prepare(template: RequestTemplate, arguments: Mapping[str, Any], values: Mapping[str, str]) -> Prepared:
    """Raises RequestRefused."""
    look = _looking_up(arguments, values)
    url = _fill_url(template.url, look)
    query = [pair for name, part in template.query.items() for pair in _pairs(name, fill(part, look))]
    if query:
        url = f"{url}?{urlencode(query)}"
    if len(url) > FILLED_URL_CHARACTERS:
        raise RequestRefused(f"The arguments are too long for an address of {FILLED_URL_CHARACTERS} characters.")
    if origin_of(url) != origin_of(template.url):  # rule 1, whatever anything above came to
        raise RequestRefused("The arguments would change where the request goes.")
    headers = {"Accept": "application/json, text/*;q=0.5"}
    for name, part in template.headers.items():
        value = fill_text(part, look)
        if isinstance(value, str):
            headers[name] = _header(name, value)
    body = None
    filled = fill(template.body, look)
    if filled is not ABSENT and filled is not None:
        body = json.dumps(filled, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()
        if len(body) > FILLED_BODY_BYTES:
            raise RequestRefused(f"The arguments make a body of more than {FILLED_BODY_BYTES} bytes.")
        headers.setdefault("Content-Type", "application/json")
    return Prepared(template.method, url, tuple(headers.items()), body)


async def run_http(
    config: HttpTool,
    arguments: JsonObject,
    context: ToolContext,
    client: httpx2.AsyncClient,
    tokens: Tokens,
    timeout_s: float = TIMEOUT_S,
) -> Outcome:
    """``arguments`` fit the tool's ``parameters`` already; ``client`` is a guarded one. Only cancelling raises."""
    try:
        prepared = prepare(config.request, arguments, context.values)
        headers = [(name.encode(), value.encode()) for name, value in prepared.headers]
    except (RequestRefused, ValueError) as error:
        return failure(str(error), outcome="refused")
    sent = prepared.shown(config.credential)
    auth = tokens.auth(config.credential, client, tenant=context.tenant)
    try:
        async with asyncio.timeout(timeout_s):
            response = await client.request(
                prepared.method,
                prepared.url,
                headers=headers,
                content=prepared.body,
                auth=auth or NOTHING,
                follow_redirects=False,
                timeout=timeout_s,
            )
            read = partial(_read, config.response, response, auth.used if auth else set())
            outcome = await _read_aside(read, len(response.content))
    except MappingSlow as error:
        return failure(error.message, sent=sent, healthy=True)
    except (TimeoutError, httpx2.TimeoutException):
        words = f"The service did not answer within {timeout_s:g} s."
        return failure(words, outcome="timeout", sent=sent, healthy=False)
    except CredentialFailed as error:
        return failure(error.message, sent=sent, healthy=None if error.healthy else False)
    except EgressRefused as error:
        # Why is for the tenant: it may tell of our network, which is nothing for who is on the phone.
        words = "The answer is too long." if error.reason == "size" else "The service's address may not be asked."
        return replace(failure(words, outcome="refused", sent=sent), answered={"refused": str(error)})
    except (httpx2.HTTPError, httpx2.InvalidURL) as error:
        return failure(f"The service cannot be reached ({type(error).__name__}).", sent=sent, healthy=False)
    return replace(outcome, sent=sent)


async def _read_aside(read: Callable[[float], Outcome], size: int) -> Outcome:
    """Raises MappingSlow."""
    if size <= LOOP_BYTES:
        with suppress(MappingSlow):
            return read(LOOP_S)
    return await asyncio.to_thread(read, MAP_S)


def _read(mapping: ResponseMapping, response: httpx2.Response, secrets: set[str], limit_s: float) -> Outcome:
    """Raises MappingSlow."""
    status, kind = response.status_code, response.headers.get("content-type", "")
    excerpt = _excerpt(response, kind, secrets)
    answered: JsonObject = {"status": status, "content_type": kind[:100], "bytes": len(response.content)}
    if excerpt:
        answered["body"] = cut(excerpt, RECEIPT_CHARACTERS // 2)
    if not response.is_success:
        message = _error_words(status, excerpt, response.headers.get("retry-after", ""))
        error = ToolError("http_error", message, status)
        return Outcome(error=error, outcome="failed", answered=answered, healthy=status < 500)
    try:
        output = map_body(mapping, response.content, kind, response.charset_encoding, limit_s)
    except MappingSlow:
        raise
    except MappingInvalid as error:
        return replace(failure(error.message, healthy=True), answered=answered)
    return Outcome(redact(output, secrets), answered=answered)


def _excerpt(response: httpx2.Response, kind: str, secrets: set[str]) -> str:
    if not is_text(kind.partition(";")[0].strip().lower()):
        return ""
    # Redacted before it is cut, or half of a secret would be left at the end.
    return redact(decode_text(response.content[: RECEIPT_CHARACTERS * 8], response.charset_encoding), secrets)


def _error_words(status: int, excerpt: str, retry_after: str) -> str:
    phrase = httpx2.codes.get_reason_phrase(status) or "(no known status)"
    words = f"The service answered {status} {phrase}"
    if 300 <= status < 400:
        return f"{words}: it is elsewhere now, and redirects are not followed."
    if status in (401, 403):
        return f"{words}: it does not accept our credential."
    if status == 429:
        wait = f"; try again in {retry_after} s" if retry_after.isdigit() and len(retry_after) < 6 else ""
        return f"{words}{wait}."
    if status >= 500 or not excerpt.strip():
        return f"{words}."  # what a broken server shows of itself is no help to a caller
    return f"{words}: {cut(excerpt.strip(), ERROR_CHARACTERS)}"


def _looking_up(arguments: Mapping[str, Any], values: Mapping[str, str]) -> Callable[[str], Any]:
    """``look_up`` for one request. All that is put in together is bounded before it is: a template may name the same
    long value a thousand times."""
    left = FILLED_CHARACTERS

    def look(name: str) -> Any:
        nonlocal left
        value = look_up(name, arguments, values)
        left -= len(to_text(value)) if isinstance(value, str | list | dict) else 0
        if left < 0:
            raise RequestRefused("The arguments are too long for this request.")
        return value

    return look


def _fill_url(template: str, look: Any) -> str:
    authority = AUTHORITY.match(template)
    start = authority.end() if authority else 0
    pieces = []
    for written in template[start:].split("/"):
        segment = fill_text(written, look, lambda value: quote(value, safe=""))
        missing = [name for name in PLACE.findall(written) if look(name) in (ABSENT, None)]
        if not isinstance(segment, str):
            raise RequestRefused(f"{', '.join(missing)} is needed for this request and has no value.")
        if segment != written:
            _check_segment(written, [to_text(look(name)) for name in PLACE.findall(written)])
        pieces.append(segment)
    return template[:start] + "/".join(pieces)


def _check_segment(written: str, values: list[str]) -> None:
    """A value must stay inside its segment, whatever a server makes of %2F: neither empty nor a step upwards."""
    plain = PLACE.sub("\0", written)
    for value in values:
        plain = plain.replace("\0", value, 1)
    if not all(values) or any(part in (".", "..") for part in re.split(r"[/\\]", plain)) or BREAKS.search(plain):
        raise RequestRefused(f"{written!r} cannot be filled with {plain[:80]!r}: that is no name of one thing.")


def _pairs(name: str, value: Any) -> list[tuple[str, str]]:
    if value is ABSENT or value is None:
        return []
    if isinstance(value, list):
        return [(name, to_text(each)) for each in value if each is not None]
    return [(name, to_text(value))]


def _header(name: str, value: str) -> str:
    if BREAKS.search(value):
        raise RequestRefused(f"The header {name} cannot hold a line break or a control character.")
    if len(value) > FILLED_HEADER_CHARACTERS:
        raise RequestRefused(f"The header {name} cannot hold more than {FILLED_HEADER_CHARACTERS} characters.")
    return value.strip()


def _convert(value: Any, shape: Any, param: str) -> Any:
    try:
        return msgspec.convert(value, shape)
    except msgspec.ValidationError as error:
        words, _, place = str(error).partition(" - at `$")
        raise HttpToolInvalid(f"{words}.", f"{param}{place.removesuffix('`')}") from error


def check_address(url: str, param: str = "url") -> str:
    """Of an address that is asked: its path and what follows. Whether it may be asked is decided when it is (its name
    can lead elsewhere by then). Raises HttpToolInvalid."""
    authority = AUTHORITY.match(url)
    rest = url[authority.end() :] if authority else ""
    if authority is None or (rest and rest[0] not in "/?"):
        raise HttpToolInvalid(
            "An address begins with https:// and a host that is written out, without user and password, such as "
            "https://api.example.com/orders.",
            param,
        )
    if len(url) > URL_CHARACTERS:
        raise HttpToolInvalid(f"An address may have at most {URL_CHARACTERS} characters.", param)
    if "#" in rest or "\\" in rest or BREAKS.search(rest) or " " in PLACE.sub("", rest) or not rest.isascii():
        raise HttpToolInvalid("An address has no '#', no '\\' and no spaces, and is percent-encoded.", param)
    try:
        origin_of(url)
    except ValueError as error:
        raise HttpToolInvalid(f"This is no address: {error}.", param) from error
    return rest


def _check_url(url: str) -> None:
    """Rule 1."""
    if "?" in check_address(url, "request.url"):
        raise HttpToolInvalid("url is a path without '?'; put parameters into query.", "request.url")


def _check_parts(template: RequestTemplate) -> None:
    for param, parts in (("query", template.query), ("headers", template.headers)):
        if len(parts) > PARTS:
            raise HttpToolInvalid(f"There may be at most {PARTS} in {param}.", f"request.{param}")
        if any("{{" in name for name in parts):
            raise HttpToolInvalid("Names are written out; only values have places.", f"request.{param}")
    for name, value in template.headers.items():
        param = f"request.headers.{name}"
        if not HEADER.fullmatch(name) or BREAKS.search(value):
            raise HttpToolInvalid("A header's name is a word, and its value is on one line.", param)
        if name.lower() in OURS:
            raise HttpToolInvalid(f"The header {name} is written by the client itself.", param)
        if name.lower() in SECRET:
            raise HttpToolInvalid(f"{name} is a secret: make a credential and name it in the tool.", param)
    if template.body is not None and template.method == "GET":
        raise HttpToolInvalid("A GET has no body; put parameters into query.", "request.body")
    if len(json.dumps(template.body)) > BODY_CHARACTERS:
        raise HttpToolInvalid(f"body may have at most {BODY_CHARACTERS} characters.", "request.body")
    for param in ("url", "query", "headers", "body"):
        try:
            names_in(getattr(template, param))
        except PlaceInvalid as error:
            raise HttpToolInvalid(str(error), f"request.{param}") from error
        except RecursionError as error:
            raise HttpToolInvalid("It is nested too deeply.", f"request.{param}") from error


def _check_arguments(template: RequestTemplate, parameters: Mapping[str, Any]) -> None:
    """What a request names of the arguments is declared, and what an address needs is required."""
    declared, required = parameters.get("properties") or {}, parameters.get("required") or []
    for param in ("url", "query", "headers", "body"):
        for name in sorted(filter(_is_argument, names_in(getattr(template, param)))):
            _, _, rest = name.partition(".")
            first = rest if rest in declared else rest.partition(".")[0]
            if name != ARGUMENTS and first not in declared:
                raise HttpToolInvalid(f"parameters has no property {first!r} for {{{{{name}}}}}.", f"request.{param}")
            if param == "url" and first not in required:
                words = f"The address needs {{{{{name}}}}}: put {first!r} into parameters.required."
                raise HttpToolInvalid(words, "request.url")


def _is_argument(name: str) -> bool:
    return name == ARGUMENTS or name.startswith(f"{ARGUMENTS}.")
