"""Fail behind changes, which must be undone."""

import sqlalchemy as sa
from alembic import context, op

revision = "0003"
down_revision = "0002"


def upgrade():
    table = context.config.attributes["table"]
    op.add_column(table, sa.Column("never", sa.Integer))
    op.execute(f"INSERT INTO {table} (id, words, length) VALUES (1, 'twice', 5)")


def downgrade():
    pass
