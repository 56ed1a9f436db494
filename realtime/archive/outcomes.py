"""What came of the agent versions of a call, as ``agents.trials`` keeps it."""

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta

from agents.trials.models import CallOutcome
from realtime.archive.events import AnyArchiveEvent, CallEnded, CallStarted
from realtime.archive.text import clean


def outcomes_of(events: Iterable[AnyArchiveEvent]) -> Iterator[CallOutcome]:
    for event in events:
        at = datetime.fromtimestamp(event.at, UTC)
        match event:
            case CallStarted():
                yield CallOutcome(
                    session_id=clean(event.session_id),
                    agent=clean(event.agent),
                    version=event.agent_version,
                    trial=clean(event.trial),
                    started_at=at,
                )
            case CallEnded():
                for outcome in event.outcomes:
                    yield CallOutcome(
                        session_id=clean(event.session_id),
                        agent=clean(outcome.agent),
                        version=outcome.agent_version,
                        trial=clean(outcome.trial),
                        seq=event.seq,
                        failed=outcome.failed,
                        hung_up=outcome.hung_up,
                        turns=outcome.turns,
                        answers=outcome.answers,
                        duration_s=event.duration_s,
                        end_reason=clean(event.reason),
                        # One that joined later is counted from the call's begin too: nobody else is known to it.
                        started_at=at - timedelta(seconds=event.duration_s),
                        ended_at=at,
                    )
