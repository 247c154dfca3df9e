"""The page for operators: who gets in, what it shows, and what it does not show."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import httpx
import pytest

from edge_agent.protocol.events import EventType
from tests.cloud_gateway.machines.test_mqtt_link import stored
from tests.cloud_gateway.support import (
    KEY,
    MACHINE,
    OPERATIONS_KEY,
    Gateway,
    Peer,
    bench,
    eventually,
    running_gateway,
    settings,
)
from tests.support.broker import Broker

NASTY = "<script>alert('x')</script> & \"quoted\""


def basic(password: str, user: str = "anna") -> str:
    """An Authorization header."""
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


async def ask(gateway: Gateway, path: str = "/operations", **headers: str) -> httpx.Response:
    """GET with the right key."""
    return await gateway.http.get(path, headers={"Authorization": basic(OPERATIONS_KEY), **headers})


async def close(gateway: Gateway, ticket: str, **headers: str) -> httpx.Response:
    """What the page's form does; header names with `_` for `-`."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return await gateway.http.post(
        f"/operations/tickets/{ticket}/close", headers={"Authorization": basic(OPERATIONS_KEY), **named}
    )


class Page(HTMLParser):
    """Captions and rows of a page's tables; every tag with its attributes."""

    VOID = ("meta", "link", "br", "img", "input")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tables: dict[str, list[list[str]]] = {}
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self._open: list[str] = []
        self._rows: list[list[str]] = []
        self._caption = ""
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag in self.VOID:
            return
        self._open.append(tag)
        if tag == "table":
            self._rows, self._caption = [], ""
        elif tag == "tr":
            self._rows.append([])
        elif tag in ("td", "th"):
            self._rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag
        if tag == "table":
            self.tables[self._caption] = self._rows

    def handle_data(self, data: str) -> None:
        if "caption" in self._open:
            self._caption += data
        elif "td" in self._open or "th" in self._open:
            self._rows[-1][-1] += data


async def ticket(gateway: Gateway, **changes: Any) -> str:
    """Asks for maintenance; the ticket's id."""
    body = {"machine_id": MACHINE, "description": "it rattles", **changes}
    response = await gateway.post("/maintenances", body)
    assert response.status_code == 200, response.text
    return str(response.json()["maintenance_ticket_id"])


async def lived(gateway: Gateway, peer: Peer) -> list[str]:
    """A day's work: notes, an abandoned parcel, tickets; gives the codes that must not be shown."""
    secret = []
    for order, notes in (("order <1>", NASTY), ("order_2", "left door"), ("order_3", ""), ("order_4", "x")):
        made = await gateway.reserve(platform_order_id=order, notes=notes)
        rid, view = made["reservation_id"], peer.reservations[made["reservation_id"]]
        secret += [made[name] for name in made if "code" in name]
        if order == "order_2":
            peer.event(EventType.DROPOFF, view)
            await gateway.post(f"/reservations/{rid}/abandons")
            peer.event(EventType.PICKUP_ABANDONED, view)
        if order == "order_4":
            await gateway.post(f"/reservations/{rid}/deletes")
    await ticket(gateway, severity="LOW", description=NASTY)
    await ticket(gateway, severity="CRITICAL", cell_id="cell_a03", block_cell_immediately=True)
    await ticket(gateway)
    return secret


async def test_only_the_operations_key_opens_it(tmp_path: Path, broker: Broker) -> None:
    async with running_gateway(settings(tmp_path, broker.port)) as gateway:
        plain = base64.b64encode(OPERATIONS_KEY.encode()).decode()
        wrong = [
            None,
            "",
            "Basic",
            "Basic %%%",
            f"Basic {plain.replace('=', '')}A",
            "Basic " + base64.b64encode(b"\xff\xfe:\xff").decode(),
            "Basic " + base64.b64encode(b"no colon").decode(),
            "Bearer " + base64.b64encode(f"a:{OPERATIONS_KEY}".encode()).decode(),
            basic(""),
            basic(KEY),
            basic(OPERATIONS_KEY + "x"),
            basic(OPERATIONS_KEY[:-1]),
            basic("anna", user=OPERATIONS_KEY.replace(":", "")),
        ]
        for header in wrong:
            headers = {} if header is None else {"Authorization": header}
            for method, path in (
                ("GET", "/operations"),
                ("GET", "/operations.json"),
                ("POST", "/operations/tickets/maint_1/close"),
            ):
                response = await gateway.http.request(method, path, headers=headers)
                assert response.status_code == 401, (header, path)
                assert response.json()["code"] == 16
                assert response.headers["www-authenticate"].startswith("Basic realm=")
        for user in ("anna", "", "ünal"):
            right = {"Authorization": basic(OPERATIONS_KEY, user).replace("Basic", "basic")}
            assert (await gateway.http.get("/operations", headers=right)).status_code == 200


