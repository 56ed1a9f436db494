"""Several who publish at once, each in a transaction of their own."""

from concurrent.futures import ThreadPoolExecutor

from django.db import connection, transaction
from django_tenants.utils import tenant_context

from agents.models import AgentVersion
from agents.operations import publish_agent, roll_back_agent, update_agent
from agents.queries import find_agent
from tests.record.world import World

PUBLISHERS = 8


def test_each_publisher_gets_a_number_of_their_own(committed: World) -> None:
    tenant = committed.alpha.tenant

    def publish(number: int) -> int:
        try:
            with tenant_context(tenant), transaction.atomic():
                agent = find_agent("alpha-desk")
                update_agent(agent=agent, instructions=f"By {number}.")
                return publish_agent(agent=agent, note=str(number)).number
        finally:
            connection.close()

    with ThreadPoolExecutor(PUBLISHERS) as pool:
        numbers = list(pool.map(publish, range(PUBLISHERS)))
    assert sorted(numbers) == list(range(2, PUBLISHERS + 2))
    with tenant_context(tenant), transaction.atomic():
        agent = find_agent("alpha-desk")
        assert agent.live is not None
        assert agent.standby is not None
        assert (agent.live.number, agent.standby.number) == (PUBLISHERS + 1, PUBLISHERS)
        # What each published is what each wrote: the row is held from the change on.
        for version in AgentVersion.objects.filter(agent=agent, number__gt=1):
            assert version.definition["instructions"] == f"By {version.note}."


def test_rollbacks_at_once_each_go_one_step(committed: World) -> None:
    tenant = committed.alpha.tenant
    with tenant_context(tenant), transaction.atomic():
        publish_agent(agent=find_agent("alpha-desk"))

    def roll_back(_: int) -> int | None:
        try:
            with tenant_context(tenant), transaction.atomic():
                live = roll_back_agent(agent=find_agent("alpha-desk")).live
                return live and live.number
        finally:
            connection.close()

    with ThreadPoolExecutor(4) as pool:
        assert sorted(pool.map(roll_back, range(4))) == [1, 1, 2, 2]
