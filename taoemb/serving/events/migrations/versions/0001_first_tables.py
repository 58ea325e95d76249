"""The tables of the first version."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "decisions",
        sa.Column("number", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("rollout", sa.String(length=253), nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.Column("verdict", sa.JSON(), nullable=False, comment="outcome and reasons (taoemb.rollout.verdict.Verdict)"),
        sa.Column(
            "measurement",
            sa.JSON(),
            nullable=False,
            comment="what it was decided on (taoemb.rollout.measurement.measured)",
        ),
        sa.PrimaryKeyConstraint("number"),
    )
    op.create_index("decisions_by_rollout", "decisions", ["rollout", "number"], unique=False)
    op.create_table(
        "events",
        sa.Column(
            "event_id",
            sa.String(length=64),
            nullable=False,
            comment="the sender's, so that a repeated event counts once",
        ),
        sa.Column("request_id", sa.String(length=64), nullable=False, comment="the page it happened on"),
        sa.Column("type", sa.String(length=16), nullable=False, comment="impression, click, add_to_cart or purchase"),
        sa.Column("item_id", sa.String(length=256), nullable=True),
        sa.Column("position", sa.Integer(), nullable=True, comment="place on the page, from 1"),
        sa.Column("value", sa.Double(), nullable=True, comment="e.g. the purchase's price"),
        sa.Column("at", sa.Double(), nullable=False, comment="Unix seconds"),
        sa.Column("number", sa.BigInteger(), nullable=False, comment="order of arrival"),
        sa.PrimaryKeyConstraint("event_id"),
    )
    op.create_index("events_by_number", "events", ["number"], unique=True)
    op.create_index("events_by_page", "events", ["request_id"], unique=False)
    op.create_table(
        "grades",
        sa.Column("request_id", sa.String(length=64), nullable=False),
        sa.Column("source", sa.String(length=128), nullable=False, comment="the judge's digest, or human:NAME"),
        sa.Column(
            "relevance", sa.JSON(), nullable=False, comment="[0, 1] of each graded item from the top; null: unanswered"
        ),
        sa.Column("at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("request_id", "source"),
    )
    op.create_table(
        "pages",
        sa.Column("request_id", sa.String(length=64), nullable=False),
        sa.Column("at", sa.Double(), nullable=False, comment="Unix seconds when the search came in"),
        sa.Column("rollout", sa.String(length=253), nullable=False, comment="empty: no rollout ran"),
        sa.Column("unit", sa.String(length=256), nullable=False, comment="user or session"),
        sa.Column("assigned", sa.String(length=16), nullable=False, comment="control or candidate, by hash"),
        sa.Column(
            "served",
            sa.String(length=16),
            nullable=False,
            comment="control, candidate, interleaved, or none (an error)",
        ),
        sa.Column("forced", sa.Boolean(), nullable=False, comment="a tester chose the arm: not measured"),
        sa.Column(
            "percent", sa.Double(), nullable=False, comment="the candidate's share when the page was assigned, 0 to 100"
        ),
        sa.Column("query", sa.Text(), nullable=False),
        sa.Column("k", sa.Integer(), nullable=False),
        sa.Column("filter", sa.Text(), nullable=False),
        sa.Column(
            "release",
            sa.String(length=64),
            nullable=False,
            comment="digest in the encoder's reply; empty: error, interleaved",
        ),
        sa.Column("collection", sa.String(length=255), nullable=False, comment="the collection that was searched"),
        sa.Column("status", sa.String(length=16), nullable=False, comment="ok, empty or error"),
        sa.Column("total_ms", sa.Double(), nullable=False),
        sa.Column("encoder_ms", sa.Double(), nullable=False),
        sa.Column("search_ms", sa.Double(), nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False, comment="order of arrival"),
        sa.Column(
            "items",
            sa.JSON(),
            nullable=False,
            comment="as served: item_id, score, title, brand, category, price; interleaved: also team",
        ),
        sa.PrimaryKeyConstraint("request_id"),
    )
    op.create_index("pages_by_number", "pages", ["number"], unique=True)
    op.create_index("pages_by_rollout", "pages", ["rollout", "number"], unique=False)
    op.create_table(
        "rollouts",
        sa.Column("name", sa.String(length=253), nullable=False),
        sa.Column("plan", sa.JSON(), nullable=False),
        sa.Column("state", sa.JSON(), nullable=False),
        sa.Column(
            "version", sa.Integer(), nullable=False, comment="grows by one with each write; a stale writer is refused"
        ),
        sa.Column("at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )
    op.create_table(
        "units",
        sa.Column("rollout", sa.String(length=253), nullable=False),
        sa.Column("unit", sa.String(length=256), nullable=False),
        sa.Column(
            "request_id", sa.String(length=64), nullable=False, comment="the unit's first page that was not forced"
        ),
        sa.Column("number", sa.BigInteger(), nullable=False, comment="that page's number"),
        sa.PrimaryKeyConstraint("rollout", "unit"),
    )
    op.create_index("units_by_rollout", "units", ["rollout", "number"], unique=False)
