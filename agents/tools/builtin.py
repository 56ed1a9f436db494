"""The tools that every agent can have: what a model is offered, what an agent sets, and those that need no transport.

An agent names one as ``{"type": "builtin", "name": "transfer_call", …settings}``. ``end_call`` is done by the protocol,
``transfer_call`` and ``send_dtmf`` by transports that can; ``run_builtin`` does the others.

What ``collect`` asks for is done only when the caller has confirmed the very values: the model gives them, reads them
back, and gives the same ones again with ``confirmed``.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any, Literal, NamedTuple
from zoneinfo import ZoneInfo, available_timezones

import msgspec
import phonenumbers

from agents.tools.arguments import ArgumentsInvalid, SchemaInvalid, check_schema, find_problems
from agents.tools.outcome import Outcome, failure
from agents.tools.types import JsonObject, ToolContext, ToolSpec

COLLECTED = "collected"
"""Where ``collect`` keeps what it has, in ``ToolContext.memory``: by form, ``values`` and ``status``."""
DESTINATIONS = 64
FIELDS = 32
SLUG = re.compile(r"[a-z0-9_]{1,40}")
SIP = re.compile(r"sips?:[A-Za-z0-9!*'()&=+$,;?/_.~%-]{1,128}@[A-Za-z0-9.\[\]:-]{1,255}")
LABEL = "builtin"


class BuiltinInvalid(Exception):
    """``param`` is the setting at fault, such as ``destinations.sales.to``; empty for the name itself."""

    def __init__(self, message: str, param: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.param = param


class NoSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    pass


class ClockSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``time_zone`` is IANA's name; empty is the agent's own."""

    time_zone: str = ""


