"""The models of the Django script."""

import uuid

from django.contrib.postgres.fields import ArrayField
from django.db import models


class Author(models.Model):
    name = models.TextField(unique=True)


class Book(models.Model):
    author = models.ForeignKey(Author, on_delete=models.CASCADE, related_name="books")
    big = models.BigIntegerField(null=True)
    words = models.TextField(null=True)
    at = models.DateTimeField(null=True)
    day = models.DateField(null=True)
    length = models.DurationField(null=True)
    doc = models.JSONField(null=True)
    raw = models.BinaryField(null=True)
    numbers = ArrayField(models.IntegerField(), null=True)
    price = models.DecimalField(max_digits=40, decimal_places=10, null=True)
    yes = models.BooleanField(null=True)
    uid = models.UUIDField(default=uuid.uuid4)
    nothing = models.TextField(null=True)

    class Meta:
        indexes = [models.Index(fields=["words"], name="book_words")]
        constraints = [models.CheckConstraint(condition=models.Q(big__gte=0), name="book_big")]
