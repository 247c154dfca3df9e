"""A larger cell at the kiosk's screen, on a whole bench."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Route, expect

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


@pytest.mark.parametrize("moved", [False, True])
def test_without_an_answer_the_code_shows_the_parcels_cell(bench: Bench, kiosk: Kiosk, moved: bool) -> None:
    made, label = reserved(bench)
    rid = made["reservation_id"]

    def lost(route: Route) -> None:
        if moved:
            route.fetch()
        route.abort()

    kiosk.page.route("**/larger-cell", lost)
    kiosk.type(made["drop_off_code"])
    kiosk.touch("larger")
    kiosk.at("try_again")
    cell = bench.reservation(rid)["cell"]["description"]
    assert (cell != label) is moved
    kiosk.touch("retry")
    kiosk.at("opened")
    assert kiosk.marked() == cell
    bench.person(cell, "place", "close")
    kiosk.at("closed")
    wait_for(lambda: bench.status(rid) == "DROPPED_OFF")
    if moved:
        bench.person(label, "close")
        wait_for(lambda: bench.command("clear", label).returncode == 0)


@pytest.mark.parametrize("result", ["busy", "not_opened"])
def test_a_parcel_that_has_moved_is_not_left_in_the_old_cell(bench: Bench, kiosk: Kiosk, result: str) -> None:
    made, label = reserved(bench)
    kiosk.page.route("**/larger-cell", answering({"result": result, "cell": "C08"}))
    kiosk.type(made["drop_off_code"])
    kiosk.touch("larger")
    kiosk.at(result)
    assert kiosk.marked() == "C08"
    bench.person(label, "place", "close")
    kiosk.at(result)
    wait_for(lambda: bench.status(made["reservation_id"]) == "DROPPED_OFF")
