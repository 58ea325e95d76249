"""An event's item id may be as long as an id of the catalogue."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("events") as events:
        events.alter_column(
            "item_id", existing_type=sa.String(length=256), type_=sa.String(length=512), existing_nullable=True
        )