async def test_without_a_configured_key_the_path_does_not_exist(tmp_path: Path, broker: Broker) -> None:
    given = settings(tmp_path, broker.port).model_copy(update={"operations_key": None})
    async with running_gateway(given) as gateway:
        for method, path in (
            ("GET", "/operations"),
            ("GET", "/operations.json"),
            ("POST", "/operations/tickets/maint_1/close"),
            ("DELETE", "/operations"),
        ):
            response = await gateway.http.request(
                method, path, headers={"Authorization": basic(OPERATIONS_KEY)}
            )
            unknown = await gateway.http.request(method, "/nowhere")
            assert (response.status_code, response.content) == (unknown.status_code, unknown.content)
            assert response.status_code == 404
        paths = (await gateway.http.get("/openapi.json")).json()["paths"]
        assert not [path for path in paths if path.startswith("/operations")]


async def test_the_page_and_the_json_show_what_is_to_be_done(tmp_path: Path, broker: Broker) -> None:
    async with bench(tmp_path, broker.port) as (gateway, peer):
        secret = await lived(gateway, peer)
        shown = (await ask(gateway, "/operations.json")).json()
        assert [one["notes"] for one in shown["reservations"]] == [NASTY]
        noted = shown["reservations"][0]
        assert (noted["platform"], noted["platform_order_id"], noted["cell"]) == ("acme", "order <1>", "A03")
        (parcel,) = shown["abandoned"]
        assert (parcel["machine_id"], parcel["cell"], parcel["platform_order_id"]) == (
            MACHINE,
            "A03",
            "order_2",
        )
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", parcel["since"])
        assert [(one["severity"], one["status"]) for one in shown["tickets"]] == [
            ("CRITICAL", "OPEN"),
            ("MEDIUM", "OPEN"),
            ("LOW", "OPEN"),
        ]
        first = shown["tickets"][0]
        assert (first["cell"], first["cell_id"], first["blocked"]) == ("A03", "cell_a03", True)
        assert "cell" not in shown["tickets"][1]
        assert [(one["machine_id"], one["online"]) for one in shown["machines"]] == [(MACHINE, True)]

        response = await ask(gateway)
        page = Page(response.text)
        rows = {caption: lines[1:] for caption, lines in page.tables.items()}
        assert [line[2] for line in rows["Ongoing reservations with notes"]] == [NASTY]
        abandoned = rows["Abandoned parcels that await clean-up"]
        assert [line[:3] for line in abandoned] == [[MACHINE, "A03", "order_2"]]
        tickets = rows["Maintenance tickets"]
        assert [line[0] for line in tickets] == ["CRITICAL", "MEDIUM", "LOW"]
        assert [line[2] for line in tickets] == ["A03", "whole machine", "whole machine"]
        assert [line[5] for line in tickets] == ["yes", "no", "no"]
        assert tickets[2][3] == NASTY
        assert rows["Machines"][0][:2] == [MACHINE, "online"]
        for text in (response.text, (await ask(gateway, "/operations.json")).text):
            for code in secret:
                assert not re.search(rf"\b{re.escape(code)}\b", text)
            assert "DLV-" not in text
            assert "null" not in text


