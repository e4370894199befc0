#!/usr/bin/env python3
"""Runs what an application does with asyncpg, with the driver's defaults. See check.py.

asyncpg numbers its prepared statements from 1 on each connection, asks the catalogs about types that it does not know,
and resets a connection that goes back to its pool: pg_advisory_unlock_all, CLOSE ALL, UNLISTEN * and RESET ALL.
"""

import asyncio
import datetime
import decimal
import io
import json
import secrets
import uuid

import asyncpg

import check
from check import expect, expect_async_error

items = check.unique("asyncpg_items")
copied = check.unique("asyncpg_copied")
colour = check.unique("asyncpg_colour")
point = check.unique("asyncpg_point")


async def create(conn):
    await conn.execute(f"CREATE TYPE {colour} AS ENUM ('red', 'blue')")
    await conn.execute(f"CREATE TYPE {point} AS (x int, y int)")
    await conn.execute(
        f"CREATE TABLE {items} (id int PRIMARY KEY, big bigint, words text, at timestamptz, day date, doc jsonb, raw bytea,"
        f" numbers int[], names text[], price numeric, yes boolean, uid uuid, nothing text, paint {colour}, spot {point}, paints {colour}[])"
    )
    await conn.execute(f"CREATE TABLE {copied} (id int, words text)")


async def types(conn):
    await conn.set_type_codec("jsonb", schema="pg_catalog", encoder=json.dumps, decoder=json.loads)
    at = datetime.datetime(2024, 2, 29, 12, 30, 15, 123456, tzinfo=datetime.timezone.utc)
    row = (
        1, 2**62, "naïve ☃ 'quoted' \\", at, at.date(), {"a": [1, None, "é"]}, bytes(range(256)), [1, None, 3],
        ["a", 'with "quotes", and, commas', "NULL"], decimal.Decimal("12345678901234567890.123456789"), True, uuid.uuid4(), None,
        "blue", (3, -4), ["red", "blue"],
    )
    places = ", ".join(f"${n + 1}" for n in range(len(row)))
    expect("insert", await conn.execute(f"INSERT INTO {items} VALUES ({places})", *row), "INSERT 0 1")
    got = await conn.fetchrow(f"SELECT * FROM {items} WHERE id = $1", 1)
    expect("the row", tuple(tuple(v) if isinstance(v, asyncpg.Record) else v for v in got), row)
    large = secrets.token_bytes(3 << 20)
    expect("3 MiB there and back", await conn.fetchval("SELECT $1::bytea", large) == large, True)
    many = [(n, f"many {n}") for n in range(100, 200)]
    await conn.executemany(f"INSERT INTO {items} (id, words) VALUES ($1, $2)", many)
    expect("executemany", await conn.fetchval(f"SELECT count(*) FROM {items} WHERE words LIKE 'many %'"), 100)
    returned = await conn.fetchmany(f"INSERT INTO {items} (id, words) VALUES ($1, $2) RETURNING id", [(n, "r") for n in range(200, 210)])
    expect("fetchmany", [r["id"] for r in returned], list(range(200, 210)))


async def transactions(conn):
    async with conn.transaction():
        await conn.execute(f"INSERT INTO {items} (id, words) VALUES (2, 'committed')")
        try:
            async with conn.transaction():  # a savepoint
                await conn.execute(f"DELETE FROM {items}")
                raise KeyError("the application's own")
        except KeyError:
            pass
    tr = conn.transaction(isolation="serializable", deferrable=True)
    await tr.start()
    await conn.execute(f"UPDATE {items} SET words = 'never' WHERE id = $1", 2)
    await tr.rollback()
    expect("after commit, savepoint and rollback", await conn.fetchval(f"SELECT words FROM {items} WHERE id = $1", 2), "committed")


async def prepared(conn):
    double = await conn.prepare("SELECT $1::int * 2")
    for n in range(40):
        expect("prepared", await double.fetchval(n), n * 2)
        expect("from the cache", await conn.fetchval("SELECT 'n' || $1::text", str(n)), f"n{n}")
    expect("its parameters", [p.name for p in double.get_parameters()], ["int4"])
    expect("its columns", [a.type.name for a in double.get_attributes()], ["int4"])
    for n in range(150):  # more than the cache holds: the oldest are closed
        expect("many texts", await conn.fetchval(f"SELECT $1::int + {n}", 1), n + 1)
    await conn.execute(f"ALTER TABLE {items} ADD COLUMN more int DEFAULT 5")
    expect("after a change of the table", (await conn.fetchrow(f"SELECT * FROM {items} WHERE id = $1", 2))["more"], 5)


async def cursors(conn):
    async with conn.transaction():
        walked = [r[0] async for r in conn.cursor("SELECT generate_series(1, $1)", 500, prefetch=60)]
        expect("cursor", walked, list(range(1, 501)))
        cur = await conn.cursor("SELECT generate_series(1, 100)")
        expect("forward", await cur.forward(10), 10)
        expect("fetch", [r[0] for r in await cur.fetch(3)], [11, 12, 13])


async def errors(conn):
    error = await expect_async_error("unique violation", "23505", conn.execute(f"INSERT INTO {items} (id) VALUES ($1)", 1))
    expect("its class and constraint", (type(error), error.constraint_name), (asyncpg.UniqueViolationError, f"{items}_pkey"))
    await expect_async_error("syntax error", "42601", conn.execute("SELEC 1"))
    await expect_async_error("error in a prepared statement", "42P01", conn.fetch("SELECT * FROM no_such_table_here WHERE 1 = $1", 1))
    await expect_async_error("error when executed", "22012", conn.fetch("SELECT 1 / (5000 - n) FROM generate_series(1, $1::int) n", 10000))
    tr = conn.transaction()
    await tr.start()
    await expect_async_error("error in a transaction", "22012", conn.fetchval("SELECT 1 / $1::int", 0))
    await expect_async_error("in a failed transaction", "25P02", conn.fetchval("SELECT 1"))
    await tr.rollback()
    expect("after the errors", await conn.fetchval("SELECT $1::text", "well"), "well")


