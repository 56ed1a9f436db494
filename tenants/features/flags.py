"""The features that operators may turn on and off, for the platform and for single tenants.

A flag is known here, in code, or it does not exist: who removes the last use of one removes it here too.
"""

from django.db.models import TextChoices


class Feature(TextChoices):
    """Each with what it is about, for the operator who turns it off."""

    REALTIME_BETA = "realtime_beta", "Clients may speak the beta dialect of the Realtime API"
    RELEASE_WATCH = "release_watch", "A version that is worse than the one before it is taken back"
    SERVER_TOOLS = "server_tools", "Agents use their HTTP, MCP and Python tools; built-in ones they always may"


DEFAULTS = {
    Feature.REALTIME_BETA: True,
    Feature.RELEASE_WATCH: True,
    Feature.SERVER_TOOLS: True,
}
"""What holds where no operator has said otherwise."""
