#!/usr/bin/env python3
"""Migrates a schema with alembic, forth and back, on psycopg 3 and psycopg2. See check.py.

While it does, other connections read the table: what they have prepared changes under them.
"""

import os.path

import alembic.command
import alembic.config
import sqlalchemy as sa

import check
from check import expect, expect_error

table = check.unique("alembic_items")


def migrate(engine, command, revision):
    config = alembic.config.Config()
    config.set_main_option("script_location", os.path.join(os.path.dirname(os.path.abspath(__file__)), "alembic_migrations"))
    config.set_main_option("path_separator", "os")
    with engine.connect() as conn:
        config.attributes.update(connection=conn, table=table, version_table=f"{table}_version")
        command(config, revision)


def revision(conn):
    found = conn.scalar(sa.text(f"SELECT version_num FROM {table}_version"))
    conn.commit()
    return found


def columns(conn):
    """Runs one text often enough to be prepared, and reads what it returns now."""
    for _ in range(8):
        with conn.begin():
            row = conn.execute(sa.text(f"SELECT * FROM {table} WHERE id = :id"), {"id": 7}).mappings().one()
    return dict(row)


def forth_and_back(engine, reader):
    migrate(engine, alembic.command.upgrade, "0001")
    expect("first revision", (revision(reader), columns(reader)), ("0001", {"id": 7, "words": "row 7"}))
    migrate(engine, alembic.command.upgrade, "0002")
    expect("second revision", revision(reader), "0002")
    try:
        got = columns(reader)
    except sa.exc.DBAPIError as error:  # as on a direct connection: the plan is stale, the next try is not
        expect("stale plan", check.sqlstate(error), "0A000")
        got = columns(reader)
    expect("its columns", got, {"id": 7, "words": "row 7", "length": 5})
    indexes = [index["name"] for index in sa.inspect(engine).get_indexes(table)]
    expect("index made concurrently", indexes, [f"{table}_words"])
    expect_error("a migration that fails", "23505", lambda: migrate(engine, alembic.command.upgrade, "head"))
    expect("is undone", (revision(reader), "never" in columns(reader)), ("0002", False))
    migrate(engine, alembic.command.downgrade, "base")
    with engine.connect() as conn:
        expect("all undone", sa.inspect(conn).has_table(table), False)


def main(url):
    for driver in ("psycopg", "psycopg2"):
        engine = sa.create_engine(check.with_scheme(url, f"postgresql+{driver}"))
        try:
            with engine.connect() as reader:
                forth_and_back(engine, reader)
        finally:
            with engine.begin() as conn:
                conn.execute(sa.text(f"DROP TABLE IF EXISTS {table}, {table}_version"))
            engine.dispose()


check.main(main)
