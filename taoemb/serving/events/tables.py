"""The tables that a rollout is measured on and kept in, the same in PostgreSQL and in SQLite.

Rows of `pages`, `units`, `events`, `closings` and `grades` are written once and never changed: whoever measures again
measures the same. `number` is the order of arrival in the database: rows with a higher one never become visible before
rows with a lower one, so that a reader may go on after the last number that it saw. It is set by
`taoemb.serving.events.insert`.

Migrations (Alembic) bring a database to this state; `tests/serving/test_events_migrations.py` holds the two to each
other.
"""

from sqlalchemy import JSON, BigInteger, Boolean, Column, Double, Index, Integer, MetaData, String, Table, Text

from taoemb.limits import EVENT_ID_CHARACTERS, ID_BYTES, UNIT_CHARACTERS

metadata = MetaData()

pages = Table(
    "pages",
    metadata,
    Column("request_id", String(EVENT_ID_CHARACTERS), primary_key=True),
    Column("at", Double, nullable=False, comment="Unix seconds when the search came in"),
    Column("rollout", String(253), nullable=False, comment="empty: no rollout ran"),
    Column("unit", String(UNIT_CHARACTERS), nullable=False, comment="user or session"),
    Column("assigned", String(16), nullable=False, comment="control or candidate, by hash"),
    Column("served", String(16), nullable=False, comment="control, candidate, interleaved, or none (an error)"),
    Column("forced", Boolean, nullable=False, comment="a tester chose the arm: not measured"),
    Column("percent", Double, nullable=False, comment="the candidate's share when the page was assigned, 0 to 100"),
    Column("query", Text, nullable=False),
    Column("k", Integer, nullable=False),
    Column("filter", Text, nullable=False),
    Column("release", String(64), nullable=False, comment="digest in the encoder's reply; empty: error, interleaved"),
    Column("collection", String(255), nullable=False, comment="the collection that was searched"),
    Column("status", String(16), nullable=False, comment="ok, empty or error"),
    Column("total_ms", Double, nullable=False),
    Column("encoder_ms", Double, nullable=False),
    Column("search_ms", Double, nullable=False),
    Column("number", BigInteger, nullable=False, comment="order of arrival"),
    Column("arrived", Double, nullable=True, comment="Unix seconds by the database's clock"),
    Column(
        "items",
        JSON,
        nullable=False,
        comment="as served: item_id, score, title, brand, category, price; interleaved: also team",
    ),
    Index("pages_by_number", "number", unique=True),
    Index("pages_by_rollout", "rollout", "number"),
)

units = Table(
    "units",
    metadata,
    Column("rollout", String(253), primary_key=True),
    Column("unit", String(UNIT_CHARACTERS), primary_key=True),
    Column(
        "request_id", String(EVENT_ID_CHARACTERS), nullable=False, comment="the unit's first page that was not forced"
    ),
    Column("number", BigInteger, nullable=False, comment="that page's number"),
    Index("units_by_rollout", "rollout", "number"),
)

events = Table(
    "events",
    metadata,
    Column(
        "event_id",
        String(EVENT_ID_CHARACTERS),
        primary_key=True,
        comment="the sender's, so that a repeated event counts once",
    ),
    Column("request_id", String(EVENT_ID_CHARACTERS), nullable=False, comment="the page it happened on"),
    Column("type", String(16), nullable=False, comment="impression, click, add_to_cart or purchase"),
    Column("item_id", String(ID_BYTES), nullable=True),
    Column("position", Integer, nullable=True, comment="place on the page, from 1"),
    Column("value", Double, nullable=True, comment="e.g. the purchase's price"),
    Column("at", Double, nullable=False, comment="Unix seconds"),
    Column("number", BigInteger, nullable=False, comment="order of arrival"),
    Index("events_by_number", "number", unique=True),
    Index("events_by_page", "request_id"),
)

closings = Table(
    "closings",
    metadata,
    Column("rollout", String(253), primary_key=True),
    Column("pages_from", BigInteger, nullable=False, comment="the last page's number before these"),
    Column("pages_to", BigInteger, primary_key=True, comment="the last page's number of these"),
    Column("events_to", BigInteger, nullable=False, comment="the last event's number that counts for them"),
)

grades = Table(
    "grades",
    metadata,
    Column("request_id", String(EVENT_ID_CHARACTERS), primary_key=True),
    Column("source", String(128), primary_key=True, comment="the judge's digest, or human:NAME"),
    Column("relevance", JSON, nullable=False, comment="[0, 1] of each graded item from the top; null: unanswered"),
    Column("at", Double, nullable=False),
)

rollouts = Table(
    "rollouts",
    metadata,
    Column("name", String(253), primary_key=True),
    Column("plan", JSON, nullable=False),
    Column("state", JSON, nullable=False),
    Column("version", Integer, nullable=False, comment="grows by one with each write; a stale writer is refused"),
    Column("at", Double, nullable=False),
)

decisions = Table(
    "decisions",
    metadata,
    Column("number", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("rollout", String(253), nullable=False),
    Column("at", Double, nullable=False),
    Column("verdict", JSON, nullable=False, comment="outcome and reasons (taoemb.rollout.verdict.Verdict)"),
    Column(
        "measurement",
        JSON,
        nullable=False,
        comment="what it was decided on (taoemb.rollout.measurement.measured)",
    ),
    Index("decisions_by_rollout", "rollout", "number"),
)
