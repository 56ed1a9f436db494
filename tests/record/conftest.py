"""The two tenants that these tests share."""

from tests.record.world import _committed_world, alpha_api, beta_api, committed, world

__all__ = ["_committed_world", "alpha_api", "beta_api", "committed", "world"]
