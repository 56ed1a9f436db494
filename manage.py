#!/usr/bin/env python
"""Django's command line for this project."""

import os
import sys

MIGRATIONS = {"migrate", "migrate_schemas", "migrate_tenants"}

REFUSED = {
    "create_tenant": "make a tenant with ./avb tenant create",
    "delete_tenant": "delete a tenant with ./avb tenant delete",
    "rename_schema": "a tenant keeps its schema; PATCH /api/v1/tenants/{slug}/ changes its name",
    "clone_tenant": "a tenant's rows are not copied; make a new one with ./avb tenant create",
    "create_missing_schemas": "go on with a tenant that stands still with ./avb tenant retry",
    "create_tenant_superuser": "make an operator with ./avb people operator, a member with ./avb people add",
    "create_domain": "PATCH /api/v1/tenants/{slug}/ and the admin change 'domains'",
    "delete_domain": "PATCH /api/v1/tenants/{slug}/ and the admin change 'domains'",
}
"""Of django-tenants: they know nothing of progress, the audit log, erasers and the certificate."""


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "agentvoicebox.settings")
    os.environ.setdefault("AVB_SERVICE", "manage")
    # One command uses one connection; a pool is for the gateway's threads.
    os.environ.setdefault("AVB_POSTGRES_POOL_SIZE", "0")
    if sys.argv[1:2] and (instead := REFUSED.get(sys.argv[1])):
        sys.exit(f"{sys.argv[1]} would pass by the audit log; {instead}")
    if MIGRATIONS.intersection(sys.argv[1:2]):
        # Building an index on a large table may rightly take longer than any request.
        os.environ["AVB_POSTGRES_WRITE_TIMEOUT_MS"] = "0"
    from django.core.management import execute_from_command_line

    execute_from_command_line(sys.argv)


if __name__ == "__main__":
    main()
