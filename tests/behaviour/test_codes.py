"""Sentences on codes that no other test shows, or not whole."""

from __future__ import annotations

import random
import secrets
from hmac import compare_digest
from pathlib import Path

import pytest

from edge_agent.app import system_environment
from edge_agent.config import load_settings
from edge_agent.model import Alarm, Purpose, ReservationStatus, qr_text
from edge_agent.runtime.ids import Ids
from edge_agent.statemachine.codes import access
from edge_agent.statemachine.inputs import Reserve
from edge_agent.statemachine.state import Layout
from tests.support.pure_core.core import SMALL, Core, specs
from tests.support.site import Site, at_site
from tools.bench.settings import REPOSITORY


@pytest.mark.behaviour("codes-01")
@pytest.mark.parametrize("digits", [4, 6])
def test_codes_have_four_digits_or_as_many_as_configured(digits: int) -> None:
    core = Core(Layout(specs={spec.label: spec for spec in specs()}, code_digits=digits))
    made = core.feed(Reserve("k", "res_1", "p", "o", SMALL, Ids(random.Random(1)).candidate_codes(digits)))
    late = core.feed(Reserve("k", "res_2", "p", "o", SMALL, ())).answers[0].reservation
    first = made.answers[0].reservation
    assert first is not None
    assert late is not None
    for code in (first.drop_off_code, first.pickup_code, late.drop_off_code, late.pickup_code):
        assert len(code) == digits
        assert code.isdecimal()
    assert load_settings(REPOSITORY / "config" / "demo.toml").codes.code_digits == 4


@pytest.mark.behaviour("codes-02")
def test_all_live_codes_differ_even_when_the_generator_repeats_itself() -> None:
    core = Core()
    unlucky = ("0011", "0022", "0033")
    made = [core.feed(Reserve("k", f"res_{n}", "p", "o", SMALL, unlucky)) for n in range(5)]
    live = [r for done in made if (r := done.answers[0].reservation) is not None]
    codes = [code for r in live for code in (r.drop_off_code, r.pickup_code)]
    assert codes[:3] == ["0011", "0022", "0033"]
    assert len(set(codes)) == 10


@pytest.mark.behaviour("codes-03")
def test_the_machine_draws_from_the_kernels_generator() -> None:
    ids = system_environment(load_settings(REPOSITORY / "config" / "demo.toml")).ids
    assert type(ids._source) is secrets.SystemRandom
    assert ids.candidate_codes(4) != ids.candidate_codes(4)


@pytest.mark.behaviour("codes-04")
def test_an_ended_code_is_not_issued_again_for_seven_days() -> None:
    core = Core()
    ended = core.reserve()
    core.feed(core.cancel(ended))
    again = (ended.drop_off_code, ended.pickup_code, *(f"{n:04d}" for n in range(9000, 9010)))
    core.pass_s(7 * 24 * 3600)
    early = core.feed(Reserve("k", "res_a", "p", "o", SMALL, again)).answers[0].reservation
    assert early is not None
    assert early.drop_off_code == "9000"
    core.pass_s(1)
    late = core.feed(Reserve("k", "res_b", "p", "o", SMALL, again)).answers[0].reservation
    assert late is not None
    assert (late.drop_off_code, late.pickup_code) == (ended.drop_off_code, ended.pickup_code)


@pytest.mark.behaviour("codes-07", "codes-08")
def test_each_code_is_valid_in_its_statuses_only() -> None:
    core = Core()
    reservation = core.reserve(grace_dropoff_s=60, grace_pickup_s=60)
    core.invalid(reservation.pickup_code)
    core.opens(core.entry(reservation.drop_off_code))
    core.close(reservation.cell)
    core.pass_s(60)
    core.opens(core.entry(reservation.drop_off_code))
    core.close(reservation.cell)
    core.pass_s(1)
    core.invalid(reservation.drop_off_code)
    core.opens(core.entry(reservation.pickup_code))
    core.close(reservation.cell)
    core.invalid(reservation.drop_off_code)
    core.pass_s(60)
    assert core.live(reservation).status is ReservationStatus.PICKED_UP
    core.opens(core.entry(reservation.pickup_code))
    core.pass_s(1)
    core.invalid(reservation.pickup_code)


@pytest.mark.behaviour("codes-09")
def test_codes_open_with_the_link_down(tmp_path: Path) -> None:
    async def test(site: Site) -> None:
        made = await site.reserve()
        agent, link = site.plant.agent, site.plant.broker.link
        assert agent is not None
        assert link is not None
        link._up = False
        label = made["cell"]["description"]
        for code in (made["drop_off_code"], made["pickup_code"]):
            assert (await agent.local.enter_code(code)).refusal is None
            site.plant.world.close(label)
            await site.until(lambda: agent.loop.state.cells[label].settled)
        assert agent.loop.state.reservations["res_1"].status is ReservationStatus.PICKED_UP

    at_site(tmp_path, test)


