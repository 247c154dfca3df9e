"""The link with a real Mosquitto under each option that limits its clients, as in `docs/brokers.md`."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from edge_agent.cloud import link as link_module
from edge_agent.mqtt.credentials import Credentials
from edge_agent.mqtt.messages import Message
from edge_agent.mqtt.packets import LATER_STEPS, NO_ANSWER, REFUSALS
from edge_agent.protocol.topics import Topics
from tests.support.broker import Broker, wait_for_port
from tests.support.secure import Watched, make_link, watched
from tools.bench.ports import free_port

TOPICS = Topics("m1")
PAGE = Path(__file__).resolve().parents[2] / "docs" / "brokers.md"
REFUSED = "the broker refuses us: "


@dataclass(frozen=True)
class Case:
    """An option of Mosquitto, and what the link reports: `refused` for good, `down` while it is retried, or
    nothing."""

    option: str
    of_listener: bool = False
    refused: str = ""
    down: str = ""


WORKING = [
    Case("max_qos 1", of_listener=True),
    Case("max_topic_alias 0", of_listener=True),
    Case("max_inflight_messages 1"),
    Case("max_queued_messages 1"),
    Case("max_keepalive 10"),
    Case("max_packet_size 65536"),
    Case("message_size_limit 65536"),
    Case("persistence false"),
    Case("queue_qos0_messages true"),
    Case("upgrade_outgoing_qos true"),
    Case("allow_zero_length_clientid false"),
]
REFUSING = [
    Case("max_qos 0", of_listener=True, refused=f"{REFUSED}QoS not supported; {REFUSALS[0x9B]}"),
    Case("retain_available false", refused=f"{REFUSED}Retain not supported; {REFUSALS[0x9A]}"),
    Case("allow_anonymous false", of_listener=True, refused=f"{REFUSED}Not authorized; {REFUSALS[0x87]}"),
    Case("clientid_prefixes other-", refused=f"{REFUSED}Not authorized; {REFUSALS[0x87]}"),
    Case("message_size_limit 20", refused=f"refused: Protocol error; {LATER_STEPS[0x82]}"),
    Case("max_packet_size 60", down=NO_ANSWER),
]


class LimitedBroker(Broker):
    """A Mosquitto with one more option, which replaces one of the same name."""

    def __init__(self, folder: Path, case: Case) -> None:
        super().__init__(folder)
        self._case = case

    def listener(self) -> list[str]:
        """See `Broker.listener`."""
        return self._with_option(super().listener()) if self._case.of_listener else super().listener()

    def common(self) -> list[str]:
        """See `Broker.common`."""
        return super().common() if self._case.of_listener else self._with_option(super().common())

    def _with_option(self, lines: list[str]) -> list[str]:
        name = self._case.option.split()[0]
        return [*(line for line in lines if line.split()[0] != name), self._case.option]


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link_module, "FIRST_REFUSED_S", 0.05)
    monkeypatch.setattr(link_module, "LONGEST_REFUSED_S", 0.2)


@asynccontextmanager
async def linked(folder: Path, case: Case) -> AsyncIterator[Watched]:
    broker = LimitedBroker(folder / "broker", case)
    broker.start()
    try:
        async with watched(make_link(broker.port, Credentials())) as seen:
            yield seen
    finally:
        broker.stop()


@pytest.mark.parametrize("case", WORKING, ids=lambda case: case.option)
async def test_a_limit_that_the_link_keeps_changes_nothing(tmp_path: Path, case: Case) -> None:
    async with linked(tmp_path, case) as seen:
        await seen.until(lambda: seen.link.up)
        results: list[bool] = []
        for number in range(50):
            seen.link.publish(Message(TOPICS.events, f"{number}" + "x" * 500), results.append)
        await seen.until(lambda: len(results) == 50)
        assert all(results)
        assert not any(seen.refusals)


@pytest.mark.parametrize("case", REFUSING, ids=lambda case: case.option)
async def test_a_limit_that_the_link_needs_is_reported_with_the_next_step(tmp_path: Path, case: Case) -> None:
    async with linked(tmp_path, case) as seen:
        if case.option.startswith("message_size_limit"):
            await seen.until(lambda: seen.link.up)
            seen.link.publish(Message(TOPICS.events, "x" * 200), lambda _: None)
        if case.refused:
            await seen.until(lambda: any(seen.refusals))
            assert [cause for cause in seen.refusals if cause] == [case.refused]
        else:
            await seen.until(lambda: case.down in downs(seen))


MQTTOOLS = f"refused: Malformed packet; {LATER_STEPS[0x81]}"


@pytest.fixture
def mqttools_port() -> Iterator[int]:
    """The port of a broker with MQTT 5 and nothing but QoS 0."""
    port = free_port()
    command = [sys.executable, "-m", "mqttools", "broker", "--host", "127.0.0.1", "--port", str(port)]
    broker = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_for_port(port)
        yield port
    finally:
        broker.kill()
        broker.wait()


async def test_a_broker_without_qos_1_is_reported_with_the_next_step(mqttools_port: int) -> None:
    async with watched(make_link(mqttools_port, Credentials())) as seen:
        await seen.until(lambda: seen.link.up)
        seen.link.publish(Message(TOPICS.events, "x"), lambda _: None)
        await seen.until(lambda: any(seen.refusals))
        assert {cause for cause in seen.refusals if cause} == {MQTTOOLS}


def downs(seen: Watched) -> list[str]:
    """Why the link went down."""
    return [entry["reason"] for entry in seen.logs if entry.get("state") == "down"]


def test_the_page_shows_this_table() -> None:
    rows = {
        line.split("|")[1].strip().strip("`"): line for line in PAGE.read_text().splitlines() if "|" in line
    }
    for case in WORKING:
        assert rows[case.option].split("|")[2].strip() == "works"
    for case in REFUSING:
        assert rows[case.option].split("|")[2].strip() == (case.refused or case.down)
    assert rows["mqttools 0.50"].split("|")[2].strip() == MQTTOOLS
