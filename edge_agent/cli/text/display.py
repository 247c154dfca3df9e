"""Words of the local API as people read them, in the language of the locale.

The API's keys and states are English words; unknown ones are shown as they are.
"""

from __future__ import annotations

from edge_agent.cli.text.language import _, marked

DOORS = {"open": marked("open"), "closed": marked("closed"), "unknown": marked("unknown")}
FLAGS = {"blocked": marked("blocked"), "faulty": marked("faulty"), "worn": marked("worn")}
CLIMATES = {"off": marked("off"), "heating": marked("heating"), "cooling": marked("cooling")}
DEVICES = {"answering": marked("answering"), "failing": marked("failing"), "dead": marked("dead")}
STATUSES = {
    "IDLE": marked("idle"),
    "RESERVED": marked("reserved"),
    "OCCUPIED": marked("occupied"),
    "IN_GRACE": marked("in grace"),
    "AWAITING_CLEANUP": marked("clean up"),
    "AWAITING_INSPECTION": marked("inspect"),
}
"""Statuses of cells where there is no room for their names."""
VERDICTS = {
    "good": marked("good"),
    "warning": marked("warning"),
    "fault": marked("fault"),
    "unknown": marked("unknown"),
}
PURPOSES = {
    "dropoff": marked("drop-off"),
    "pickup": marked("pick-up"),
    "open-door": marked("open-door"),
    "technician": marked("technician"),
    "self-test": marked("self-test"),
}
STATES = {
    "connected": marked("connected"),
    "disconnected": marked("not connected"),
    "sound": marked("sound"),
    "asking": marked("asking"),
    "lost": marked("lost"),
}
"""Values in `/v1/status`."""
KEYS = {
    "machine_id": marked("machine id"),
    "agent_version": marked("version"),
    "boot_id": marked("boot id"),
    "clock_synced": marked("clock synchronised"),
    "clock_difference_s": marked("clock difference in s"),
    "broker": marked("broker"),
    "history": marked("history"),
    "storage_fault": marked("storage fault"),
    "cells": marked("cells"),
    "live_reservations": marked("live reservations"),
    "unlocks_at_work": marked("unlocks at work"),
    "unlocks_waiting": marked("unlocks waiting"),
    "events_waiting": marked("events waiting"),
    "last_sequence": marked("last event"),
    "configuration": marked("configuration"),
    "file": marked("file"),
    "number": marked("number"),
    "loaded_at": marked("loaded at"),
    "failed": marked("failed"),
    "requests": marked("requests"),
    "replies": marked("replies"),
    "timeouts": marked("timeouts"),
    "bad_replies": marked("damaged"),
    "damaged": marked("damaged"),
    "exceptions": marked("exceptions"),
    "late": marked("late"),
    "late_replies": marked("late"),
    "unasked": marked("unasked"),
    "glitches": marked("glitches"),
    "stray_bytes": marked("stray bytes"),
    "port_losses": marked("port losses"),
}
"""Keys of `/v1/status` and counters of buses."""


DETAILS = {
    "outcome": marked("outcome"),
    "reason": marked("reason"),
    "recovered": marked("recovered"),
    "status": marked("status"),
    "blocked": marked("blocked"),
    "faulty": marked("faulty"),
    "cause": marked("cause"),
    "platform_reference_id": marked("reference"),
    "maintenance_ticket_id": marked("maintenance ticket"),
    "description": marked("description"),
    "severity": marked("severity"),
    "alarm": marked("alarm"),
    "device": marked("device"),
}
"""Fields of an event that have no column of their own (`edge_agent.protocol.events.EventDetail`)."""


def detail_word(name: str) -> str:
    """A field of an event."""
    return _(DETAILS[name]) if name in DETAILS else name.replace("_", " ")


def door_word(door: str) -> str:
    """A state of a door."""
    return _word(DOORS, door)


def flag_word(flag: str) -> str:
    """Blocked, faulty, worn."""
    return _word(FLAGS, flag)


def climate_word(climate: str) -> str:
    """What heater and cooler of a cell do."""
    return _word(CLIMATES, climate)


def device_word(state: str) -> str:
    """How a device answers."""
    return _word(DEVICES, state)


def status_word(status: str) -> str:
    """A status of a cell, in lower case."""
    return _(STATUSES[status]) if status in STATUSES else status.replace("_", " ").lower()


def verdict_word(verdict: str) -> str:
    """A verdict of the self-test."""
    return _word(VERDICTS, verdict)


def purpose_word(purpose: str) -> str:
    """Why a door was unlocked."""
    return _word(PURPOSES, purpose)


def state_word(state: str) -> str:
    """A value of `/v1/status`."""
    return _word(STATES, state)


def key_word(key: str) -> str:
    """A key of the local API."""
    return _(KEYS[key]) if key in KEYS else key.replace("_", " ")


def _word(known: dict[str, str], word: str) -> str:
    return _(known[word]) if word in known else word
