"""A tenant's own ways to language models."""
