#!/usr/bin/env python3
"""Runs what an application does with psycopg2, with the driver's defaults. See check.py.

psycopg2 puts values into the statement itself; what it prepares, the application prepares by SQL.
"""

import datetime
import decimal
import io
import secrets
import uuid

import psycopg2
import psycopg2.errors
import psycopg2.extensions
import psycopg2.extras
import psycopg2.pool

import check
from check import expect, expect_error

items = check.unique("psycopg2_items")
copied = check.unique("psycopg2_copied")


def run(conn, sql, args=None):
    with conn.cursor() as cur:
        cur.execute(sql, args)
        return cur.fetchall() if cur.description else cur.rowcount


def scalar(conn, sql, args=None):
    return run(conn, sql, args)[0][0]


def create(conn):
    run(conn, f"CREATE TABLE {items} (id int PRIMARY KEY, big bigint, words text, at timestamptz, day date, doc jsonb, raw bytea,"
              " numbers int[], names text[], price numeric, yes boolean, uid uuid, nothing text)")
    run(conn, f"CREATE TABLE {copied} (id int, words text)")
    conn.commit()


def types(conn):
    psycopg2.extras.register_uuid()
    at = datetime.datetime(2024, 2, 29, 12, 30, 15, 123456, tzinfo=datetime.timezone.utc)
    row = (
        1, 2**62, "naïve ☃ 'quoted' \\ %", at, at.date(), {"a": [1, None, "é"]}, bytes(range(256)), [1, None, 3],
        ["a", 'with "quotes", and, commas', "NULL"], decimal.Decimal("12345678901234567890.123456789"), True, uuid.uuid4(), None,
    )
    values = [psycopg2.extras.Json(v) if isinstance(v, dict) else v for v in row]
    expect("rows inserted", run(conn, f"INSERT INTO {items} VALUES ({', '.join(['%s'] * len(row))})", values), 1)
    got = run(conn, f"SELECT * FROM {items} WHERE id = %s", [1])[0]
    expect("the row", tuple(bytes(v) if isinstance(v, memoryview) else v for v in got), row)
    large = secrets.token_hex(2 << 20)
    expect("4 MiB there and back", scalar(conn, "SELECT %s::text", [large]) == large, True)
    with conn.cursor(cursor_factory=psycopg2.extras.RealDictCursor) as cur:
        psycopg2.extras.execute_values(cur, f"INSERT INTO {items} (id, words) VALUES %s RETURNING id", [(n, "v") for n in range(50, 250)])
        cur.execute(f"SELECT count(*) AS n FROM {items} WHERE words = 'v'")
        expect("execute_values", dict(cur.fetchone()), {"n": 200})
    conn.rollback()


def transactions(conn):
    with conn:  # commits
        run(conn, f"INSERT INTO {items} (id, words) VALUES (2, 'committed')")
    try:
        with conn:  # rolls back
            run(conn, f"UPDATE {items} SET words = 'never' WHERE id = 2")
            raise KeyError("the application's own")
    except KeyError:
        pass
    expect("after commit and rollback", scalar(conn, f"SELECT words FROM {items} WHERE id = 2"), "committed")
    run(conn, "SAVEPOINT here")
    expect_error("error behind a savepoint", "22012", lambda: run(conn, "SELECT 1 / 0"))
    run(conn, "ROLLBACK TO SAVEPOINT here")
    expect("after the savepoint", scalar(conn, f"SELECT words FROM {items} WHERE id = 2"), "committed")
    conn.commit()
    conn.set_session(isolation_level="SERIALIZABLE", readonly=True, deferrable=True)  # psycopg2 says so with each BEGIN
    expect("isolation", scalar(conn, "SHOW transaction_isolation"), "serializable")
    expect_error("write in a read-only transaction", "25006", lambda: run(conn, f"DELETE FROM {items}"))
    conn.rollback()
    conn.set_session(isolation_level="DEFAULT", readonly="DEFAULT", deferrable="DEFAULT")
    expect("isolation after it", scalar(conn, "SHOW transaction_isolation"), "read committed")
    conn.rollback()


