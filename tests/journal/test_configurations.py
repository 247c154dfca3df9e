"""The configurations that came into use: each once, bounded, and in the order of events."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

from edge_agent.journal.configurations import (
    MOST_CHANGES,
    ConfigurationChange,
    configurations,
    keep_configuration,
)
from edge_agent.journal.store import JournalStore


def test_a_configuration_is_recorded_once_until_another_comes_into_use(tmp_path: Path) -> None:
    with closing(JournalStore(tmp_path / "journal.sqlite")) as store:
        made = ConfigurationChange("init", "maria", "2026-11-30T10:00:00Z")
        assert keep_configuration(store, made, "one", 1.0, 0)
        assert not keep_configuration(store, made, "one", 2.0, 5)  # the next start
        assert keep_configuration(
            store, ConfigurationChange("reload", "bob", changes=("a: 1 is now 2",)), "two", 3.0, 7
        )
        assert keep_configuration(store, made, "three", 4.0, 9)  # the same file, changed by hand
        many = tuple(f"key{number}: {'x' * 300}" for number in range(50))
        assert keep_configuration(store, ConfigurationChange("reload", "bob", changes=many), "four", 5.0, 9)
    with closing(JournalStore(tmp_path / "journal.sqlite")) as store:
        rows = configurations(store, 10)
        assert [(row["how"], row["actor"], row["after_sequence"]) for row in rows] == [
            ("init", "maria", 0),
            ("reload", "bob", 7),
            ("start", "maria", 9),
            ("reload", "bob", 9),
        ]
        assert rows[1]["changes"] == ["a: 1 is now 2"]
        assert len(rows[3]["changes"]) == MOST_CHANGES + 1
        assert rows[3]["changes"][-1] == "and 30 more"
        assert max(map(len, rows[3]["changes"])) == 200
        assert [row["how"] for row in configurations(store, 1)] == ["reload"]
