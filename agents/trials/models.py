"""A/B trials between versions of an agent, and what came of each call."""
