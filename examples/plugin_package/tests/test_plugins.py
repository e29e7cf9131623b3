"""tuneoff's own suites, run over this package's plug-ins."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from tuneoff.testing import (
    ExecutorContract,
    MethodContract,
    MetricContract,
    SourceContract,
    TaskContract,
    TrackerContract,
)


class TestNorms(MethodContract):
    method = "norms"
    options = ({}, {"shifts": False})


class TestOrdinal(TaskContract):
    task = "ordinal"
    options = {"text": "review", "grade": "stars"}
    columns = {
        "review": ["dull", "good stuff", "bad", "a very, very good film", "so so", "never again"],
        "stars": ["2", "5", "1", "5", "2", "1"],
    }


class TestGrounded(MetricContract):
    metric = "grounded"


class TestSqlite(SourceContract):
    source = "sqlite"

    @pytest.fixture
    def reference(self, tmp_path: Path) -> str:
        path = tmp_path / "reviews.sqlite"
        with closing(sqlite3.connect(path)) as connection, connection:
            connection.execute("CREATE TABLE train (review TEXT, stars INTEGER)")
            connection.executemany("INSERT INTO train VALUES (?, ?)", [("good", 5), ("bad", 1), (None, 3)])
        return str(path)

    @pytest.fixture
    def unknown(self, reference: str) -> str:
        return f"{reference}.db"


class TestTable(TrackerContract):
    tracker = "table"


class TestIdle(ExecutorContract):
    executor = "idle"
    options = {"max_percent": 100, "seconds": 0.1}  # the tests do not wait for anybody
