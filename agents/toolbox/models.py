"""A tenant's tools, the MCP servers it uses, and the credentials of both."""
