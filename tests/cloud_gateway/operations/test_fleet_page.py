"""The fleet page: where it is served, to whom, by which rules; and its texts in every language."""

from __future__ import annotations

import json
import re
from html import unescape
from pathlib import Path

import pytest

from cloud_gateway.operations import fleet_page
from cloud_gateway.settings import WallSettings
from tests.cloud_gateway.operations.test_routes import basic
from tests.cloud_gateway.support import OPERATIONS_KEY, running_gateway, settings
from tests.support.broker import Broker

BY_KEY = {"Authorization": basic(OPERATIONS_KEY)}
FOLDER = Path(fleet_page.__file__).parent
LANGUAGES = ("de", "id")
NAMED = {"reader", "support", "operator"}
"""Texts that the page gets from the gateway."""


async def test_it_is_at_the_root_and_nobody_sees_it_without_a_password(
    tmp_path: Path, broker: Broker
) -> None:
    async with running_gateway(settings(tmp_path, broker.port)) as gateway:
        for path in ("/", "/fleet", "/fleet/files/main.js", "/fleet/messages/de.json"):
            refused = await gateway.http.get(path)
            assert refused.status_code == 401, path
            assert refused.headers["WWW-Authenticate"].startswith("Basic ")
            assert (await gateway.http.get(path, headers=BY_KEY)).status_code == 200, path
        for path in ("/fleet/files/fleet.html", "/fleet/files/fleet.py", "/fleet/files/..%2fapi.py"):
            assert (await gateway.http.get(path, headers=BY_KEY)).status_code == 404, path


async def test_its_page_names_the_person_and_loads_nothing_from_elsewhere(
    tmp_path: Path, broker: Broker
) -> None:
    async with running_gateway(settings(tmp_path, broker.port)) as gateway:
        page = await gateway.http.get("/", headers={"Authorization": basic(OPERATIONS_KEY, "<b>&\"'")})
        given = re.search('data-settings="([^"]*)"', page.text)
        assert given is not None
        assert json.loads(unescape(given[1]))["name"] == "<b>&\"' (operations key)"
        assert json.loads(unescape(given[1]))["role"] == "operator"
        rules = page.headers["Content-Security-Policy"].split("; ")
        assert rules[0] == "default-src 'none'"
        assert "script-src 'self'" in rules
        assert not any("unsafe" in rule or "http" in rule for rule in rules)
        for address in re.findall(r'(?:src|href)="([^"]+)"', page.text):
            assert address.startswith(("/", "#", "data:,"))


async def test_on_a_bench_the_wall_stays_at_the_root(tmp_path: Path, broker: Broker) -> None:
    wall = WallSettings(simulator_url="http://127.0.0.1:1", platform="acme")
    given = settings(tmp_path, broker.port).model_copy(update={"wall": wall})
    async with running_gateway(given) as gateway:
        assert "Locker wall" in (await gateway.http.get("/")).text
        assert "Fleet" in (await gateway.http.get("/fleet", headers=BY_KEY)).text


async def test_without_operators_there_is_no_page(tmp_path: Path, broker: Broker) -> None:
    given = settings(tmp_path, broker.port).model_copy(update={"operations_key": None})
    async with running_gateway(given) as gateway:
        assert (await gateway.http.get("/")).status_code == 501
        for path in ("/fleet", "/api/operations/v1/machines"):
            assert (await gateway.http.get(path)).status_code == 404


def keys() -> set[str]:
    """Every text that the page looks up."""
    code = "".join(path.read_text(encoding="utf-8") for path in (FOLDER / "static").glob("*.js"))
    page = (FOLDER / "static" / "fleet.html").read_text(encoding="utf-8")
    found = set(re.findall(r'\bt\(\s*"((?:[^"\\]|\\.)+)"', code))
    return (
        found | set(re.findall(r'data-t-label="([^"]+)"', page)) | set(re.findall(r"data-t>([^<]+)<", page))
    )


def test_there_is_a_file_for_each_language_but_english() -> None:
    assert {path.stem for path in (FOLDER / "messages").iterdir()} == set(LANGUAGES)
    code = (FOLDER / "static" / "words.js").read_text(encoding="utf-8")
    languages = re.search(r"LANGUAGES = {(.*)}", code)
    assert languages is not None
    assert set(re.findall(r'(\w\w): "', languages[1])) == {*LANGUAGES, "en"}


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_text_is_translated_and_no_other(language: str) -> None:
    words = json.loads((FOLDER / "messages" / f"{language}.json").read_text(encoding="utf-8"))
    assert set(words) == keys() | NAMED
    for text, translated in words.items():
        assert translated.strip(), text
        assert sorted(re.findall(r"\{\w+\}", text)) == sorted(re.findall(r"\{\w+\}", translated)), text


def test_every_file_of_the_page_is_loaded_ahead() -> None:
    page = (FOLDER / "static" / "fleet.html").read_text(encoding="utf-8")
    named = set(re.findall(r"/fleet/files/([\w.]+)", page))
    assert named == {path.name for path in (FOLDER / "static").iterdir()} - {"fleet.html"}