@pytest.mark.behaviour("codes-11")
def test_a_right_code_whose_lock_jams_names_the_cell(tmp_path: Path) -> None:
    async def test(site: Site) -> None:
        made = await site.reserve()
        agent = site.plant.agent
        assert agent is not None
        await site.call("dropoff", "res_1")
        site.plant.world.close(made["cell"]["description"])
        await site.until(lambda: "DROPOFF" in site.types())
        site.plant.world.jam(made["cell"]["description"], True)
        jammed = await agent.local.enter_code(made["pickup_code"])
        unknown = await agent.local.enter_code("no code")
        await site.until(lambda: "PICKUP_FAILED" in site.types())
        said = [str(answer.refusal.message) for answer in (jammed, unknown) if answer.refusal is not None]
        assert said[0].startswith(f"the door of cell {made['cell']['description']} did not open")
        assert "call for help" in said[0]
        assert said[1] == "not valid"

    at_site(tmp_path, test)


@pytest.mark.behaviour("codes-11", "codes-18")
def test_a_resting_keypad_answers_only_not_valid() -> None:
    core = Core()
    reservation = core.reserve()
    for _ in range(5):
        core.invalid("no code")
    assert f"{Alarm.CODE_GUESSING}/digits" in core.state.alarms
    core.invalid(reservation.drop_off_code)


@pytest.mark.behaviour("codes-14")
def test_the_first_opening_of_a_code_forgives_the_entries_of_a_minute() -> None:
    core = Core()
    reservations = [core.reserve() for _ in range(3)]
    for reservation in reservations:
        for _ in range(4):
            core.invalid("no code")
        core.opens(core.entry(reservation.drop_off_code))
        core.close(reservation.cell)
    assert f"{Alarm.CODE_GUESSING}/digits" not in core.state.alarms
    for _ in range(3):
        core.invalid("no code")
    core.pass_s(61)
    core.opens(core.entry(core.reserve().drop_off_code))
    for _ in range(2):
        core.invalid("no code")
    assert f"{Alarm.CODE_GUESSING}/digits" in core.state.alarms


@pytest.mark.behaviour("codes-14")
def test_w14_a_code_of_one_s_own_does_not_switch_the_limit_off() -> None:
    """Four wrong codes, then one's own valid one, again and again; also with its door left open."""
    for closes in (True, False):
        core = Core()
        own = core.reserve(grace_dropoff_s=86_400)
        core.opens(core.entry(own.drop_off_code))
        wrong = 0
        while f"{Alarm.CODE_GUESSING}/digits" not in core.state.alarms:
            for _ in range(4):
                wrong += f"{Alarm.CODE_GUESSING}/digits" not in core.state.alarms
                core.invalid("no code")
            core.pass_s(2)
            if f"{Alarm.CODE_GUESSING}/digits" in core.state.alarms:
                break
            if closes:
                core.close(own.cell)
            core.opens(core.entry(own.drop_off_code))
        assert wrong == 5


def test_no_more_than_twenty_wrong_digits_in_an_hour_and_sixty_in_a_day() -> None:
    core = Core()
    wrong = 0
    for _ in range(24 * 60):
        core.pass_s(60)
        if f"{Alarm.CODE_GUESSING}/digits" not in core.state.alarms:
            core.invalid("no code")
            wrong += 1
    assert 40 < wrong < 84
    core = Core()
    for number in range(19):
        core.pass_s(80)
        core.invalid("no code")
        assert (number, set(core.state.alarms)) == (number, set())
    core.pass_s(80)
    core.invalid("no code")
    assert "3600 s; a full right QR text" in core.state.alarms[f"{Alarm.CODE_GUESSING}/digits"].detail


@pytest.mark.behaviour("codes-19")
def test_guessing_digits_leaves_the_scanner_alone() -> None:
    core = Core()
    reservation = core.reserve()
    for _ in range(5):
        core.invalid("no code")
    core.opens(core.entry(qr_text(Purpose.DROPOFF, reservation.reservation_id, reservation.drop_off_code)))


@pytest.mark.behaviour("codes-20")
def test_every_live_code_is_compared_in_constant_time_whatever_was_entered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    core = Core()
    reservations = [core.reserve() for _ in range(3)]
    compared: list[str] = []

    def noting(entered: str, code: str) -> bool:
        compared.append(code)
        return compare_digest(entered, code)

    monkeypatch.setattr(access, "compare_digest", noting)
    every = sorted(code for r in reservations for code in (r.drop_off_code, r.pickup_code))
    first, last = reservations[0].drop_off_code, reservations[-1].pickup_code
    qr = qr_text(Purpose.DROPOFF, reservations[0].reservation_id, first)
    for text in ("nothing", first, last, qr, "ünicode"):
        compared.clear()
        before = core.state
        core.feed(core.entry(text))
        core.state = before
        assert sorted(compared) == every
