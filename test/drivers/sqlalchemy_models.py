"""The tables of the SQLAlchemy scripts, and what they compare."""

import datetime
import decimal
import uuid
from typing import Any, Optional

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

import check

authors = check.unique("sqlalchemy_authors")
books = check.unique("sqlalchemy_books")


class Base(DeclarativeBase):
    pass


class Author(Base):
    __tablename__ = authors

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(sa.Text, unique=True)
    books: Mapped[list["Book"]] = relationship(back_populates="author", cascade="all, delete-orphan", order_by="Book.id")


class Book(Base):
    __tablename__ = books

    id: Mapped[int] = mapped_column(primary_key=True)
    author_id: Mapped[int] = mapped_column(sa.ForeignKey(f"{authors}.id"))
    author: Mapped[Author] = relationship(back_populates="books")
    big: Mapped[Optional[int]] = mapped_column(sa.BigInteger)
    words: Mapped[Optional[str]] = mapped_column(sa.Text)
    at: Mapped[Optional[datetime.datetime]] = mapped_column(sa.DateTime(timezone=True))
    doc: Mapped[Optional[dict[str, Any]]] = mapped_column(JSONB)
    plain: Mapped[Optional[dict[str, Any]]] = mapped_column(sa.JSON)
    raw: Mapped[Optional[bytes]]
    numbers: Mapped[Optional[list[int]]] = mapped_column(sa.ARRAY(sa.Integer))
    price: Mapped[Optional[decimal.Decimal]] = mapped_column(sa.Numeric)
    yes: Mapped[Optional[bool]]
    uid: Mapped[Optional[uuid.UUID]]
    mood: Mapped[Optional[str]] = mapped_column(sa.Enum("happy", "sad", name=check.unique("sqlalchemy_mood")))
    nothing: Mapped[Optional[str]]


def values():
    """One value of each type, by the column's name."""
    return {
        "big": 2**62, "words": "naïve ☃ 'quoted' \\ %s :colon", "doc": {"a": [1, None, "é"]}, "plain": {"b": 1.5},
        "at": datetime.datetime(2024, 2, 29, 12, 30, 15, 123456, tzinfo=datetime.timezone.utc), "raw": bytes(range(256)),
        "numbers": [1, -2, 3], "price": decimal.Decimal("12345678901234567890.123456789"), "yes": True, "uid": uuid.uuid4(),
        "mood": "happy", "nothing": None,
    }


def read(book):
    return {name: getattr(book, name) for name in values()}
