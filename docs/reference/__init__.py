"""Generates ``docs/realtime.md`` (its tables) and ``docs/asyncapi.yaml`` from the protocol's own tables and types.

    python -m docs.reference

The product never imports this.
"""
