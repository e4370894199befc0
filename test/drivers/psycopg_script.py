#!/usr/bin/env python3
"""Runs what an application does with psycopg 3, with the driver's defaults. See check.py."""

import datetime
import decimal
import secrets
import uuid

import psycopg
from psycopg.types.json import Jsonb

import check
from check import expect, expect_error

items = check.unique("psycopg_items")
copied = check.unique("psycopg_copied")


def scalar(conn, sql, *args, **options):
    return conn.execute(sql, *args, **options).fetchone()[0]


def create(conn):
    conn.execute(
        f"CREATE TABLE {items} (id int PRIMARY KEY, big bigint, words text, at timestamptz, doc jsonb, raw bytea,"
        " numbers int[], names text[], price numeric, yes boolean, id2 uuid, nothing text)"
    )
    conn.execute(f"CREATE TABLE {copied} (id int, words text)")
    conn.commit()


def types(conn):
    at = datetime.datetime(2024, 2, 29, 12, 30, 15, 123456, tzinfo=datetime.timezone.utc)
    row = (
        1, 2**62, "naïve ☃ 'quoted' \\", at, {"a": [1, None, "é"]}, bytes(range(256)),
        [1, None, 3], ["a", 'with "quotes", and, commas', "NULL"], decimal.Decimal("12345678901234567890.123456789"), True, uuid.uuid4(), None,
    )
    placeholders = ", ".join(["%s"] * len(row))
    cur = conn.execute(f"INSERT INTO {items} VALUES ({placeholders})", [Jsonb(v) if isinstance(v, dict) else v for v in row])
    expect("rows inserted", cur.rowcount, 1)
    expect("text results", conn.execute(f"SELECT * FROM {items} WHERE id = %s", [1]).fetchone(), row)
    expect("binary results", conn.execute(f"SELECT * FROM {items} WHERE id = %s", [1], binary=True).fetchone(), row)
    large = secrets.token_bytes(3 << 20)
    expect("3 MiB there and back", scalar(conn, "SELECT %b::bytea", [large], binary=True), large)
    client_side = psycopg.ClientCursor(conn)
    expect("simple protocol", client_side.execute("SELECT %s, %s", ["it's", 7]).fetchall(), [("it's", 7)])
    conn.commit()


def transactions(conn):
    with conn.transaction():
        conn.execute(f"INSERT INTO {items} (id, words) VALUES (2, 'committed')")
    expect("after commit", scalar(conn, f"SELECT words FROM {items} WHERE id = 2"), "committed")
    conn.execute(f"UPDATE {items} SET words = 'never' WHERE id = 2")
    conn.rollback()
    expect("after rollback", scalar(conn, f"SELECT words FROM {items} WHERE id = 2"), "committed")
    with conn.transaction():
        try:
            with conn.transaction():
                conn.execute(f"DELETE FROM {items}")
                raise psycopg.Rollback()
        except psycopg.Rollback:
            pass
    expect("after rollback to a savepoint", scalar(conn, f"SELECT count(*) FROM {items}"), 2)
    conn.rollback()


def prepared(conn):
    """psycopg prepares a statement by itself when it has run five times."""
    conn.autocommit = True
    for n in range(40):
        expect("prepared by itself", scalar(conn, "SELECT %s::int + 1", [n]), n + 1)
    for n in range(20):
        expect("first of two", scalar(conn, "SELECT 'first ' || %s::text", [str(n)], prepare=True), f"first {n}")
        expect("second of two", scalar(conn, "SELECT %s::bigint * 2", [n], prepare=True), n * 2)
    conn.autocommit = False
    for n in range(10):
        expect("in a transaction", scalar(conn, "SELECT %s::int - 1", [n], prepare=True), n - 1)
    conn.commit()
    with conn.cursor() as cur:
        cur.executemany(f"INSERT INTO {items} (id, words) VALUES (%s, %s)", [(n, f"many {n}") for n in range(100, 200)])
    expect("executemany", scalar(conn, f"SELECT count(*) FROM {items} WHERE words LIKE 'many %%'"), 100)
    conn.commit()


def errors(conn):
    expect_error("unique violation", "23505", lambda: conn.execute(f"INSERT INTO {items} (id) VALUES (1)"))
    expect_error("in a failed transaction", "25P02", lambda: conn.execute("SELECT 1"))
    conn.rollback()
    expect("after the error", scalar(conn, "SELECT 1"), 1)
    conn.rollback()
    expect_error("error while rows stream", "22012",
                 lambda: conn.execute("SELECT 1 / (5000 - n) FROM generate_series(1, 10000) n").fetchall())
    conn.rollback()
    expect_error("syntax error", "42601", lambda: conn.execute("SELEC 1"))
    conn.rollback()
    expect("after the errors", scalar(conn, "SELECT %s::text", ["well"]), "well")
    conn.rollback()


