"""What passes on a bus is shown in the language of the locale."""

from __future__ import annotations

import ast
import re

import pytest

from edge_agent.cli.text.frame_words import DAMAGES, SENTENCES, frame_words
from edge_agent.cli.text.language import in_language
from edge_agent.drivers.decode import EXCEPTIONS, Decoder
from edge_agent.drivers.profiles import load_profile
from edge_agent.drivers.simulated.slave import with_crc
from tools.bench.settings import REPOSITORY
from tools.messages.extract import template

PROFILES = REPOSITORY / "config" / "devices"
SOURCES = ("decode.py", "modbus.py", "lock_protocols.py")
GERMAN = {
    "-> locks_c(3) read 8 inputs from 0": "-> locks_c(3) 8 Eingänge ab 0 lesen",
    "<- locks_c(3) inputs 1,2,8 high": "<- locks_c(3) Eingänge 1,2,8 auf High",
    "<- locks_c(3) inputs all low": "<- locks_c(3) Eingänge: alle auf Low",
    "<- scale_c04(18) registers from 6: 2048 0 0": "<- scale_c04(18) Register ab 6: 2048 0 0",
    "-> locks_a(1) pulse channel 3 for 300 ms": "-> locks_a(1) Impuls auf Kanal 3, 300 ms",
    "-> locks_a(1) write coil 520: 0x0003": "-> locks_a(1) Coil 520 schreiben: 0x0003",
    "<- locks_a(1) late: inputs 1 high": "<- locks_a(1) verspätet: Eingänge 1 auf High",
    "<- locks_a(1) damaged: checksum is wrong": "<- locks_a(1) beschädigt: die Prüfsumme stimmt nicht",
    "<- unasked from ?(9)": "<- ungefragt von ?(9)",
    "<- nobody was asked": "<- niemand war gefragt",
}


@pytest.mark.parametrize("english", GERMAN)
def test_a_frame_is_shown_in_german(english: str) -> None:
    with in_language("de"):
        assert frame_words(english) == GERMAN[english]
    with in_language("en"):
        assert frame_words(english) == english


@pytest.mark.parametrize("code", EXCEPTIONS)
@pytest.mark.parametrize("language", ["de", "id"])
def test_each_exception_is_translated(language: str, code: int) -> None:
    english = f"<- locks_a(1) exception {code}: {EXCEPTIONS[code]}"
    with in_language(language):
        said = frame_words(english)
    assert EXCEPTIONS[code] not in said
    assert str(code) in said


def test_what_is_not_known_stays_as_it_is() -> None:
    with in_language("de"):
        assert frame_words("<- locks_a(1) a new sentence") == "<- locks_a(1) a new sentence"


def test_what_a_real_decoder_says_is_translated() -> None:
    decoder = Decoder("modbus", {1: ("locks_a", load_profile(PROFILES / "waveshare-io-8ch.toml"))})
    asked = decoder.words("sent", with_crc(bytes.fromhex("01 02 00 00 00 08")))
    answered = decoder.words("heard", with_crc(bytes.fromhex("01 02 01 61")))
    cut = decoder.words("heard", bytes.fromhex("01 02 01 61"))
    with in_language("id"):
        said = [frame_words(one) for one in (asked, answered, cut)]
    assert said == [
        "-> locks_a(1) baca 8 masukan mulai 0",
        "<- locks_a(1) masukan 1,6,7 tinggi",
        "<- locks_a(1) rusak: 4 byte, bukan 6",
    ]


def damages() -> list[str]:
    """The reasons that the codecs give for a damaged reply, with holes for values."""
    found = []
    for name in SOURCES:
        tree = ast.parse((REPOSITORY / "edge_agent" / "drivers" / name).read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "BadReply":
                (said,) = node.args
                found.append(template(said) if isinstance(said, ast.JoinedStr) else ast.literal_eval(said))
    return found


def test_every_damage_has_a_sentence() -> None:
    known = {re.sub(r"\{\w+\}", "{}", one) for one in DAMAGES}
    assert len(damages()) > 5
    for reason in damages():
        assert re.sub(r"\{\w+\}", "{}", reason) in known, reason


def test_no_sentence_hides_another_one() -> None:
    plain = [re.sub(r"\{\w+\}", "7", one) for one in (*SENTENCES, *DAMAGES) if "{points}" not in one]
    with in_language("de"):
        said = [frame_words(one) for one in plain]
    assert len(set(said)) == len(plain)
    assert not set(plain) & set(said)