async def copying(conn):
    rows = [(n, f"row\t{n}\n\\") for n in range(20000)]
    expect("rows copied in", await conn.copy_records_to_table(copied, records=rows, columns=["id", "words"]), "COPY 20000")
    out = io.BytesIO()
    expect("rows copied out", await conn.copy_from_query(f"SELECT * FROM {copied} WHERE id >= $1 ORDER BY id", 0, output=out), "COPY 20000")
    text = "".join(f"{n}\trow\\t{n}\\n\\\\\n" for n in range(20000)).encode()
    expect("the copy", out.getvalue() == text, True)
    await expect_async_error("error in copy", "22P02", conn.copy_to_table(copied, source=io.BytesIO(b"not a number\tx\n")))
    expect("after the copies", await conn.fetchval(f"SELECT count(*) FROM {copied}"), 20000)


async def notices(conn):
    heard = []
    conn.add_log_listener(lambda _, message: heard.append((message.severity, message.message)))
    await conn.execute("DROP TABLE IF EXISTS no_such_table_here")
    await conn.fetchval("SELECT 1")
    await asyncio.sleep(0)  # the listeners are called from the loop
    expect("notice", heard, [("NOTICE", 'table "no_such_table_here" does not exist, skipping')])


async def cancel(conn):
    """A timeout and a cancelled task send a cancel request, and wait for its end."""
    for _ in range(3):
        try:
            await conn.fetchval("SELECT pg_sleep(20)", timeout=0.2)
        except asyncio.TimeoutError:
            expect("after the timeout", await conn.fetchval("SELECT 'alive'"), "alive")
        else:
            raise check.Difference("timeout: the query came to its end")
    task = asyncio.create_task(conn.fetchval("SELECT pg_sleep(20)"))
    await asyncio.sleep(0.2)
    task.cancel()
    try:
        await task
    except asyncio.CancelledError:
        expect("after the cancelled task", await conn.fetchval("SELECT 'alive'"), "alive")
    else:
        raise check.Difference("cancelled task: the query came to its end")


async def two_connections(url):
    first, second = await asyncpg.connect(url), await asyncpg.connect(url)
    for n in range(40):
        expect("first by turns", await first.fetchval("SELECT $1::int * 3", n), n * 3)
        expect("second by turns", await second.fetchval("SELECT 'second ' || $1::text", str(n)), f"second {n}")

    async def many(conn, base):
        for n in range(200):
            expect("at once", await conn.fetchval("SELECT $1::bigint + $2::int", base, n), base + n)
            async with conn.transaction():
                expect("at once in a transaction", await conn.fetchval("SELECT $1::text", str(n)), str(n))

    await asyncio.gather(many(first, 1000), many(second, 2000))
    await first.close()
    await second.close()


async def pooled(url):
    async with asyncpg.create_pool(url, min_size=2, max_size=3) as pool:
        async def work(n):
            async with pool.acquire() as conn:
                expect("through the pool", await conn.fetchval("SELECT $1::int + 1", n), n + 1)

        await asyncio.gather(*(work(n) for n in range(60)))
        async with pool.acquire() as conn:
            await conn.execute("SET application_name = 'mine'")
            expect("set", await conn.fetchval("SHOW application_name"), "mine")
        for _ in range(3):
            async with pool.acquire() as conn:
                expect("after the reset", await conn.fetchval("SHOW application_name") != "mine", True)


async def listening(url):
    async with asyncpg.create_pool(url, min_size=1, max_size=2) as pool:
        heard = asyncio.Queue()
        channel = check.unique("asyncpg_channel")
        async with pool.acquire() as listener:
            async def hear(_conn, _pid, name, payload):
                await heard.put((name, payload))

            await listener.add_listener(channel, hear)
            async with pool.acquire() as other:
                await other.execute("SELECT pg_notify($1, $2)", channel, "hello")
            expect("notification", await asyncio.wait_for(heard.get(), check.PATIENCE), (channel, "hello"))
            await listener.remove_listener(channel, hear)
        async with pool.acquire() as conn:
            expect("after the reset", await conn.fetch("SELECT pg_listening_channels()"), [])


async def advisory(url):
    """What a connection locked is free when it is back in the pool."""
    async with asyncpg.create_pool(url, min_size=2, max_size=2) as pool:
        key = secrets.randbits(40)
        async with pool.acquire() as one:
            expect("locked", await one.fetchval("SELECT pg_try_advisory_lock($1)", key), True)
            async with pool.acquire() as other:
                expect("another's", await other.fetchval("SELECT pg_try_advisory_lock($1)", key), False)
        async with pool.acquire() as one, pool.acquire() as other:
            expect("free again", await other.fetchval("SELECT pg_try_advisory_lock($1)", key), True)
            expect("and taken", await one.fetchval("SELECT pg_try_advisory_lock($1)", key), False)


async def main(url):
    conn = await asyncpg.connect(url)
    await create(conn)
    try:
        for part in (types, transactions, prepared, cursors, errors, copying, notices, cancel):
            await part(conn)
        for part in (two_connections, pooled, listening, advisory):
            await part(url)
    finally:
        await conn.execute(f"DROP TABLE IF EXISTS {items}, {copied}; DROP TYPE IF EXISTS {colour}, {point}")
        await conn.close()


check.main(main)
