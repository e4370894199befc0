"""Create the table."""

import sqlalchemy as sa
from alembic import context, op

revision = "0001"
down_revision = None


def upgrade():
    table = context.config.attributes["table"]
    op.create_table(
        table,
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("words", sa.Text, nullable=False),
    )
    op.bulk_insert(sa.table(table, sa.column("id"), sa.column("words")), [{"id": n, "words": f"row {n}"} for n in range(100)])


def downgrade():
    op.drop_table(context.config.attributes["table"])
