"""The order of an update: fetch, wait for a quiet moment, switch, prove good, keep or go back.

Every step can be cut off by a power failure at any instant. What has to be known afterwards is written before
the step begins; the link to the version in use is switched by one rename.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

from edge_updater.state import Outcome, Result, State, Trial, Wanted

PROVES_GOOD_S = 300.0
"""A version is kept when the machine was well under it for this long without a break."""
LONGEST_TRIAL_S = 900.0
"""A version that has not proved good after this time is taken back."""
NO_ANSWER_S = 4.0
"""A version whose daemon does not answer for this long is taken back at once: the machine serves nobody. A
start takes 1 s on a fast board, 3 s on a slow one."""
UPGRADING_S = 120.0
"""The same while the daemon reports that it upgrades its journal."""
MOST_BOOTS = 3
"""A trial that has seen this many boots of the board ends: the version may be their cause."""
FETCH_PAUSES_S = (60.0, 300.0, 900.0, 1800.0, 3600.0)
"""Pauses between attempts to fetch a package; after the last one the version has failed."""


class FetchFailed(Exception):
    """The package could not be fetched now; a later attempt may succeed."""


class Unusable(Exception):
    """The version cannot be used on this machine, also not later; the text says why."""


@dataclass(frozen=True, slots=True)
class Health:
    """What the daemon says of itself. `quiet`: no door is being opened, no command waits, nobody stands at
    the machine. `buses`: those that are up. `restarts`: how often the supervisor has restarted the daemon by
    itself since somebody started it."""

    answers: bool
    version: str = ""
    quiet: bool = False
    broker: bool = False
    journal: bool = False
    buses: frozenset[str] = frozenset()
    restarts: int = 0
    upgrading: bool = False


class Host(Protocol):
    """The machine, as far as the updater changes or reads it."""

    boot_id: str

    def wanted(self) -> Wanted | None:
        """What the daemon has handed over."""

    def load(self) -> State:
        """The state on the disk."""

    def save(self, state: State) -> None:
        """Replaces the state; it is on the disk when this returns."""

    def current(self) -> str:
        """The version that the daemon runs at its next start."""

    def has(self, version: str) -> bool:
        """Whether a version is unpacked, whole and on the disk."""

    def fetch(self, version: str) -> None:
        """Fetches, verifies and unpacks a version beside the others. Raises `FetchFailed` and `Unusable`."""

    def switch(self, version: str) -> None:
        """Makes a version the current one, at once and whole; it is on the disk when this returns."""

    def restart(self, *, at_once: bool = False) -> None:
        """Restarts the daemon; `at_once`: without waiting for its orderly end."""

    def health(self) -> Health:
        """What the daemon says now."""

    def remove_others(self, *kept: str) -> None:
        """Removes every unpacked version but these."""


class Updater:
    """Carries out one wanted version after the other. `step` is called every few seconds; it returns a line
    for the log, or an empty text."""

    def __init__(self, host: Host, proves_good_s: float = PROVES_GOOD_S) -> None:
        self._host = host
        self._proves_good_s = proves_good_s
        self._state = host.load()
        self._fetches = 0
        self._fetch_at_s = 0.0
        self._began_s: float | None = None
        self._well_since_s: float | None = None
        self._answered_s = 0.0

    def step(self, now_s: float) -> str:
        """Does what is due; `now_s`: a clock that only goes forward."""
        trial = self._state.trial
        if trial is not None:
            if self._began_s is None:
                return self._resume(trial, now_s)
            return self._watch(trial, now_s)
        wanted = self._host.wanted()
        if wanted is None or (self._state.outcome is not None and self._state.outcome.wanted == wanted):
            return ""
        if self._host.current() == wanted.version and self._host.health().version == wanted.version:
            return self._end(wanted, "APPLIED", "the version was in use already")
        if not self._host.has(wanted.version):
            return self._fetch(wanted, now_s)
        return self._begin(wanted, now_s)

    def _fetch(self, wanted: Wanted, now_s: float) -> str:
        if now_s < self._fetch_at_s:
            return ""
        try:
            self._host.fetch(wanted.version)
        except Unusable as problem:
            return self._end(wanted, "FAILED", str(problem))
        except FetchFailed as problem:
            if self._fetches >= len(FETCH_PAUSES_S):
                return self._end(wanted, "FAILED", f"the package could not be fetched: {problem}")
            self._fetch_at_s = now_s + FETCH_PAUSES_S[self._fetches]
            self._fetches += 1
            return f"version {wanted.version} could not be fetched, will be retried: {problem}"
        self._fetches, self._fetch_at_s = 0, 0.0
        return f"version {wanted.version} is unpacked; waiting for a quiet moment"

    def _begin(self, wanted: Wanted, now_s: float) -> str:
        """Switches if the machine is quiet and well: without that nobody could judge the new version."""
        host, health = self._host, self._host.health()
        if not (health.answers and health.quiet and health.broker and health.journal):
            return ""
        trial = Trial(wanted, host.current(), tuple(sorted(health.buses)), host.boot_id)
        self._save(replace(self._state, trial=trial))
        host.switch(wanted.version)
        self._start_watching(now_s)
        host.restart()
        return f"version {wanted.version} is on trial; version {trial.previous} is kept"

    def _resume(self, trial: Trial, now_s: float) -> str:
        """Goes on after a restart of the updater or of the board."""
        host = self._host
        if trial.failure:
            return self._go_back(trial)
        if host.current() != trial.wanted.version:  # cut off before the switch: nothing has changed yet
            self._save(replace(self._state, trial=None))
            return f"version {trial.wanted.version} was not switched to; waiting for a quiet moment"
        if trial.boot_id != host.boot_id:
            trial = replace(trial, boot_id=host.boot_id, boots=trial.boots + 1)
            self._save(replace(self._state, trial=trial))
        if trial.boots > MOST_BOOTS:
            return self._take_back(trial, f"the board started {trial.boots} times during the trial")
        self._start_watching(now_s)
        return f"the trial of version {trial.wanted.version} begins anew"

    def _start_watching(self, now_s: float) -> None:
        self._began_s = self._answered_s = now_s
        self._well_since_s = None

    def _watch(self, trial: Trial, now_s: float) -> str:
        health = self._host.health()
        why = self._unwell(trial, health)
        if health.restarts:
            return self._take_back(trial, "the daemon ended by itself or by the watchdog")
        if health.answers:
            self._answered_s = now_s
        elif now_s - self._answered_s >= (UPGRADING_S if health.upgrading else NO_ANSWER_S):
            return self._take_back(trial, "the daemon does not answer")
        if why:
            self._well_since_s = None
        elif self._well_since_s is None:
            self._well_since_s = now_s
        if self._well_since_s is not None and now_s - self._well_since_s >= self._proves_good_s:
            self._host.remove_others(trial.wanted.version, trial.previous)
            return self._end(trial.wanted, "APPLIED", "")
        assert self._began_s is not None
        if now_s - self._began_s >= LONGEST_TRIAL_S:
            return self._take_back(trial, why or "the machine was not well for long enough")
        return ""

    def _unwell(self, trial: Trial, health: Health) -> str:
        """Why the machine is not well; empty if it is."""
        if not health.answers:
            return "the daemon does not answer"
        if health.version != trial.wanted.version:
            return f"the daemon reports version {health.version}"
        if not health.journal:
            return "the journal cannot be written"
        if missing := set(trial.buses) - health.buses:
            return f"these buses are down: {', '.join(sorted(missing))}"
        return "" if health.broker else "the broker is not reached"

    def _take_back(self, trial: Trial, failure: str) -> str:
        """Records why, and only then goes back: a power cut in between leads to the same version."""
        trial = replace(trial, failure=failure)
        self._save(replace(self._state, trial=trial))
        return self._go_back(trial)

    def _go_back(self, trial: Trial) -> str:
        host = self._host
        if host.current() != trial.previous:
            host.switch(trial.previous)
        if host.health().version != trial.previous:  # after a power cut it may run already
            host.restart(at_once=True)
        return self._end(trial.wanted, "REVERTED", trial.failure)

    def _end(self, wanted: Wanted, result: Result, detail: str) -> str:
        self._save(State(None, Outcome(wanted, result, detail)))
        self._began_s, self._fetches, self._fetch_at_s = None, 0, 0.0
        return f"version {wanted.version}: {result}{f': {detail}' if detail else ''}"

    def _save(self, state: State) -> None:
        self._host.save(state)
        self._state = state
