"""Databases for tests of serving."""

from tests.serving.postgres import database, postgres, postgres_server

__all__ = ["database", "postgres", "postgres_server"]
