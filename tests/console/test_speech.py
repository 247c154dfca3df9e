"""Speech at the kiosk's screen: a real espeak-ng, and what happens without it."""

from __future__ import annotations

import io
import stat
import wave
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import httpx
import pytest

from edge_agent.config.screen import Language, ScreenSection
from edge_agent.console.screen import speech
from edge_agent.console.screen.server import create_screen
from edge_agent.console.screen.speech import LONGEST_TEXT, Speech, SpeechBody
from edge_agent.errors import Code, Refusal
from tests.console.test_screen import OWN


def texts(language: Language) -> SpeechBody:
    words = {
        "en": "Door A01 is open.",
        "de": "Tür A01 ist offen.",
        "id": "Pintu A01 terbuka.",
        "ar": "الباب مفتوح",
    }
    return SpeechBody(language=language, text=words[language])


@pytest.mark.long  # espeak-ng is installed for the long tests
@pytest.mark.parametrize("language", ["en", "de", "id", "ar"])
async def test_a_text_becomes_sound(language: Language) -> None:
    made = await Speech("button").sound(texts(language))
    with wave.open(io.BytesIO(made)) as sound:
        assert sound.getnframes() / sound.getframerate() > 0.5
        assert set(sound.readframes(sound.getnframes())) != {0}
        assert len(made) == 44 + 2 * sound.getnframes() * sound.getnchannels()


@pytest.mark.long
async def test_a_text_is_never_an_option() -> None:
    made = await Speech("button").sound(SpeechBody(language="en", text="--version -w /tmp/x"))
    assert made.startswith(b"RIFF")


async def test_without_the_program_there_is_no_speech(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speech, "PROGRAM", "no-such-program")
    silent = Speech("always")
    assert silent.mode == "off"
    with pytest.raises(Refusal) as caught:
        await silent.sound(texts("en"))
    assert caught.value.code is Code.NOT_FOUND


@pytest.mark.parametrize(("script", "word"), [("exit 1", "no sound"), ("exec sleep 60", "does not end")])
async def test_a_program_that_fails_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, word: str
) -> None:
    program = tmp_path / "espeak-ng"
    program.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setattr(speech, "PROGRAM", str(program))
    monkeypatch.setattr(speech, "LIMIT_S", 0.3)
    with pytest.raises(Refusal, match=word):
        await Speech("button").sound(texts("en"))


async def test_a_program_that_was_removed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "removed-later"
    program.write_text("#!/bin/sh\n", encoding="utf-8")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setattr(speech, "PROGRAM", str(program))
    made = Speech("button")
    program.unlink()
    for _ in range(2):  # and holds up no later text
        with pytest.raises(Refusal, match="does not start") as caught:
            await made.sound(texts("en"))
        assert caught.value.code is Code.INTERNAL


@pytest.mark.long
async def test_the_page_gets_sound_and_bad_bodies_name_the_field() -> None:
    local: Any = SimpleNamespace(loop=SimpleNamespace(layout=SimpleNamespace(code_digits=4)))
    app = create_screen(local, cast("Any", None), ScreenSection(port=8082, speech="button"), "Hall")
    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url=OWN, headers={"Origin": OWN}) as client:
        answer = await client.post("/speech", json={"language": "en", "text": "Door A01 is open."})
        assert (answer.status_code, answer.headers["content-type"]) == (200, "audio/wav")
        for body, field in (
            ({"language": "fr", "text": "x"}, "language"),
            ({"language": "en", "text": ""}, "text"),
            ({"language": "en", "text": "x" * (LONGEST_TEXT + 1)}, "text"),
            ({"language": "en"}, "text"),
        ):
            answer = await client.post("/speech", json=body)
            assert answer.status_code == 400
            assert field in answer.text
        assert "&quot;speech&quot;: &quot;button&quot;" in (await client.get("/")).text
