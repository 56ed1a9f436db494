"""The command line, ``./avb``: one module per command, each with a ``command``."""
