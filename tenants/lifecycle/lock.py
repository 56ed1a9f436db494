"""One process at a time works on one tenant's schema."""

from collections.abc import Iterator
from contextlib import contextmanager

from django.db import DatabaseError, InterfaceError, connection


class Busy(Exception):
    """Another process is at this tenant."""

    def __init__(self, schema_name: str) -> None:
        super().__init__(f"Another process is working on {schema_name!r} at the moment.")


@contextmanager
def holding(schema_name: str) -> Iterator[None]:
    """Raises Busy. Inside, statements have no time limit.

    An advisory lock of the very connection that does the work: it ends with that connection, so that nothing of a
    killed process is still at the schema when the next one gets the lock. Behind a pooler this needs a connection of
    its own per client (session pooling).
    """
    name = f"lifecycle:{schema_name}"
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_lock(hashtextextended(%s, 0))", [name])
        if not cursor.fetchone()[0]:
            raise Busy(schema_name)
    try:
        with connection.cursor() as cursor:
            cursor.execute("SET statement_timeout = 0")
        yield
    finally:
        try:
            with connection.cursor() as cursor:
                cursor.execute("RESET statement_timeout")
                cursor.execute("SELECT pg_advisory_unlock(hashtextextended(%s, 0))", [name])
        except (DatabaseError, InterfaceError):
            # A broken connection has no lock any more. One in a failed transaction gives it up by being closed, really
            # closed: a pool that merely takes it back would hand it to the next with the lock still on.
            if connection.connection is not None:
                connection.connection.close()
            connection.close()
