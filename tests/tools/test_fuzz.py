"""The fuzzing tool itself, and a short run of it; `make fuzz` is the long one."""

from __future__ import annotations

import pytest

from edge_agent.drivers.lock_protocols import Cu16Codec
from edge_agent.drivers.requests import AddressedRequest, Codec, LockStatus
from tools.fuzz.__main__ import judge, run
from tools.fuzz.cases import CASES, Case


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_every_sound_reply_is_a_frame(case: Case) -> None:
    for reply in case.replies:
        codec = case.codec()
        found = [
            frame
            for question in case.questions
            if codec.encode(question) and (frame := codec.first_frame(reply, question, []))
        ]
        assert any(frame.skipped == 0 and frame.length == len(reply) for frame in found), reply.hex(" ")


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_damaged_frames_are_bus_faults_and_nothing_else(case: Case) -> None:
    outcome = run(case, 4000, seed=7)
    assert outcome.good, outcome
    assert outcome.faults > 1000


def test_a_codec_that_raises_is_found() -> None:
    class Stumbling(Cu16Codec):
        def values(self, question: AddressedRequest, frame: bytes) -> list[int]:
            raise IndexError("stumbled")

    def codec() -> Codec:
        return Stumbling()

    (cu16,) = [case for case in CASES if case.name == "kerong-cu16"]
    outcome = run(Case("x", codec, cu16.questions, cu16.replies), 4000, seed=1)
    assert not outcome.good
    assert "IndexError" in outcome.others[0]


def test_the_reply_is_found_after_noise() -> None:
    question = AddressedRequest(0, LockStatus(16))
    heard = bytearray(bytes.fromhex("55 02 00 35 FE FF 01 00 03 38"))
    assert judge(Cu16Codec(), heard, question, [])
    assert not heard
