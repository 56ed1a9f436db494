#!/usr/bin/env python
"""Django's command line for this project."""

import os
import sys

MIGRATIONS = {"migrate", "migrate_schemas", "migrate_tenants"}


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "agentvoicebox.settings")
    os.environ.setdefault("AVB_SERVICE", "manage")
    # One command uses one connection; a pool is for the gateway's threads.
    os.environ.setdefault("AVB_POSTGRES_POOL_SIZE", "0")
    if MIGRATIONS.intersection(sys.argv[1:2]):
        # Building an index on a large table may rightly take longer than any request.
        os.environ["AVB_POSTGRES_WRITE_TIMEOUT_MS"] = "0"
    from django.core.management import execute_from_command_line

    execute_from_command_line(sys.argv)


if __name__ == "__main__":
    main()