def copying(conn):
    with conn.cursor() as cur:
        with cur.copy(f"COPY {copied} FROM STDIN") as copy:
            for n in range(20000):
                copy.write_row((n, f"row\t{n}\n\\"))
        expect("rows copied in", cur.rowcount, 20000)
        with cur.copy(f"COPY (SELECT * FROM {copied} ORDER BY id) TO STDOUT") as copy:
            copy.set_types(["int4", "text"])
            rows = list(copy.rows())
        expect("rows copied out", rows, [(n, f"row\t{n}\n\\") for n in range(20000)])
        with cur.copy(f"COPY {copied} FROM STDIN (FORMAT binary)") as copy:
            copy.set_types(["int4", "text"])
            copy.write_row((20000, "binary"))
    expect("binary copy", scalar(conn, f"SELECT words FROM {copied} WHERE id = 20000"), "binary")
    conn.commit()

    def broken():
        with conn.cursor() as cur, cur.copy(f"COPY {copied} FROM STDIN") as copy:
            copy.write("not a number\tx\n")

    expect_error("error in copy", "22P02", broken)
    conn.rollback()

    def given_up():
        with conn.cursor() as cur, cur.copy(f"COPY {copied} FROM STDIN") as copy:
            copy.write("1\tx\n")
            raise psycopg.errors.QueryCanceled("the application gives up")

    expect_error("copy given up", "57014", given_up)
    conn.rollback()
    expect("after the copies", scalar(conn, f"SELECT count(*) FROM {copied}"), 20001)
    conn.rollback()


def notices(conn):
    heard = []
    conn.add_notice_handler(lambda diag: heard.append((diag.severity, diag.sqlstate, diag.message_primary)))
    conn.execute("DROP TABLE IF EXISTS no_such_table_here")
    expect("notice", heard, [("NOTICE", "00000", 'table "no_such_table_here" does not exist, skipping')])
    conn.rollback()


def streams(conn):
    with conn.cursor() as cur:
        expect("row by row", [n for (n,) in cur.stream("SELECT generate_series(1, %s)", [500])], list(range(1, 501)))
    with conn.cursor(name="walk") as cur:
        cur.execute("SELECT generate_series(1, 1000)")
        expect("server-side cursor", (cur.fetchmany(3), cur.fetchone()), ([(1,), (2,), (3,)], (4,)))
    conn.rollback()


def pipelines(conn):
    with conn.pipeline():
        cursors = [conn.execute("SELECT %s::int", [n]) for n in range(200)]
        conn.execute(f"INSERT INTO {items} (id, words) VALUES (3, 'in a pipeline')")
    expect("pipeline", [cur.fetchone()[0] for cur in cursors], list(range(200)))
    conn.commit()
    expect("written in a pipeline", scalar(conn, f"SELECT words FROM {items} WHERE id = 3"), "in a pipeline")
    conn.rollback()

    def broken():
        with conn.pipeline():
            conn.execute(f"INSERT INTO {items} (id) VALUES (4)")
            conn.execute("SELECT 1 / 0")
            conn.execute(f"INSERT INTO {items} (id) VALUES (5)")

    expect_error("error in a pipeline", "22012", broken)
    conn.rollback()
    expect("after the pipeline", scalar(conn, f"SELECT count(*) FROM {items} WHERE id IN (4, 5)"), 0)
    conn.rollback()


def cancel(conn):
    check.cancel_until_ended(conn.cancel_safe, lambda: conn.execute("SELECT pg_sleep(60)"))
    conn.rollback()
    conn.autocommit = True
    check.alive(lambda: scalar(conn, "SELECT 'alive'"))
    conn.autocommit = False


def code_block(conn):
    heard = []
    conn.add_notice_handler(lambda diag: heard.append((diag.severity, diag.message_primary)))
    conn.execute("DO $$ BEGIN RAISE NOTICE 'heard %', 1; RAISE WARNING 'heard 2'; END $$")
    expect("notices of a code block", heard, [("NOTICE", "heard 1"), ("WARNING", "heard 2")])
    expect("after the code block", scalar(conn, "SELECT %s::int", [1], prepare=True), 1)
    conn.commit()


def two_connections(url):
    """psycopg numbers its statements: the same name means something else on each connection."""
    with psycopg.connect(url, autocommit=True) as first, psycopg.connect(url, autocommit=True) as second:
        for n in range(60):
            expect("first by turns", scalar(first, "SELECT %s::int * 3", [n], prepare=True), n * 3)
            expect("second by turns", scalar(second, "SELECT 'second ' || %s::text", [str(n)], prepare=True), f"second {n}")

        def many(conn, base):
            for n in range(200):
                with conn.transaction():
                    expect("at once", scalar(conn, "SELECT %s::bigint + %s", [base, n], prepare=True), base + n)

        check.at_once(lambda: many(first, 1000), lambda: many(second, 2000))


def two_pipelines(url):
    with psycopg.connect(url, autocommit=True) as first, psycopg.connect(url, autocommit=True) as second:
        with first.pipeline() as one, second.pipeline() as two:
            ours = [first.execute("SELECT %s::int + 1", [n], prepare=True) for n in range(100)]
            theirs = [second.execute("SELECT %s::text || '!'", [str(n)], prepare=True) for n in range(100)]
            one.sync()
            late = [first.execute("SELECT %s::int + 2", [n]) for n in range(20)]
            two.sync()
        expect("first pipeline", [c.fetchone()[0] for c in ours + late], [n + 1 for n in range(100)] + [n + 2 for n in range(20)])
        expect("second pipeline", [c.fetchone()[0] for c in theirs], [f"{n}!" for n in range(100)])


def drop(conn):
    conn.rollback()
    conn.autocommit = False
    conn.execute(f"DROP TABLE IF EXISTS {items}, {copied}")
    conn.commit()


def main(url):
    with psycopg.connect(url) as conn:
        create(conn)
        try:
            for part in (types, transactions, prepared, errors, copying, notices, streams, pipelines, cancel, code_block):
                part(conn)
        finally:
            if not conn.closed:
                drop(conn)
    expect("closed", conn.closed, True)
    two_connections(url)
    two_pipelines(url)


check.main(main)
