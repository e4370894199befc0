#!/usr/bin/env python3
"""Runs what an application does with SQLAlchemy on psycopg 3, with the defaults of both. See check.py.

SQLAlchemy rolls a connection back when it goes to the pool, and tests it with an empty statement if told to.
"""

import sqlalchemy as sa
from sqlalchemy.orm import Session, selectinload

import check
from check import expect, expect_error
from sqlalchemy_models import Author, Base, Book, read, values


def tables(engine):
    """create_all asks the catalogs what is there."""
    Base.metadata.create_all(engine)
    Base.metadata.create_all(engine)  # again: there is nothing to do
    inspector = sa.inspect(engine)
    expect("columns", [c["name"] for c in inspector.get_columns(Author.__tablename__)], ["id", "name"])
    expect("foreign keys", [k["referred_table"] for k in inspector.get_foreign_keys(Book.__tablename__)], [Author.__tablename__])
    expect("unique", [u["column_names"] for u in inspector.get_unique_constraints(Author.__tablename__)], [["name"]])


def objects(engine):
    want = values()
    with Session(engine) as session:
        session.add(Author(name="first", books=[Book(**want), Book(words="second")]))
        session.commit()
        author = session.scalars(sa.select(Author).options(selectinload(Author.books)).filter_by(name="first")).one()
        expect("the row", read(author.books[0]), want)
        author.books.pop()
        author.books[0].doc = {"changed": True}
        session.commit()
        expect("changed", session.scalar(sa.select(Book.doc).where(Book.id == author.books[0].id)), {"changed": True})
        expect("deleted", session.scalar(sa.select(sa.func.count()).select_from(Book)), 1)
        session.add_all([Author(name=f"many {n}") for n in range(500)])
        session.commit()
        expect("many at once", session.scalar(sa.select(sa.func.count()).where(Author.name.like("many %"))), 500)
        large = "large ☃ " * 300_000
        expect("large text there and back", session.scalar(sa.select(sa.literal(large))) == large, True)


def transactions(engine):
    with Session(engine) as session:
        session.add(Author(name="committed"))
        session.flush()
        try:
            with session.begin_nested():  # a savepoint
                session.add(Author(name="committed"))
        except sa.exc.IntegrityError as error:
            expect("unique violation", check.sqlstate(error), "23505")
        session.commit()
        session.add(Author(name="never"))
        session.flush()
        session.rollback()
        names = session.scalars(sa.select(Author.name).where(Author.name.in_(["committed", "never"]))).all()
        expect("after commit, savepoint and rollback", names, ["committed"])
    with engine.connect().execution_options(isolation_level="SERIALIZABLE") as conn:
        expect("isolation", conn.scalar(sa.text("SHOW transaction_isolation")), "serializable")
    with engine.connect() as conn:
        expect("isolation after it", conn.scalar(sa.text("SHOW transaction_isolation")), "read committed")
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as conn:
        conn.execute(sa.insert(Author).values(name="at once"))
    with engine.connect() as conn:
        expect("autocommit", conn.scalar(sa.select(sa.func.count()).where(Author.name == "at once")), 1)


def errors(engine):
    with engine.connect() as conn:
        expect_error("unique violation", "23505", lambda: conn.execute(sa.insert(Author).values(name="first")))
        expect_error("in a failed transaction", "25P02", lambda: conn.execute(sa.text("SELECT 1")))
        conn.rollback()
        expect_error("syntax error", "42601", lambda: conn.execute(sa.text("SELEC 1")))
        conn.rollback()
        expect_error("error while rows stream", "22012",
                     lambda: conn.execute(sa.text("SELECT 1 / (:n - n) FROM generate_series(1, 10000) n"), {"n": 5000}).all())
        conn.rollback()
        expect("after the errors", conn.scalar(sa.text("SELECT CAST(:word AS text)"), {"word": "well"}), "well")


def streams(engine):
    with engine.connect() as conn:  # a named cursor
        rows = conn.execution_options(yield_per=60).execute(sa.text("SELECT generate_series(1, 500)")).scalars()
        expect("server-side cursor", list(rows), list(range(1, 501)))


def copying(engine):
    connection = engine.raw_connection()
    with connection.cursor() as cur:
        with cur.copy(f"COPY {Author.__tablename__} (name) FROM STDIN") as copy:
            for n in range(2000):
                copy.write_row((f"copied {n}",))
        with cur.copy(f"COPY (SELECT name FROM {Author.__tablename__} WHERE name LIKE 'copied %') TO STDOUT") as copy:
            expect("copied", sum(1 for _ in copy.rows()), 2000)
    connection.commit()
    connection.close()


def cancel(engine):
    with engine.connect() as conn:
        run = lambda: conn.execute(sa.text("SELECT pg_sleep(60)"))
        check.cancel_until_ended(conn.connection.driver_connection.cancel_safe, run)
        conn.rollback()

        def value():
            try:
                return conn.scalar(sa.text("SELECT 'alive'"))
            finally:
                conn.rollback()

        check.alive(value)


def notices(engine):
    heard = []
    with engine.connect() as conn:
        conn.connection.driver_connection.add_notice_handler(lambda diag: heard.append(diag.message_primary))
        conn.execute(sa.text("DROP TABLE IF EXISTS no_such_table_here"))
    expect("notice", heard, ['table "no_such_table_here" does not exist, skipping'])


def pooled(engine):
    def many(base):
        for n in range(150):
            with Session(engine) as session:
                expect("at once", session.scalar(sa.text("SELECT CAST(:a AS int) + CAST(:b AS int)"), {"a": base, "b": n}), base + n)
                session.commit()

    check.at_once(lambda: many(1000), lambda: many(2000))


def main(url):
    engine = sa.create_engine(check.with_scheme(url, "postgresql+psycopg"), pool_size=2, pool_pre_ping=True)
    try:
        for part in (tables, objects, transactions, errors, streams, copying, cancel, notices, pooled):
            part(engine)
    finally:
        Base.metadata.drop_all(engine)
        engine.dispose()


check.main(main)
