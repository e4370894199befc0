#!/usr/bin/env python3
"""Migrates a schema with Django and runs what an application does with its ORM, on psycopg 3. See check.py.

Connections are persistent, and iterator() walks server-side cursors, outside of a transaction WITH HOLD. Each run has a
schema of its own, in the search_path that it sets as a start-up option, for Django's own tables have fixed names.
"""

import datetime
import decimal
import os
import sys
import tempfile
import urllib.parse
import uuid

import django
import psycopg
from django.conf import settings

import check
from check import expect, expect_error

schema = check.unique("django")
CONTRIB = ["django.contrib.contenttypes", "django.contrib.auth", "django.contrib.sessions", "django.contrib.postgres"]


def configure(url, migrations):
    parts = urllib.parse.urlsplit(url)
    database = {
        "ENGINE": "django.db.backends.postgresql", "NAME": parts.path[1:], "HOST": parts.hostname, "PORT": parts.port,
        "USER": urllib.parse.unquote(parts.username), "PASSWORD": urllib.parse.unquote(parts.password),
        "CONN_MAX_AGE": None, "CONN_HEALTH_CHECKS": True,
        "OPTIONS": {**dict(urllib.parse.parse_qsl(parts.query)), "options": f"-c search_path={schema}"},
    }
    prepared = {**database, "OPTIONS": {**database["OPTIONS"], "server_side_binding": True, "prepare_threshold": 2}}
    pooled = {**database, "CONN_MAX_AGE": 0, "OPTIONS": {**database["OPTIONS"], "pool": {"min_size": 1, "max_size": 2}}}
    settings.configure(
        DATABASES={"default": database, "prepared": prepared, "pooled": pooled}, USE_TZ=True, SECRET_KEY="of no use here",
        INSTALLED_APPS=[*CONTRIB, "django_app"], MIGRATION_MODULES={"django_app": migrations}, DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
    )
    django.setup()


def migrate():
    """Django writes the migration, runs it with those of its own applications, and finds nothing more to do."""
    from django.core.management import call_command
    from django.db import connection

    call_command("makemigrations", "django_app", verbosity=0)
    call_command("migrate", verbosity=0)
    call_command("migrate", verbosity=0)
    call_command("makemigrations", "--check", "--dry-run", verbosity=0)
    tables = connection.introspection.table_names()
    expect("tables", {"django_app_author", "django_app_book", "auth_user", "django_session"} <= set(tables), True)
    with connection.cursor() as cursor:
        constraints = connection.introspection.get_constraints(cursor, "django_app_book")
    expect("constraints", constraints["book_big"]["check"] and constraints["book_words"]["index"], True)


def objects(Author, Book):
    at = datetime.datetime(2024, 2, 29, 12, 30, 15, 123456, tzinfo=datetime.timezone.utc)
    want = {
        "big": 2**62, "words": "naïve ☃ 'quoted' \\ %s", "at": at, "day": at.date(), "length": datetime.timedelta(days=3, seconds=4),
        "doc": {"a": [1, None, "é"]}, "raw": bytes(range(256)), "numbers": [1, None, 3],
        "price": decimal.Decimal("123456789012345678901234567.1234567891"), "yes": True, "uid": uuid.uuid4(), "nothing": None,
    }
    author = Author.objects.create(name="first")
    book = Book.objects.create(author=author, **want)
    got = Book.objects.values(*want).get(pk=book.pk)
    expect("the row", {name: bytes(v) if isinstance(v, memoryview) else v for name, v in got.items()}, want)
    expect("by json", Book.objects.filter(doc__a__contains=[1]).count(), 1)
    expect("by array", Book.objects.filter(numbers__contains=[3]).count(), 1)
    Author.objects.bulk_create([Author(name=f"many {n}") for n in range(2000)], batch_size=300)
    expect("bulk_create", Author.objects.filter(name__startswith="many ").count(), 2000)
    expect("update", Author.objects.filter(name="many 7").update(name="seven"), 1)
    expect("get_or_create", Author.objects.get_or_create(name="seven")[1], False)
    expect("related", [b.author.name for b in Book.objects.select_related("author").prefetch_related("author__books")], ["first"])
    large = "large ☃ " * 300_000
    Book.objects.filter(pk=book.pk).update(nothing=large)
    expect("large text there and back", Book.objects.get(pk=book.pk).nothing == large, True)


