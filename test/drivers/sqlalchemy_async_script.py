#!/usr/bin/env python3
"""Runs what an application does with SQLAlchemy on asyncpg, with the defaults of both. See check.py.

SQLAlchemy prepares every statement on asyncpg and keeps it, and begins and ends transactions through asyncpg's own.
"""

import asyncio
import urllib.parse

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import selectinload

import check
from check import expect, expect_async_error
from sqlalchemy_models import Author, Base, Book, read, values


async def tables(engine):
    async with engine.begin() as conn:
        await conn.run_sync(Base.metadata.create_all)
        await conn.run_sync(Base.metadata.create_all)  # again: there is nothing to do
        columns = await conn.run_sync(lambda c: sa.inspect(c).get_columns(Author.__tablename__))
    expect("columns", [c["name"] for c in columns], ["id", "name"])


async def objects(engine):
    want = values()
    async with AsyncSession(engine, expire_on_commit=False) as session:
        session.add(Author(name="first", books=[Book(**want), Book(words="second")]))
        await session.commit()
        found = await session.scalars(sa.select(Author).options(selectinload(Author.books)).filter_by(name="first").execution_options(populate_existing=True))
        author = found.one()
        expect("the row", read(author.books[0]), want)
        author.books.pop()
        author.books[0].doc = {"changed": True}
        await session.commit()
        expect("changed", await session.scalar(sa.select(Book.doc).where(Book.id == author.books[0].id)), {"changed": True})
        session.add_all([Author(name=f"many {n}") for n in range(500)])
        await session.commit()
        expect("many at once", await session.scalar(sa.select(sa.func.count()).where(Author.name.like("many %"))), 500)
        large = "large ☃ " * 300_000
        expect("large text there and back", await session.scalar(sa.select(sa.literal(large))) == large, True)


async def transactions(engine):
    async with AsyncSession(engine) as session:
        session.add(Author(name="committed"))
        await session.flush()
        try:
            async with session.begin_nested():  # a savepoint
                session.add(Author(name="committed"))
        except sa.exc.IntegrityError as error:
            expect("unique violation", check.sqlstate(error), "23505")
        await session.commit()
        session.add(Author(name="never"))
        await session.flush()
        await session.rollback()
        names = (await session.scalars(sa.select(Author.name).where(Author.name.in_(["committed", "never"])))).all()
        expect("after commit, savepoint and rollback", names, ["committed"])
    async with engine.connect() as conn:
        await conn.execution_options(isolation_level="SERIALIZABLE")
        expect("isolation", await conn.scalar(sa.text("SHOW transaction_isolation")), "serializable")
    async with engine.connect() as conn:
        expect("isolation after it", await conn.scalar(sa.text("SHOW transaction_isolation")), "read committed")


async def errors(engine):
    async with engine.connect() as conn:
        await expect_async_error("unique violation", "23505", conn.execute(sa.insert(Author).values(name="first")))
        await expect_async_error("in a failed transaction", "25P02", conn.execute(sa.text("SELECT 1")))
        await conn.rollback()
        await expect_async_error("syntax error", "42601", conn.execute(sa.text("SELEC 1")))
        await conn.rollback()
        expect("after the errors", await conn.scalar(sa.text("SELECT CAST(:word AS text)"), {"word": "well"}), "well")


async def streams(engine):
    async with engine.connect() as conn:  # a cursor inside a transaction
        rows = await conn.stream(sa.text("SELECT generate_series(1, 500)"))
        expect("cursor", [n async for n in rows.scalars()], list(range(1, 501)))


async def copying(engine):
    async with engine.begin() as conn:
        driver = (await conn.get_raw_connection()).driver_connection
        records = [(f"copied {n}",) for n in range(2000)]
        expect("rows copied in", await driver.copy_records_to_table(Author.__tablename__, records=records, columns=["name"]), "COPY 2000")
        expect("copied", await conn.scalar(sa.select(sa.func.count()).where(Author.name.like("copied %"))), 2000)


async def cancel(engine):
    async with engine.connect() as conn:
        try:
            await asyncio.wait_for(conn.execute(sa.text("SELECT pg_sleep(20)")), 0.3)
        except asyncio.TimeoutError:
            pass
        else:
            raise check.Difference("timeout: the query came to its end")
    async with engine.connect() as conn:
        expect("after the timeout", await conn.scalar(sa.text("SELECT 'alive'")), "alive")


async def schema_changes(engine):
    """SQLAlchemy drops its prepared statements when Postgres says that a plan is stale, and the application tries again."""
    async with engine.connect() as one, engine.connect() as other:
        query = sa.text(f"SELECT * FROM {Author.__tablename__} WHERE name = 'first'")
        await one.execute(query)
        await one.commit()
        await other.execute(sa.text(f"ALTER TABLE {Author.__tablename__} ADD COLUMN more int DEFAULT 5"))
        await other.commit()
        try:
            row = (await one.execute(query)).one()
        except sa.exc.DBAPIError as error:
            expect("stale plan", check.sqlstate(error), "0A000")
            await one.rollback()
            row = (await one.execute(query)).one()
        expect("after a change of the table", row.more, 5)


async def pooled(engine):
    async def many(base):
        for n in range(150):
            async with AsyncSession(engine) as session:
                got = await session.scalar(sa.text("SELECT CAST(:a AS int) + CAST(:b AS int)"), {"a": base, "b": n})
                expect("at once", got, base + n)
                await session.commit()

    await asyncio.gather(many(1000), many(2000))


def for_asyncpg(url):
    """SQLAlchemy gives asyncpg the settings one by one, and there sslmode is called ssl and takes no file."""
    parts = urllib.parse.urlsplit(check.with_scheme(url, "postgresql+asyncpg"))
    settings = dict(urllib.parse.parse_qsl(parts.query))
    mode, ca_file = settings.pop("sslmode", "disable"), settings.pop("sslrootcert", None)
    connect_args = {"ssl": mode}
    if ca_file:
        import ssl
        connect_args["ssl"] = ssl.create_default_context(cafile=ca_file)
    return urllib.parse.urlunsplit(parts._replace(query=urllib.parse.urlencode(settings))), connect_args


async def main(url):
    url, connect_args = for_asyncpg(url)
    engine = create_async_engine(url, connect_args=connect_args, pool_size=2, pool_pre_ping=True)
    try:
        for part in (tables, objects, transactions, errors, streams, copying, cancel, schema_changes, pooled):
            await part(engine)
    finally:
        async with engine.begin() as conn:
            await conn.run_sync(Base.metadata.drop_all)
        await engine.dispose()


check.main(main)
