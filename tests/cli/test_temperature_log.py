"""The temperature log as people get it: CSV, a plot, and what the command says where there is none."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import httpx
import pytest
from typer.testing import CliRunner, Result

from edge_agent.cli import commands
from edge_agent.cli.temperature_log import BOTTOM, LEFT, RIGHT, TOP, as_csv, as_svg

SVG = "{http://www.w3.org/2000/svg}"


def reading(minutes: float, degrees: float | None, **fields: Any) -> dict[str, Any]:
    seconds = round(minutes * 60)
    at = f"2025-06-13T{10 + seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}Z"
    row = {"at": at, "temperature_c": degrees, "setpoint_c": 3.0, "limit_c": 5.0}
    return row | {"need": "cold", "door": "closed", "output": "off"} | fields


def log(*readings: dict[str, Any], **fields: Any) -> dict[str, Any]:
    whose = {"reservation_id": "res_<1>", "cell": "B03", "dropped_off_at": None, "picked_up_at": None}
    return whose | fields | {"readings": list(readings)}


def plot(*readings: dict[str, Any], **fields: Any) -> ElementTree.Element:
    return ElementTree.fromstring(as_svg(log(*readings, **fields)))


def marks(svg: ElementTree.Element, kind: str) -> list[ElementTree.Element]:
    """The elements of one class, without the legend's."""
    return [e for e in svg.iter() if e.get("class") == kind and float(e.get("y1") or e.get("y") or 0) < 340]


def texts(svg: ElementTree.Element) -> list[str]:
    return [e.text or "" for e in svg.iter(f"{SVG}text")]


def points(element: ElementTree.Element) -> list[tuple[float, float]]:
    pairs = (pair.split(",") for pair in (element.get("points") or "").split())
    return [(float(x), float(y)) for x, y in pairs]


def test_csv_has_a_line_a_reading_and_nothing_where_the_sensor_was_lost() -> None:
    text = as_csv(log(reading(0, 21.5, output="cooling"), reading(0.5, None, door="open")))
    assert text.splitlines() == [
        "time,temperature_c,setpoint_c,limit_c,door,output",
        "2025-06-13T10:00:00Z,21.5,3.0,5.0,closed,cooling",
        "2025-06-13T10:00:30Z,,3.0,5.0,open,off",
    ]
    assert as_csv(log()) == "time,temperature_c,setpoint_c,limit_c,door,output\n"


def test_a_plot_without_readings_reports_it() -> None:
    svg = plot()
    assert texts(svg) == ["Reservation res_<1>, cell B03", "no reading"]


def test_a_plot_of_one_reading_is_one_dot() -> None:
    svg = plot(reading(0, 4.0))
    (dot,) = marks(svg, "temperature")
    assert dot.tag == f"{SVG}circle"
    assert LEFT < float(dot.get("cx", 0)) < RIGHT
    assert TOP < float(dot.get("cy", 0)) < BOTTOM
    assert "time (UTC), from 2025-06-13" in texts(svg)
    assert "°C" in texts(svg)


def test_a_plot_breaks_where_there_is_no_reading() -> None:
    times = [0, 0.5, 1, 1.5, 2, 10, 10.5]
    svg = plot(*(reading(minutes, None if minutes == 1 else 4.0) for minutes in times))
    lines = [points(line) for line in marks(svg, "temperature")]
    assert [len(line) for line in lines] == [2, 2, 2]
    assert lines[0][0][0] == LEFT
    assert lines[2][1][0] == RIGHT
    assert lines[1][1][0] < lines[2][0][0] - 500


def test_what_was_out_of_range_is_red_from_the_drop_off_on() -> None:
    degrees = [9.0, 8.0, 4.0, 5.0, 5.2, 6.0, 4.9]
    svg = plot(*(reading(n / 2, one) for n, one in enumerate(degrees)), dropped_off_at="2025-06-13T10:00:45Z")
    (line,) = marks(svg, "out")
    assert len(points(line)) == 2
    limit = points(marks(svg, "limit")[0])[0][1]
    assert all(y < limit for _, y in points(line))
    assert "dropped off" in texts(svg)
    assert "picked up" not in texts(svg)
    hot = plot(
        reading(0, 56.0, need="hot", limit_c=57.0, setpoint_c=65.0), dropped_off_at="2025-06-13T09:00:00Z"
    )
    assert [mark.tag for mark in marks(hot, "out")] == [f"{SVG}circle"]


def test_open_doors_and_outputs_are_shaded_and_a_changed_limit_is_a_step() -> None:
    svg = plot(
        reading(0, 4.0, output="cooling"),
        reading(0.5, 4.0, door="open"),
        reading(1, 4.0, limit_c=6.0),
        reading(1.5, 4.0, limit_c=6.0),
    )
    (door,) = marks(svg, "door")
    third = (RIGHT - LEFT) / 3
    assert float(door.get("x", 0)) == pytest.approx(LEFT + third, abs=0.2)
    assert float(door.get("width", 0)) == pytest.approx(third, abs=0.2)
    (output,) = marks(svg, "output")
    assert float(output.get("x", 0)) == LEFT
    limit = points(marks(svg, "limit")[0])
    assert [y for _, y in limit] == [limit[0][1]] * 2 + [limit[-1][1]] * 2
    assert limit[0][1] > limit[-1][1]


def run(monkeypatch: pytest.MonkeyPatch, answer: httpx.Response | Exception, *arguments: str) -> Result:
    """One command against a daemon that answers so."""

    def handler(request: httpx.Request) -> httpx.Response:
        assert request.url.path == "/v1/reservations/res_1/temperatures"
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(httpx, "HTTPTransport", lambda uds: httpx.MockTransport(handler))
    return CliRunner().invoke(commands.app, ["reservations", "--temperatures", "res_1", *arguments])


def test_the_command_prints_csv_and_writes_the_plot(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    one = log(reading(0, 4.0))
    target = tmp_path / "plot.svg"
    done = run(monkeypatch, httpx.Response(200, json=one), "--svg", str(target))
    assert (done.exit_code, done.stdout) == (0, as_csv(one))
    assert target.read_text(encoding="utf-8") == as_svg(one)
    done = run(monkeypatch, httpx.Response(200, json=one), "--json")
    assert json.loads(done.stdout) == one


def test_the_command_explains_why_there_is_no_log(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    refusal = {"code": 5, "message": "no such reservation: res_1", "details": []}
    done = run(monkeypatch, httpx.Response(404, json=refusal))
    assert (done.exit_code, done.stdout) == (1, "")
    assert "no such reservation: res_1" in done.stderr
    done = run(monkeypatch, httpx.ConnectError("nobody"))
    assert done.exit_code == 3
    nowhere = run(monkeypatch, httpx.Response(200, json=log()), "--svg", str(tmp_path / "no" / "plot.svg"))
    assert nowhere.exit_code == 2
    alone = CliRunner().invoke(commands.app, ["reservations", "--svg", str(tmp_path / "plot.svg")])
    assert alone.exit_code == 2
