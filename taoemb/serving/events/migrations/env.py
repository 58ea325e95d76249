"""Alembic's entry point. `serving.events.migrate` hands over an open connection in a transaction that it commits."""

from alembic import context

from taoemb.serving.events.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    render_as_batch=True,  # SQLite alters a table by copying it
    compare_type=True,
)
context.run_migrations()