async def test_the_page_is_plain_safe_html(tmp_path: Path, broker: Broker) -> None:
    async with bench(tmp_path, broker.port) as (gateway, peer):
        empty = Page((await ask(gateway)).text)
        await lived(gateway, peer)
        response = await ask(gateway)
        assert response.headers["content-type"] == "text/html; charset=utf-8"
        assert response.headers["cache-control"] == "no-store"
        assert response.headers["x-content-type-options"] == "nosniff"
        policy = response.headers["content-security-policy"]
        for part in ("default-src 'none'", "form-action 'self'", "base-uri 'none'", "frame-ancestors 'none'"):
            assert part in policy
        assert "unsafe" not in policy
        style = re.search(r"<style>(.*?)</style>", response.text, re.DOTALL)
        assert style is not None
        digest = base64.b64encode(hashlib.sha256(style[1].encode()).digest()).decode()
        assert f"style-src 'sha256-{digest}'" in policy
        assert "prefers-color-scheme: dark" in style[1]
        for page in (empty, Page(response.text)):
            names = [tag for tag, _ in page.tags]
            assert not {"script", "img", "link", "iframe"} & set(names)
            assert names.count("table") == names.count("caption") == names.count("thead") == 4
            assert (
                "meta",
                {"name": "viewport", "content": "width=device-width, initial-scale=1"},
            ) in page.tags
            assert ("html", {"lang": "en"}) in page.tags
            for tag, attributes in page.tags:
                assert "style" not in attributes
                assert not [name for name in attributes if name.startswith("on")]
                for name in ("href", "src", "action"):
                    value = attributes.get(name)
                    assert value is None or value.startswith(("/", "#"))
                if tag == "th":
                    assert attributes["scope"] in ("col", "row")
            for lines in page.tables.values():
                widths = {len(line) for line in lines}
                assert len(widths) == 1 or [len(line) for line in lines[1:]] == [1]


async def test_the_form_closes_a_ticket(tmp_path: Path, broker: Broker) -> None:
    async with bench(tmp_path, broker.port) as (gateway, _):
        one, other = await ticket(gateway), await ticket(gateway)
        forms = [
            attributes["action"]
            for tag, attributes in Page((await ask(gateway)).text).tags
            if tag == "form" and attributes["method"] == "post"
        ]
        assert forms == [f"/operations/tickets/{each}/close?machine_id=machine_123" for each in (one, other)]
        for _ in range(2):
            response = await close(gateway, one, Sec_Fetch_Site="same-origin")
            assert (response.status_code, response.headers["location"]) == (303, "/operations")
        shown = (await ask(gateway, "/operations.json")).json()["tickets"]
        assert [(found["maintenance_ticket_id"], found["status"]) for found in shown] == [
            (other, "OPEN"),
            (one, "CLOSED"),
        ]
        assert shown[1]["closed_at"] >= shown[1]["created_at"]
        page = Page((await ask(gateway)).text)
        assert len([tag for tag, _ in page.tags if tag == "form"]) == 1
        unknown = await close(gateway, "maint_x")
        assert (unknown.status_code, unknown.json()["code"]) == (404, 5)


@pytest.mark.parametrize(
    ("headers", "allowed"),
    [
        ({}, True),
        ({"Sec_Fetch_Site": "same-origin", "Origin": "null"}, True),
        ({"Sec_Fetch_Site": "none"}, True),
        ({"Origin": "HERE"}, True),
        ({"Origin": "https://api.delivery.example"}, True),
        ({"Sec_Fetch_Site": "cross-site"}, False),
        ({"Sec_Fetch_Site": "cross-site", "Origin": "HERE"}, False),
        ({"Sec_Fetch_Site": "same-site"}, False),
        ({"Origin": "null"}, False),
        ({"Origin": ""}, False),
        ({"Origin": "https://evil.example"}, False),
        ({"Origin": "http://127.0.0.1:1"}, False),
        ({"Origin": "HERE.evil.example"}, False),
        ({"Origin": "http://[evil"}, False),
        ({"Origin": "null", "Host": ""}, False),
    ],
)
async def test_another_site_cannot_close_a_ticket(
    tmp_path: Path, broker: Broker, headers: dict[str, str], allowed: bool
) -> None:
    async with bench(tmp_path, broker.port) as (gateway, _):
        one = await ticket(gateway)
        here = str(gateway.http.base_url).rstrip("/")
        named = {name: value.replace("HERE", here) for name, value in headers.items()}
        response = await close(gateway, one, **named)
        if allowed:
            assert response.status_code == 303
        else:
            assert (response.status_code, response.json()["code"]) == (403, 7)
        (found,) = (await ask(gateway, "/operations.json")).json()["tickets"]
        assert (found["status"] == "CLOSED") is allowed


