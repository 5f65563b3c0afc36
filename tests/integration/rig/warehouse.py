"""deploy/examples/warehouse as a child, and the database that it writes to."""

import json
import pathlib
import sys

import psycopg2.extras

from .postgres import Postgres
from .proc import Server

EXAMPLE = pathlib.Path(__file__).resolve().parents[3] / "deploy" / "examples" / "warehouse"
DAY = "2026-03-02"  # of events that a test tells by itself


class Consumer(Server):
    """The example; patch: Python that changes its module first."""

    name = "warehouse"

    def __init__(self, kafka, warehouse: "Database", topics: str, patch: str = ""):
        super().__init__()
        self.patch = patch
        self.settings = {"KAFKA_BROKERS": kafka.bootstrap, "KAFKA_TOPICS": topics, "DATABASE": warehouse.address}

    def _argv(self):
        start = f"import sys; sys.path.insert(0, {str(EXAMPLE)!r}); import warehouse"
        code = f"{start}; {self.patch}; sys.exit(warehouse.main())"
        return [sys.executable, "-c", code] if self.patch else [sys.executable, EXAMPLE / "warehouse.py"]

    def _env(self):
        return {**self.settings, "PYTHONDONTWRITEBYTECODE": "1"}

    def _is_ready(self):
        return True

    def lines(self, text: str) -> list[str]:
        return [line for line in self.log.read_text(errors="replace").splitlines() if text in line]


class Database:
    """One of a Postgres, with the example's schema."""

    def __init__(self, postgres: Postgres):
        self.postgres = postgres
        self.name = postgres.new_database(EXAMPLE / "schema.sql")
        self.address = postgres.address(self.name)
        self.connection = None

    def ask(self, query: str, *values) -> list:
        """Rows as named tuples; of one column: the values alone."""
        if self.connection is None or self.connection.closed:
            self.connection = self.postgres.connect(self.name)
        with self.connection.cursor(cursor_factory=psycopg2.extras.NamedTupleCursor) as cursor:
            cursor.execute(query, values)
            rows = cursor.fetchall() if cursor.description else []
        return [row[0] for row in rows] if rows and len(rows[0]) == 1 else rows

    def count(self, query: str, *values) -> int:
        return self.ask(f"SELECT count(*) FROM {query}", *values)[0]

    def tell(self, topic: str, kind: str, key: str, body, when: str, name=None) -> bool:
        """One event of a Marathon, as warehouse.py would insert it; `when`: HH:MM:SS of DAY."""
        self.ask("INSERT INTO progress VALUES ('t', 0, 0) ON CONFLICT DO NOTHING")
        (at,) = self.ask("SELECT next_offset FROM progress")
        text = body if isinstance(body, str) else json.dumps(body)
        row = at, name or f"marathon/{at}", "marathon", topic, kind, key, "", at, f"{DAY} {when}Z", text
        casts = "bigint text text text text text text bigint timestamptz text".split()
        places = ", ".join(f"ARRAY[%s::{cast}]" for cast in casts)
        return self.ask(f"SELECT take('t', 0, %s, %s, {places})", at, at + 1, *row)[0]
