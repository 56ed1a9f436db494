"""What of a fault is reported to Sentry: where it happened, and nothing of what anybody sent or said.

Sentry's SDK leaves out what it takes for personal data. It does not know that bodies here are what callers say, that a
header names an end user and another one is an API key, or that an invitation's address is a secret.
"""

from typing import Any

from speech.logs import redact

KEPT_OF_REQUEST = ("method",)
TEXTS = ("message", "formatted")


def strip(event: Any, _hint: Any = None) -> Any:
    """The event without the request but its method, and without secrets and addresses in its words."""
    if "request" in event:
        event["request"] = {name: event["request"][name] for name in KEPT_OF_REQUEST if name in event["request"]}
    event.pop("user", None)
    event.pop("extra", None)
    for fault in (event.get("exception") or {}).get("values") or ():
        fault["value"] = redact(str(fault.get("value") or ""))
    entry = event.get("logentry") or {}
    entry.pop("params", None)
    for words in (event, entry, *((event.get("breadcrumbs") or {}).get("values") or ())):
        for name in TEXTS:
            if isinstance(words.get(name), str):
                words[name] = redact(words[name])
    return event