async def test_the_machines_own_tickets_and_what_people_do_at_the_cell_show(
    tmp_path: Path, broker: Broker
) -> None:
    async with bench(tmp_path, broker.port) as (gateway, peer):
        a03 = {"cell": {"description": "A03", "cell_id": "cell_a03"}}
        peer.event(
            EventType.MAINTENANCE_REQUESTED,
            more={
                **a03,
                "maintenance_ticket_id": "maint_own",
                "description": "the lock jammed",
                "severity": "HIGH",
                "blocked": False,
            },
        )
        made = await gateway.reserve()
        view = peer.reservations[made["reservation_id"]]
        await asyncio.to_thread(peer.event, EventType.PICKUP_ABANDONED, view)
        await gateway.until(made["reservation_id"], "ABANDONED")
        shown = (await ask(gateway, "/operations.json")).json()
        assert [one["maintenance_ticket_id"] for one in shown["tickets"]] == ["maint_own"]
        assert shown["tickets"][0]["source_type"] == "SOURCE_TYPE_MACHINE"
        assert len(shown["abandoned"]) == 1
        peer.event(EventType.CELL_STATUS_CHANGED, more={**a03, "cause": "CLEARED", "status": "IDLE"})
        await eventually(lambda: stored(tmp_path, "SELECT closed_s FROM maintenance_tickets") != [(None,)])
        shown = (await ask(gateway, "/operations.json")).json()
        assert shown["tickets"][0]["status"] == "CLOSED"
        assert shown["abandoned"] == []
        shown = {"alarms": {"LOCK_JAMMED": 2}, "cells": 24, "cells_out": 2, "buses_down": ["upper"]}
        flags = {"journal_writable": False, "clock_synced": True}
        await asyncio.to_thread(lambda: peer.healthy(verdict="fault", **shown, **flags))
        await eventually(lambda: gateway.machines.health(MACHINE) is not None)
        (machine,) = (await ask(gateway, "/operations.json")).json()["machines"]
        assert machine["health"] == {"verdict": "fault", **shown, **flags}
        rows = {caption: lines[1:] for caption, lines in Page((await ask(gateway)).text).tables.items()}
        why = "2 LOCK_JAMMED, 2 of 24 cells out, bus upper down, journal cannot be written"
        assert rows["Machines"][0][1:3] == ["online", f"fault {why}"]
        await asyncio.to_thread(peer.online, False)
        await eventually(lambda: not gateway.machines.is_online(MACHINE))
        (machine,) = (await ask(gateway, "/operations.json")).json()["machines"]
        assert machine["online"] is False
        assert "health" not in machine


async def test_a_moved_reservation_shows_its_new_cell(tmp_path: Path, broker: Broker) -> None:
    async with bench(tmp_path, broker.port) as (gateway, peer):
        rid = (await gateway.reserve(notes="heavy"))["reservation_id"]
        view = peer.reservations[rid]
        view["cell"] = {"description": "A04", "cell_id": "cell_a04"}
        opened = await gateway.post(f"/reservations/{rid}/dropoffs")
        assert opened.json() == {"cell": {"description": "A04"}}
        assert (await gateway.get(f"/reservations/{rid}")).json()["cell"] == {"description": "A04"}
        view["cell"] = {"description": "A05", "cell_id": "cell_a05"}
        peer.event(EventType.CELL_STATUS_CHANGED, view, more={"cause": "MOVED", "status": "RESERVED"})
        await eventually(lambda: stored(tmp_path, "SELECT cell_label FROM reservations") == [("A05",)])
        assert (await ask(gateway, "/operations.json")).json()["reservations"][0]["cell"] == "A05"
