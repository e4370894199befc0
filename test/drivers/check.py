"""What the Python scripts share: they find the connection string in DATABASE_URL, compare what they get with what is
right, and end with the line "ok N checks" and the exit status 0, or with the first difference and the status 1.

The role may create tables in the first schema of its search_path. Names end in random letters, so that many scripts
can run at once.
"""

import asyncio
import inspect
import os
import secrets
import sys
import threading
import traceback
import urllib.parse

PATIENCE = 60  # seconds for what takes one; a loaded machine is slow
count = 0


class Difference(Exception):
    """What came is not what is right."""


def show(value):
    text = repr(value)
    return text if len(text) < 1000 else text[:1000] + "..."


def expect(what, got, want):
    global count
    if got != want:
        raise Difference(f"{what}: got {show(got)}, want {show(want)}")
    count += 1


def sqlstate(error):
    """The SQLSTATE of an error of any driver here, also where another library has wrapped it."""
    while error is not None:
        for name in ("sqlstate", "pgcode"):
            if getattr(error, name, None):
                return getattr(error, name)
        error = getattr(error, "orig", None) or error.__cause__
    return None


def expect_error(what, code, run):
    """Expects that run raises an error with SQLSTATE code; returns the error."""
    try:
        run()
    except Exception as error:
        return same_error(what, code, error)
    raise Difference(f"{what}: no error, want {code}")


async def expect_async_error(what, code, coroutine):
    try:
        await coroutine
    except Exception as error:
        return same_error(what, code, error)
    raise Difference(f"{what}: no error, want {code}")


def same_error(what, code, error):
    if sqlstate(error) != code:
        raise Difference(f"{what}: got {error!r}, want {code}") from error
    expect(what, sqlstate(error), code)
    return error


def unique(name):
    """A name that no other script uses."""
    return f"{name}_{secrets.token_hex(6)}"


def at_once(*runs):
    """Runs each function in a thread of its own, and raises the first error of any."""
    errors = []

    def caught(run):
        try:
            run()
        except BaseException as error:  # whatever it is, it is raised below
            errors.append(error)

    threads = [threading.Thread(target=caught, args=(run,), daemon=True) for run in runs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
        if thread.is_alive():
            raise Difference(f"a connection got no answer in {PATIENCE} s")
    if errors:
        raise errors[0]


def cancel_until_ended(cancel, run, again=0.1):
    """Runs run in a thread and cancel here, again and again, for a cancel that comes before the query does nothing."""
    errors = []

    def caught():
        try:
            run()
        except Exception as error:
            errors.append(error)

    thread = threading.Thread(target=caught, daemon=True)
    thread.start()
    thread.join(again)
    while thread.is_alive():
        cancel()
        thread.join(again)
    if not errors:
        raise Difference("cancelled: the query came to its end")
    same_error("cancelled", "57014", errors[0])


def alive(value):
    """Expects that value() is 'alive'. A cancel that came late may hit one statement more of the same session."""
    for _ in range(5):
        try:
            return expect("after the cancel", value(), "alive")
        except Exception as error:
            if sqlstate(error) != "57014":
                raise
    raise Difference("after the cancel: statements go on being cancelled")


def with_scheme(url, scheme):
    """The connection string under another scheme, such as SQLAlchemy's, which names the driver."""
    return urllib.parse.urlunsplit(urllib.parse.urlsplit(url)._replace(scheme=scheme))


def main(run):
    """Runs run(url), which may be async, and says how it ended."""
    url = os.environ.get("DATABASE_URL")
    if not url:
        sys.exit(f"usage: DATABASE_URL=postgres://... {sys.argv[0]}")
    try:
        if inspect.iscoroutinefunction(run):
            asyncio.run(run(url))
        else:
            run(url)
    except Difference as difference:
        sys.exit(f"{sys.argv[0]}: after {count} checks: {difference}")
    except Exception:
        traceback.print_exc()
        sys.exit(f"{sys.argv[0]}: after {count} checks")
    print(f"ok {count} checks")