class Destination(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``to`` is a telephone number with its country (+49 30 123456) or a SIP address; ``description`` tells the model
    when."""

    to: str
    description: str = ""


class TransferSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    destinations: dict[str, Destination]


class CollectSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``form`` names what is collected: an agent may have several. ``fields`` is a JSON Schema for each value, whose
    ``format`` may be date, email, phone, time or uuid; ``required`` are those that must be there, all where it is null.
    """

    form: str
    fields: dict[str, dict[str, Any]]
    required: list[str] | None = None
    confirm: bool = True
    description: str = ""


@dataclass(frozen=True, slots=True)
class Builtin:
    """``by``: who does it. ``offer`` makes of settings the tool's name, description and parameters; ``check`` raises
    BuiltinInvalid."""

    name: str
    description: str
    settings: type[msgspec.Struct]
    by: Literal["protocol", "transport", "server"]
    offer: Callable[[Any], "Offer"]
    check: Callable[[Any], None] = lambda settings: None

    @property
    def settings_schema(self) -> JsonObject:
        """JSON Schema of the settings, beside ``type`` and ``name``."""
        return msgspec.json.schema(self.settings)


class Offer(NamedTuple):
    name: str
    description: str
    parameters: JsonObject


def _object(properties: JsonObject, required: list[str] | None = None) -> JsonObject:
    return {
        "type": "object", "properties": properties, "required": required or [], "additionalProperties": False,
    }  # fmt: skip


def _offer_end(settings: NoSettings) -> Offer:
    words = "End the call. Say goodbye first. Use it when the caller says goodbye or wants nothing more."
    return Offer("end_call", words, _object({"reason": {"type": "string", "description": "Why, in a few words."}}))


def _offer_clock(settings: ClockSettings) -> Offer:
    zone = {"type": "string", "description": "IANA name such as Europe/Paris, for the time elsewhere."}
    return Offer("current_time", "The current date, weekday and time.", _object({"time_zone": zone}))


def _offer_transfer(settings: TransferSettings) -> Offer:
    places = [
        f"{name}: {destination.description}" if destination.description else name
        for name, destination in settings.destinations.items()
    ]
    words = f"Transfer the caller to somebody else, and tell them so first. Destinations: {'; '.join(places)}."
    properties = {
        "destination": {"type": "string", "enum": list(settings.destinations)},
        "reason": {"type": "string", "description": "Why, in a few words."},
    }
    return Offer("transfer_call", words, _object(properties, ["destination"]))


def _offer_dtmf(settings: NoSettings) -> Offer:
    digits = {"type": "string", "pattern": "^[0-9*#A-D]{1,32}$", "description": "0-9, *, #, A-D, such as 123#."}
    words = "Press keys of the telephone, for a menu or an extension at the other end."
    return Offer("send_dtmf", words, _object({"digits": digits}, ["digits"]))


def _offer_collect(settings: CollectSettings) -> Offer:
    words = [settings.description or f"Note the {settings.form.replace('_', ' ')} of the caller."]
    words.append("Give all values that you know.")
    properties = dict(settings.fields)
    if settings.confirm:
        words.append("Read them back, and only when the caller has agreed call it again with the same values and "
                     "confirmed true.")  # fmt: skip
        properties["confirmed"] = {"type": "boolean", "description": "The caller has agreed to exactly these values."}
    return Offer(f"collect_{settings.form}", " ".join(words), _object(properties))


def _check_zone(settings: ClockSettings) -> None:
    if settings.time_zone and settings.time_zone not in _zones():
        raise BuiltinInvalid(f"{settings.time_zone!r} is no time zone; one is Europe/Paris.", "time_zone")


def _check_destinations(settings: TransferSettings) -> None:
    if not 1 <= len(settings.destinations) <= DESTINATIONS:
        raise BuiltinInvalid(f"There are 1 to {DESTINATIONS} destinations.", "destinations")
    for name, destination in settings.destinations.items():
        if not SLUG.fullmatch(name):
            raise BuiltinInvalid(f"{name!r} is no name: use a-z, 0-9 and _.", f"destinations.{name}")
        if not _is_destination(destination.to):
            words = f"{destination.to!r} is neither a number such as +49 30 123456 nor a sip: address."
            raise BuiltinInvalid(words, f"destinations.{name}.to")


def _is_destination(written: str) -> bool:
    if written.startswith(("sip:", "sips:")):
        return SIP.fullmatch(written) is not None
    try:
        return phonenumbers.is_possible_number(phonenumbers.parse(written))
    except phonenumbers.NumberParseException:
        return False


def _check_collect(settings: CollectSettings) -> None:
    if not SLUG.fullmatch(settings.form):
        raise BuiltinInvalid(f"{settings.form!r} cannot name a form: use up to 40 of a-z, 0-9 and _.", "form")
    if not 1 <= len(settings.fields) <= FIELDS:
        raise BuiltinInvalid(f"There are 1 to {FIELDS} fields.", "fields")
    for name, schema in settings.fields.items():
        if not SLUG.fullmatch(name) or name == "confirmed":
            raise BuiltinInvalid(f"{name!r} cannot name a field: use a-z, 0-9 and _.", f"fields.{name}")
        try:
            check_schema(schema)
        except SchemaInvalid as error:
            raise BuiltinInvalid(f"It is no JSON Schema: {error}", f"fields.{name}") from error
    unknown = [name for name in settings.required or () if name not in settings.fields]
    if unknown:
        raise BuiltinInvalid(f"{unknown[0]!r} is none of the fields.", "required")


BUILTINS: Mapping[str, Builtin] = {
    builtin.name: builtin
    for builtin in (
        Builtin("end_call", "Ends the call.", NoSettings, "protocol", _offer_end),
        Builtin("current_time", "Tells date and time.", ClockSettings, "server", _offer_clock, _check_zone),
        Builtin(
            "transfer_call", "Transfers the caller.", TransferSettings, "transport", _offer_transfer,
            _check_destinations,
        ),
        Builtin("send_dtmf", "Presses keys of the telephone.", NoSettings, "transport", _offer_dtmf),
        Builtin(
            "collect", "Collects and confirms what an agent must know.", CollectSettings, "server", _offer_collect,
            _check_collect,
        ),
    )
}  # fmt: skip


def find_fault(ref: JsonObject) -> str:
    """Why an agent's reference cannot be used; empty when it can."""
    try:
        make_tool(ref)
    except BuiltinInvalid as error:
        return f"{error.param}: {error.message}" if error.param else error.message
    return ""


def make_tool(ref: JsonObject, *, time_zone: str = "UTC") -> ToolSpec:
    """A reference of an agent as the tool that a call runs; ``time_zone`` is the agent's. Raises BuiltinInvalid."""
    builtin = BUILTINS.get(ref.get("name", ""))
    if builtin is None:
        raise BuiltinInvalid(f"{ref.get('name')!r} is no built-in tool; there are {', '.join(BUILTINS)}.")
    written = {name: value for name, value in ref.items() if name not in ("type", "name", "definition")}
    try:
        settings = msgspec.convert(written, builtin.settings)
    except msgspec.ValidationError as error:
        words, _, place = str(error).partition(" - at `$.")
        raise BuiltinInvalid(f"{words}.", place.removesuffix("`")) from error
    builtin.check(settings)
    if isinstance(settings, ClockSettings) and not settings.time_zone:
        settings = ClockSettings(time_zone)
    offer = builtin.offer(settings)
    return ToolSpec(
        name=offer.name,
        description=offer.description,
        parameters=offer.parameters,
        kind="builtin",
        server_label=LABEL,
        config=settings,
    )


def transfer_target(tool: ToolSpec, arguments: JsonObject) -> str:
    """Where to transfer to: a telephone number in E.164, or a SIP address. Raises ArgumentsInvalid."""
    settings: TransferSettings = tool.config
    name = arguments.get("destination")
    destination = settings.destinations.get(name) if isinstance(name, str) else None
    if destination is None:
        raise ArgumentsInvalid(f"There is no destination {name!r}; there are {', '.join(settings.destinations)}.")
    if destination.to.startswith("sip"):
        return destination.to
    return str(phonenumbers.format_number(phonenumbers.parse(destination.to), phonenumbers.PhoneNumberFormat.E164))


def run_builtin(
    tool: ToolSpec, arguments: JsonObject, context: ToolContext, now: Callable[[ZoneInfo], datetime] = datetime.now
) -> Outcome:
    """Those that are done here; ``arguments`` fit the tool's parameters. Quick, and raises nothing."""
    if isinstance(tool.config, ClockSettings):
        return _tell_time(tool.config, arguments, now)
    if isinstance(tool.config, CollectSettings):
        return _collect(tool.config, arguments, context)
    return failure(f"{tool.name} cannot be done on this call.", outcome="refused")


def _tell_time(settings: ClockSettings, arguments: JsonObject, now: Callable[[ZoneInfo], datetime]) -> Outcome:
    wanted = arguments.get("time_zone") or settings.time_zone
    if wanted not in _zones():
        return failure(f"{wanted!r} is no time zone; give an IANA name such as Europe/Paris.", outcome="refused")
    moment = now(ZoneInfo(wanted))
    told = {
        "date": f"{moment:%Y-%m-%d}", "weekday": f"{moment:%A}", "time": f"{moment:%H:%M}", "time_zone": wanted,
    }  # fmt: skip
    return Outcome(_json(told), answered=told)


def _collect(settings: CollectSettings, arguments: JsonObject, context: ToolContext) -> Outcome:
    values = {name: value for name, value in arguments.items() if name != "confirmed" and value not in (None, "")}
    forms: dict[str, Any] = context.memory.setdefault(COLLECTED, {})
    before = forms.get(settings.form, {})
    required = settings.fields if settings.required is None else settings.required
    missing = [name for name in required if name not in values]
    problems = find_problems(values, {"type": "object", "properties": settings.fields})
    if problems or missing:
        status, words = "incomplete", "Ask the caller for what is missing or wrong, then call again with all values."
    elif not settings.confirm:
        status, words = "done", "Noted."
    elif arguments.get("confirmed") is True and before.get("values") == values:
        status, words = "done", "Noted, as the caller has confirmed."
    else:
        status = "to_confirm"
        words = (
            "Read these values back to the caller, word for word, and ask whether they are right. When the caller "
            "agrees, call again with the same values and confirmed true; when not, with the corrected ones."
        )
    # What was done stays done until other values are.
    if status != "incomplete" and not (before.get("status") == "done" and before["values"] == values):
        forms[settings.form] = {"values": values, "status": status}
    told = {"form": settings.form, "status": status, "values": values, "missing": missing, "problems": problems}
    told = {name: part for name, part in told.items() if part}
    return Outcome(_json({**told, "next": words}), answered=told)


@lru_cache(maxsize=1)
def _zones() -> frozenset[str]:
    return frozenset(available_timezones())


def _json(value: JsonObject) -> str:
    return msgspec.json.encode(value).decode()
