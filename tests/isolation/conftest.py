"""The two tenants that these tests share."""

import pytest

from tenants.lifecycle.platform_keys import issue_platform_key
from tenants.permissions import PLATFORM_SCOPES
from tests.record.world import World, _committed_world, alpha_api, beta_api, committed, world

__all__ = ["_committed_world", "alpha_api", "beta_api", "committed", "world"]


@pytest.fixture
def operator_key(world: World) -> str:
    """The secret of a platform operator's key that may do everything on the platform."""
    _, secret = issue_platform_key(name="walk", scopes=sorted(PLATFORM_SCOPES))
    return secret
