"""When a page arrived by the database's clock, and which events were there when pages were closed."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "pages",
        sa.Column("arrived", sa.Double(), nullable=True, comment="Unix seconds by the database's clock"),
    )
    op.create_table(
        "closings",
        sa.Column("rollout", sa.String(length=253), nullable=False),
        sa.Column("pages_from", sa.BigInteger(), nullable=False, comment="the last page's number before these"),
        sa.Column("pages_to", sa.BigInteger(), nullable=False, comment="the last page's number of these"),
        sa.Column("events_to", sa.BigInteger(), nullable=False, comment="the last event's number that counts for them"),
        sa.PrimaryKeyConstraint("rollout", "pages_to"),
    )
