"""What comes of each agent version that takes part in a call, counted while it happens."""

import msgspec

from agents.spec import AgentSpec
from realtime.archive.events import Outcome


class Tally:
    """In the order in which they took part; ``agent`` began the call."""

    def __init__(self, agent: AgentSpec) -> None:
        self._by_version: dict[tuple[str, int], Outcome] = {}
        self.see(agent)

    def see(self, agent: AgentSpec) -> None:
        """It takes part from now on."""
        self._by_version.setdefault(
            (agent.slug, agent.version), Outcome(agent=agent.slug, agent_version=agent.version, trial=agent.trial)
        )

    def turn(self, agent: AgentSpec) -> None:
        known = self._of(agent)
        self._keep(agent, msgspec.structs.replace(known, turns=known.turns + 1))

    def answered(self, agent: AgentSpec) -> None:
        known = self._of(agent)
        self._keep(agent, msgspec.structs.replace(known, answers=known.answers + 1))

    def failed(self, agent: AgentSpec) -> None:
        self._keep(agent, msgspec.structs.replace(self._of(agent), failed=True))

    def hung_up(self, agent: AgentSpec) -> None:
        self._keep(agent, msgspec.structs.replace(self._of(agent), hung_up=True))

    @property
    def answers(self) -> int:
        return sum(outcome.answers for outcome in self._by_version.values())

    def outcomes(self) -> tuple[Outcome, ...]:
        return tuple(self._by_version.values())

    def _of(self, agent: AgentSpec) -> Outcome:
        self.see(agent)
        return self._by_version[agent.slug, agent.version]

    def _keep(self, agent: AgentSpec, outcome: Outcome) -> None:
        self._by_version[agent.slug, agent.version] = outcome
