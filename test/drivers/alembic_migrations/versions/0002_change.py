"""Add a column, fill it and constrain it, in one transaction; then an index outside of one."""

import sqlalchemy as sa
from alembic import context, op

revision = "0002"
down_revision = "0001"


def upgrade():
    table = context.config.attributes["table"]
    op.add_column(table, sa.Column("length", sa.Integer))
    op.execute(f"UPDATE {table} SET length = length(words)")
    op.alter_column(table, "length", nullable=False)
    op.create_check_constraint(f"{table}_length", table, "length >= 0")
    with op.get_context().autocommit_block():
        op.create_index(f"{table}_words", table, ["words"], postgresql_concurrently=True)


def downgrade():
    table = context.config.attributes["table"]
    op.drop_index(f"{table}_words")
    op.drop_column(table, "length")
