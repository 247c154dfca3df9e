"""Recorded traces: judged again by the codecs, and answered again to the owner of a bus in virtual time."""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from pathlib import Path

import pytest

from edge_agent.drivers.bus import BusOwner, Priority
from edge_agent.drivers.decode import codec_for, question_of
from edge_agent.drivers.modbus import TcpCodec
from edge_agent.drivers.profiles import BusNeeds
from edge_agent.drivers.requests import AddressedRequest, LockStatus, Read
from edge_agent.drivers.simulated.trace import TraceCable
from edge_agent.drivers.trace import TraceFrame, exchanges, read_trace
from edge_agent.errors import BadReply, BusTimeout, ConfigError, DeviceFault
from tools.replay_trace.__main__ import main
from tools.replay_trace.judge import judge
from tools.simulate.virtual_loop import VirtualLoop

TRACE = Path(__file__).parent / "traces" / "late.jsonl"
NEEDS = BusNeeds(turnaround_ms=50, drain_ms=100)
INPUTS = (1, 0, 0, 0, 0, 1, 1, 0)
TAKEN = [
    ("answer", INPUTS),
    ("silence", ()),
    ("answer", INPUTS),
    ("answer", (0xD8,)),
    ("answer", ()),
    ("damaged", ()),
    ("exception", ()),
    ("damaged", ()),
    ("answer", (1, 0, 0, 0, 0, 0, 1, 0)),
]


def test_a_trace_is_judged_request_by_request() -> None:
    judged = judge(read_trace(TRACE))
    assert [(one.taken, one.values) for one in judged] == TAKEN
    assert judged[2].late == ("5: read 1 registers from 0",)
    assert judged[2].words == "inputs 1,6,7 high"
    assert [one.words for one in judged[5:8]] == [
        "checksum is wrong",
        "address 11: Modbus exception 2",
        "2 bytes, not 6",
    ]


def test_a_reply_after_its_device_owes_none_is_not_taken_for_late() -> None:
    judged = judge(read_trace(TRACE), late_s=0.05)
    assert judged[2].late == ()
    assert judged[2].taken == "answer"
    assert judged[2].rest  # the late reply


def test_the_daemon_handles_a_trace_as_it_was_judged() -> None:
    frames = read_trace(TRACE)

    async def run() -> None:
        cable = TraceCable(asyncio.get_running_loop(), frames)
        bus = BusOwner("main", cable, baud=19200, bits_per_character=10)
        task = asyncio.create_task(bus.run())
        await bus.wait_open(1)
        lived: list[tuple[str, tuple[int, ...]]] = []
        for sent, _ in exchanges(frames):
            question = question_of("modbus", sent.data)
            assert question is not None
            try:
                asked = bus.transact(question.address, question.request, NEEDS, Priority.WATCH)
                lived.append(("answer", tuple(await asked)))
            except BusTimeout:
                lived.append(("silence", ()))
            except BadReply:
                lived.append(("damaged", ()))
            except DeviceFault:
                lived.append(("exception", ()))
        assert lived == TAKEN
        assert (cable.left, cable.unknown) == (0, 0)
        assert bus.counters.late_replies == 1
        with pytest.raises(BusTimeout):
            await bus.transact(9, Read(3, 0, 1), NEEDS, Priority.WATCH)
        assert cable.unknown == 1
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(run())


def lines(wire: str, *frames: tuple[str, str]) -> list[TraceFrame]:
    return [
        TraceFrame.model_validate(
            {"at_s": n / 100, "bus": "b", "protocol": wire, "direction": direction, "hex": data}
        )
        for n, (direction, data) in enumerate(frames)
    ]


def test_lock_boards_are_judged_too() -> None:
    (status, unlock) = judge(
        lines(
            "8a",
            ("sent", "80 01 00 33 B2"),
            ("heard", "82 01 01 00 82"),
            ("heard", "80 01 00 00 05 33 B7"),
            ("sent", "8A 01 03 11 99"),
        ),
        channels=24,
    )
    assert (status.taken, status.unasked) == ("answer", 1)
    assert [n for n, value in enumerate(status.values, 1) if value] == [1, 3]
    assert unlock.taken == "silence"
    (quiet,) = judge(lines("kerong-cu16", ("sent", "02 00 31 03 36")))
    assert quiet.taken == "no reply is given"
    ask = "57 4B 4C 59 08 00 84 85"
    (wkly,) = judge(lines("wkly", ("sent", ask), ("heard", "57 4B 4C 59 0E 00 84 00 04 00 01 01 00 87")))
    assert wkly.values == (0, 1, 1, 0)
    assert codec_for("wkly").encode(AddressedRequest(0, LockStatus(4))).hex(" ").upper() == ask


def test_a_network_is_judged_by_transaction() -> None:
    frame = TcpCodec(0x1233).encode(AddressedRequest(7, Read(3, 20, 1))).hex()
    reply = "1234 0000 0005 07 03 02 002A"
    old = "1233 0000 0005 07 03 02 0001"
    (one, two) = judge(
        lines("modbus-tcp", ("sent", frame), ("heard", old), ("heard", reply), ("sent", "00" * 12))
    )
    assert (one.taken, one.values, one.unasked) == ("answer", (42,), 1)
    assert two.taken == "not a request"


def test_lost_bytes_belong_to_no_request() -> None:
    frames = lines(
        "modbus",
        ("heard", "01"),
        ("sent", "01 02 00 00 00 08 79 CC"),
        ("lost", ""),
        ("heard", "01 02 01 61 60 60"),
        ("sent", "01 02 00 00 00 08 79 CC"),
        ("heard", "01 02 01 61 60 60"),
    )
    assert [len(heard) for _, heard in exchanges(frames)] == [0, 1]


def test_the_tool_prints_a_line_a_request(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main([str(TRACE)]) == 0
    out = capsys.readouterr().out.splitlines()
    assert len(out) == len(TAKEN) + 1
    assert out[2].endswith("answer; inputs 1,6,7 high; late: 5: read 1 registers from 0")
    assert out[-1] == "9 requests: 5 answer, 2 damaged, 1 silence, 1 exception"
    assert main([str(TRACE), "--json"]) == 0
    assert [row["taken"] for row in json.loads(capsys.readouterr().out)] == [taken for taken, _ in TAKEN]
    wrong = tmp_path / "wrong.jsonl"
    wrong.write_text('{"at_s": 1, "direction": "sent", "hex": "01"}\n{"at_s": 1}\nx\n', encoding="utf-8")
    assert main([str(wrong)]) == 2
    assert [line.split(":")[1] for line in capsys.readouterr().err.splitlines()] == ["2", "3"]
    with pytest.raises(ConfigError):
        read_trace(tmp_path / "none.jsonl")