def errors(conn):
    run(conn, f"INSERT INTO {items} (id) VALUES (7)")
    error = expect_error("unique violation", "23505", lambda: run(conn, f"INSERT INTO {items} (id) VALUES (7)"))
    expect("its class and details", (type(error), error.diag.constraint_name, error.diag.message_detail),
           (psycopg2.errors.UniqueViolation, f"{items}_pkey", "Key (id)=(7) already exists."))
    expect_error("in a failed transaction", "25P02", lambda: run(conn, "SELECT 1"))
    conn.rollback()
    expect_error("syntax error", "42601", lambda: run(conn, "SELEC 1"))
    conn.rollback()
    expect_error("error while rows stream", "22012", lambda: run(conn, "SELECT 1 / (5000 - n) FROM generate_series(1, 10000) n"))
    conn.rollback()
    expect("after the errors", scalar(conn, "SELECT %s", ["well"]), "well")
    conn.rollback()


def copying(conn):
    lines = "".join(f"{n}\trow\\t{n}\n" for n in range(20000))
    with conn.cursor() as cur:
        cur.copy_from(io.StringIO(lines), copied)
        expect("rows copied in", cur.rowcount, 20000)
        out = io.StringIO()
        cur.copy_expert(f"COPY (SELECT * FROM {copied} ORDER BY id) TO STDOUT", out)
        expect("rows copied out", out.getvalue() == lines, True)
        conn.commit()
        expect_error("error in copy", "22P02", lambda: cur.copy_from(io.StringIO("not a number\tx\n"), copied))
    conn.rollback()
    expect("after the copies", scalar(conn, f"SELECT count(*) FROM {copied}"), 20000)
    conn.rollback()


def cursors(conn):
    with conn.cursor(name="walk") as cur:
        cur.itersize = 300
        cur.execute("SELECT generate_series(1, 1000)")
        expect("named cursor", [n for (n,) in cur], list(range(1, 1001)))
    conn.commit()


def notices(conn):
    del conn.notices[:]
    run(conn, "DROP TABLE IF EXISTS no_such_table_here")
    expect("notice", conn.notices, ['NOTICE:  table "no_such_table_here" does not exist, skipping\n'])
    conn.rollback()


def autocommit(conn):
    conn.autocommit = True
    expect("several statements at once", scalar(conn, "SELECT 1; SELECT 2"), 2)
    run(conn, f"INSERT INTO {items} (id, words) VALUES (8, 'at once')")
    expect("autocommit", scalar(conn, f"SELECT words FROM {items} WHERE id = 8"), "at once")
    conn.autocommit = False


def cancel(conn):
    check.cancel_until_ended(conn.cancel, lambda: run(conn, "SELECT pg_sleep(60)"))
    conn.rollback()

    def value():
        try:
            return scalar(conn, "SELECT 'alive'")
        finally:
            conn.rollback()

    check.alive(value)


def pooled(url):
    """A connection that goes back to the pool is rolled back, and its statement is another's next time."""
    pool = psycopg2.pool.ThreadedConnectionPool(2, 2, url)

    def many(base):
        for n in range(150):
            conn = pool.getconn()
            expect("at once", scalar(conn, "SELECT %s + %s", [base, n]), base + n)
            pool.putconn(conn)

    check.at_once(lambda: many(1000), lambda: many(2000))
    pool.closeall()


def sql_prepared(url):
    """PREPARE by SQL, under one name with two meanings, by turns."""
    first, second = psycopg2.connect(url), psycopg2.connect(url)
    first.autocommit = second.autocommit = True
    run(first, "PREPARE mine (int) AS SELECT $1 * 3")
    run(second, "PREPARE mine (text) AS SELECT 'second ' || $1")
    for n in range(40):
        expect("first by turns", scalar(first, "EXECUTE mine (%s)", [n]), n * 3)
        expect("second by turns", scalar(second, "EXECUTE mine (%s)", [str(n)]), f"second {n}")
    run(first, "DEALLOCATE mine")
    expect_error("deallocated", "26000", lambda: run(first, "EXECUTE mine (1)"))
    expect("the other's", scalar(second, "EXECUTE mine ('x')"), "second x")
    first.close()
    second.close()


def main(url):
    conn = psycopg2.connect(url)
    create(conn)
    try:
        for part in (types, transactions, errors, copying, cursors, notices, autocommit, cancel):
            part(conn)
        pooled(url)
        sql_prepared(url)
    finally:
        conn.rollback()
        conn.autocommit = True
        run(conn, f"DROP TABLE IF EXISTS {items}, {copied}")
        conn.close()


check.main(main)