def transactions(Author):
    from django.db import IntegrityError, transaction

    with transaction.atomic():
        Author.objects.create(name="committed")
        try:
            with transaction.atomic():  # a savepoint
                Author.objects.create(name="committed")
        except IntegrityError as error:
            expect("unique violation", check.sqlstate(error), "23505")
        locked = Author.objects.select_for_update().get(name="committed")
        expect("locked", locked.name, "committed")
    try:
        with transaction.atomic():
            Author.objects.create(name="never")
            raise KeyError("the application's own")
    except KeyError:
        pass
    expect("after commit, savepoint and rollback", list(Author.objects.filter(name__in=["committed", "never"]).values_list("name", flat=True)), ["committed"])


def cursors(Author):
    """Outside of a transaction Django's cursor is WITH HOLD, and lives on while other statements run."""
    from django.db import transaction

    names = list(Author.objects.order_by("pk").values_list("name", flat=True))
    walked = []
    for name in Author.objects.order_by("pk").values_list("name", flat=True).iterator(chunk_size=250):
        if len(walked) % 500 == 0:
            expect("between the rows", Author.objects.filter(name=name).exists(), True)
        walked.append(name)
    expect("iterator", walked, names)
    one, other = (Author.objects.order_by("pk").values_list("name", flat=True).iterator(chunk_size=100) for _ in range(2))
    expect("two at once", [pair[0] == pair[1] for pair in zip(one, other)], [True] * len(names))
    left = Author.objects.order_by("pk").iterator(chunk_size=10)
    expect("left early", next(left).name, names[0])
    del left
    with transaction.atomic():
        walked = list(Author.objects.order_by("pk").values_list("name", flat=True).iterator(chunk_size=250))
    expect("iterator in a transaction", walked, names)


def errors(Author):
    from django.db import connection, transaction

    def run(sql, args=None):
        with connection.cursor() as cursor:
            cursor.execute(sql, args)
            return cursor.fetchall()

    expect_error("unique violation", "23505", lambda: Author.objects.create(name="first"))
    expect_error("syntax error", "42601", lambda: run("SELEC 1"))
    try:
        with transaction.atomic():
            expect_error("error in a transaction", "22012", lambda: run("SELECT 1 / %s::int", [0]))
            run("SELECT 1")
    except Exception as error:
        expect("in a failed transaction", check.sqlstate(error), "25P02")
    expect("after the errors", run("SELECT %s", ["well"]), [("well",)])


def copying(Author):
    from django.db import connection

    with connection.cursor() as cursor, cursor.copy("COPY django_app_author (name) FROM STDIN") as copy:
        for n in range(2000):
            copy.write_row((f"copied {n}",))
    expect("copied", Author.objects.filter(name__startswith="copied ").count(), 2000)
    with connection.cursor() as cursor, cursor.copy("COPY (SELECT name FROM django_app_author WHERE name LIKE 'copied %') TO STDOUT") as copy:
        expect("copied out", sum(1 for _ in copy.rows()), 2000)


def cancel():
    from django.db import connection

    connection.ensure_connection()
    driver = connection.connection  # Django's own object is another one in each thread
    check.cancel_until_ended(driver.cancel_safe, lambda: driver.execute("SELECT pg_sleep(60)"))
    check.alive(lambda: driver.execute("SELECT 'alive'").fetchone()[0])


def requests(Author):
    """Each request closes what is old at its end; threads have a connection each."""
    from django.db import close_old_connections, connections

    def serve(using, base):
        for n in range(100):
            close_old_connections()
            author = Author.objects.using(using).get(name=f"copied {(base + n) % 2000}")
            author.name += "!"
            author.save()
            expect("at once", Author.objects.using(using).filter(pk=author.pk, name=author.name).count(), 1)
        connections.close_all()

    for using in ("default", "prepared", "pooled"):
        check.at_once(lambda: serve(using, 0), lambda: serve(using, 1000))
        Author.objects.filter(name__startswith="copied ").delete()
        Author.objects.bulk_create([Author(name=f"copied {n}") for n in range(2000)])
    connections["pooled"].close_pool()


def run_all():
    from django.db import connections

    from django_app.models import Author, Book

    for part, arguments in (
        (migrate, ()), (objects, (Author, Book)), (transactions, (Author,)), (errors, (Author,)), (copying, (Author,)),
        (requests, (Author,)), (cancel, ()), (cursors, (Author,)),
    ):
        part(*arguments)
    connections.close_all()


def main(url):
    with tempfile.TemporaryDirectory() as folder, psycopg.connect(url, autocommit=True) as conn:
        migrations = f"{schema}_migrations"
        os.mkdir(os.path.join(folder, migrations))
        open(os.path.join(folder, migrations, "__init__.py"), "w").close()
        sys.path.append(folder)
        conn.execute(f"CREATE SCHEMA {schema}")
        try:
            configure(url, migrations)
            run_all()
        finally:
            from django.db import connections

            connections.close_all()
            conn.execute(f"DROP SCHEMA {schema} CASCADE")


check.main(main)
