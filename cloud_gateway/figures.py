"""What a gateway counts about itself, for `/metrics`: commands, requests, events, webhooks, deleted rows.

Every label has few values, all of them ours: names of commands and codes, templates of routes. No label is a
machine, a platform, a reservation, an order or a code.
"""

from __future__ import annotations

from typing import Any

from prometheus_client import CollectorRegistry, Counter, Histogram

from edge_agent.errors import Code

NAMESPACE = "edge_gateway"
COMMAND_BUCKETS_S = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 8.0, 10.0)
"""A caller waits 10 s at most (`Timing.wait_s`)."""
REQUEST_BUCKETS_S = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
WEBHOOK_BUCKETS_S = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
OTHER = "other"
"""The label of a value that is not ours: a method that a client made up, a code that a machine made up."""
CODES = {0: "OK"} | {int(code): code.name for code in Code}


class Figures:
    """The counters of one gateway, in a registry of their own. Used on the event loop only."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry(auto_describe=False)
        self._commands = self._counter(
            "commands", "Commands sent to machines, by their outcome.", "command", "code"
        )
        self._command_s = self._histogram(
            "command_seconds", "How long callers waited for a machine.", COMMAND_BUCKETS_S, "command"
        )
        self._requests = self._counter(
            "requests", "Answered HTTP requests, by the template of their route.", "method", "route", "status"
        )
        self._request_s = self._histogram(
            "request_seconds", "How long HTTP requests took.", REQUEST_BUCKETS_S, "route"
        )
        self._events = self._counter("events", "Events of machines that were stored, repeated ones included.")
        self._rejected = self._counter("messages_rejected", "Messages of machines that were refused.", "kind")
        self._attempts = self._counter("webhook_attempts", "Attempts to deliver a webhook.", "result")
        self._attempt_s = self._histogram(
            "webhook_seconds", "How long an attempt to deliver a webhook took.", WEBHOOK_BUCKETS_S
        )
        self._pruned = self._counter("pruned_rows", "Old rows that were deleted.", "table")

    def command_ended(self, name: str, code: int, took_s: float) -> None:
        """A command was answered, refused or given up; code 0: it was carried out."""
        self._commands.labels(name, CODES.get(code, OTHER)).inc()
        self._command_s.labels(name).observe(took_s)

    def request_ended(self, method: str, route: str, status: int, took_s: float) -> None:
        """A request was answered; `route` is the template of its path."""
        self._requests.labels(method if method in METHODS else OTHER, route, status).inc()
        self._request_s.labels(route).observe(took_s)

    def events_stored(self, count: int) -> None:
        """Events were committed."""
        self._events.inc(count)

    def message_rejected(self, kind: str) -> None:
        """A machine's message was refused."""
        self._rejected.labels(kind).inc()

    def webhook_attempted(self, entry: dict[str, Any]) -> None:
        """A webhook was delivered or not (`Deliverer`, `on_attempt`)."""
        self._attempts.labels(str(entry["result"]).replace(" ", "_")).inc()
        if "ms" in entry:
            self._attempt_s.observe(entry["ms"] / 1000)

    def rows_deleted(self, by_table: dict[str, int]) -> None:
        """A round of the pruner has ended."""
        for table, count in by_table.items():
            self._pruned.labels(table).inc(count)

    def _counter(self, name: str, about: str, *labels: str) -> Counter:
        return Counter(name, about, labels, NAMESPACE, registry=self.registry)

    def _histogram(self, name: str, about: str, buckets_s: tuple[float, ...], *labels: str) -> Histogram:
        return Histogram(name, about, labels, NAMESPACE, buckets=buckets_s, registry=self.registry)
