"""The embedded stack: PostgreSQL and Valkey from wheels, and the supervisor that runs them with the product."""
