"""Is a log whole? Every entry is read in its order, a thousand at a time, and held against its hash and the entry
before; where the log ended earlier is held against what the platform's log keeps of it (its anchors), for a tail that
was cut off leaves a chain that is whole.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal

from django.db import transaction
from django.utils import timezone
from django_tenants.utils import get_public_schema_name, schema_context

from tenants.audit import chain
from tenants.audit.models import Entry
from tenants.audit.operations import record

ANCHORED = "audit.anchored"
READ_ENTRIES = 1_000


@dataclass(frozen=True, slots=True)
class Head:
    """Where a log ends. ``seq`` 0: it is empty."""

    seq: int
    hash: str


EMPTY = Head(0, chain.FIRST)


@dataclass(frozen=True, slots=True)
class Break:
    """``seq`` is the first entry that is not as it was written. ``kind``:

    changed (a field is another), removed (it is not there), inserted (no entry was ever written there), replaced (whole
    by itself, but not what its neighbour or its anchor saw), cut (it and all behind it are gone).
    """

    seq: int
    kind: Literal["changed", "removed", "inserted", "replaced", "cut"]


@dataclass(frozen=True, slots=True)
class Verdict:
    """``entries`` were read; ``head`` is the last of them, or the last that was whole."""

    schema: str
    entries: int
    head: Head
    broken: Break | None = None


def verify(schema: str, *, known_heads: Mapping[str, Head] | None = None) -> Verdict:
    """Read a log from its first entry on. ``known_heads``: where logs ended once, kept outside of the database; the
    platform's own log has no other anchor."""
    anchors = dict(_anchors(schema))
    if known_heads and schema in known_heads:
        anchors[known_heads[schema].seq] = known_heads[schema].hash
    head, count = EMPTY, 0
    for entry in _entries(schema):
        count += 1
        kind = _fault(entry, head, anchors)
        if kind is not None:
            seq = head.seq + 1 if kind == "removed" else entry.seq
            return Verdict(schema, count, head, Break(seq, kind))
        head = Head(entry.seq, entry.hash)
    if max(anchors, default=0) > head.seq:
        return Verdict(schema, count, head, Break(head.seq + 1, "cut"))
    return Verdict(schema, count, head)


def _fault(
    entry: Entry, head: Head, anchors: Mapping[int, str]
) -> Literal["changed", "removed", "inserted", "replaced"] | None:
    if entry.seq > head.seq + 1:
        return "removed"
    if entry.seq <= head.seq:
        return "inserted"
    if entry.hash != chain.digest(entry):
        return "changed"
    if entry.previous_hash != head.hash or anchors.get(entry.seq, entry.hash) != entry.hash:
        return "replaced"
    return None


def _entries(schema: str) -> Iterator[Entry]:
    """By their numbers, page by page: memory holds one page, and no transaction lasts long."""
    after: int | None = None
    while True:
        with schema_context(schema), transaction.atomic():
            found = Entry.objects.order_by("seq")
            page = list(found.filter(seq__gt=after)[:READ_ENTRIES] if after is not None else found[:READ_ENTRIES])
        yield from page
        if len(page) < READ_ENTRIES:
            return
        after = page[-1].seq


def _anchors(schema: str) -> Iterator[tuple[int, str]]:
    public = get_public_schema_name()
    if schema == public:
        return
    with schema_context(public), transaction.atomic():
        kept = Entry.objects.filter(action=ANCHORED, target=schema).values_list("after", flat=True)
        for after in kept.iterator(READ_ENTRIES):
            yield int(after["seq"]), str(after["hash"])


@transaction.atomic
def anchor(schema: str, *, every: timedelta = timedelta(0)) -> Head | None:
    """Write into the platform's log where this one ends, unless that is written there already, or something was less
    than ``every`` ago. Gives the head where it was new."""
    public = get_public_schema_name()
    if schema == public:
        return None
    with schema_context(schema):
        last = Entry.objects.only("seq", "hash").order_by("-seq").first()
    if last is None:
        return None
    with schema_context(public):
        known = Entry.objects.filter(action=ANCHORED, target=schema).order_by("-seq").first()
        if known is not None and (known.after["seq"] >= last.seq or known.at > timezone.now() - every):
            return None
        record(action=ANCHORED, target=schema, after={"seq": last.seq, "hash": last.hash})
    return Head(last.seq, last.hash)


def verify_and_anchor(schema: str, *, known_heads: Mapping[str, Head] | None = None) -> Verdict:
    """A log that is whole is anchored where it ends now; one that is not is left as it is."""
    verdict = verify(schema, known_heads=known_heads)
    if verdict.broken is None:
        anchor(schema)
    return verdict
