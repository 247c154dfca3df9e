"""A larger cell at the kiosk's screen, on a whole bench."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, expect

from tests.support.bench import Bench, running_bench, wait_for
from tests.support.screens.kiosk import Kiosk, answering, plain, reserved

pytestmark = pytest.mark.long
LARGEST = {"width": 340, "height": 390, "depth": 440, "weight": 900}


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with running_bench(tmp_path_factory.mktemp("bench")) as bench:
        yield bench


@pytest.fixture
def kiosk(bench: Bench, browser: Browser) -> Iterator[Kiosk]:
    kiosk = Kiosk(bench, browser)
    yield kiosk
    kiosk.close()


@pytest.mark.parametrize("language", ["en", "id"])
def test_a_parcel_that_does_not_fit_gets_a_larger_cell(bench: Bench, kiosk: Kiosk, language: str) -> None:
    words = kiosk.language(language)
    made, label = reserved(bench)
    rid = made["reservation_id"]
    kiosk.type(made["drop_off_code"])
    kiosk.says(plain(words["opened.title"], cell=label))
    kiosk.well()
    kiosk.touch("larger")
    wait_for(lambda: bench.reservation(rid)["cell"]["description"] != label)
    larger = bench.reservation(rid)["cell"]["description"]
    kiosk.says(plain(words["opened.title"], cell=larger), words["opened.dropoff"])
    assert kiosk.marked() == larger
    expect(kiosk.page.locator("[data-act=larger]")).to_have_count(0)
    expect(kiosk.page.locator("#notice")).to_contain_text(label)  # the first door stands open
    kiosk.well()
    bench.person(label, "close")
    bench.person(larger, "place", "close")
    kiosk.at("closed")
    wait_for(lambda: bench.status(rid) == "DROPPED_OFF")
    wait_for(lambda: bench.cell_status(label) == "AWAITING_INSPECTION")
    assert bench.command("clear", label).returncode == 0


def test_without_a_larger_cell_the_page_says_whom_to_call(bench: Bench, kiosk: Kiosk) -> None:
    made = bench.reserve(LARGEST, grace_period_pickup_in_seconds=60)
    rid = made["reservation_id"]
    label = bench.reservation(rid)["cell"]["description"]
    kiosk.page.route("**/larger-cell", answering({"result": "no_larger_cell"}))
    kiosk.type(made["drop_off_code"])
    kiosk.at("opened")
    expect(kiosk.page.locator("[data-act=larger]")).to_have_count(0)  # it is the largest
    bench.person(label, "place", "close")
    wait_for(lambda: bench.status(rid) == "DROPPED_OFF")
    made, label = reserved(bench)
    kiosk.type(made["drop_off_code"])
    kiosk.touch("larger")
    kiosk.says("No larger cell is free")
    assert kiosk.marked() == label
    kiosk.well()
    bench.person(label, "place", "close")
    kiosk.at("closed")
