"""Access rights: the kernel says who calls, a PIN says which technician, and each act has a name."""

from __future__ import annotations

import asyncio
import getpass
import grp
import json
import os
import sqlite3
import stat
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest
import structlog
from starlette.requests import Request

from edge_agent.config import load_settings
from edge_agent.config.technicians import NAME_HEADER, PIN_HEADER, line
from edge_agent.console import access as module
from edge_agent.console.access import (
    FIRST_PAUSE_S,
    FREE_TRIES,
    LONGEST_PAUSE_S,
    NOBODY_KNOWN,
    PEER,
    Access,
    Peer,
    group_of,
    named,
)
from edge_agent.console.api import CodeBody
from edge_agent.console.streams import LONGEST_BODY, read_body
from edge_agent.console.unix_server import bind_socket
from edge_agent.errors import Code, ConfigError, Refusal, StorageFault
from tests.support.real_site import RealSite, machine_file, real_site
from tools.simulate.virtual_loop import VirtualLoop

PIN, OTHER = "738291", "wrong-738"
LINE = line("bob", PIN)
ME = getpass.getuser()
NO_BROKER = {"host": "127.0.0.1", "port": 1}


def technicians(folder: Path, text: str = LINE + "\n", mode: int = 0o600) -> str:
    file = folder / "technicians"
    file.write_text(text, encoding="utf-8")
    file.chmod(mode)
    return str(file)


def client(folder: Path) -> httpx.AsyncClient:
    transport = httpx.AsyncHTTPTransport(uds=str(folder / "agent.sock"))
    return httpx.AsyncClient(transport=transport, base_url="http://agent")


def label_of(site: RealSite) -> str:
    return next(iter(site.agent.loop.layout.specs))


async def rows_of(folder: Path) -> list[dict[str, Any]]:
    async with client(folder) as api:
        found: list[dict[str, Any]] = (await api.get("/v1/events")).json()
        return found


async def test_every_act_is_journaled_under_the_name_of_the_calling_user(tmp_path: Path) -> None:
    async with real_site(tmp_path, NO_BROKER, access={}) as site, client(tmp_path) as api:
        label = label_of(site)
        opened = await api.post(f"/v1/cells/{label}/open", json={"reason": "a look"})
        assert (opened.status_code, opened.json()) == (200, {"cell": {"description": label}})
        assert site.pulses() == 1
        site.plant.world.close(label)
        assert (await api.post(f"/v1/cells/{label}/block", json={"reason": "dirt"})).status_code == 200
        assert (await api.post(f"/v1/cells/{label}/unblock")).status_code == 200
        rows = await rows_of(tmp_path)
        unlocks = [row for row in rows if row["kind"] == "unlock"]
        assert [(row["what"], row["actor"], row["reason"]) for row in unlocks] == [
            ("INTENT", ME, "a look"),
            ("OPENED", ME, "a look"),
        ]
        assert {row["purpose"] for row in unlocks} == {"technician"}
        assert {row["reservation_id"] for row in unlocks} == {None}
        events = {row["detail"].get("cause") or row["what"]: row for row in rows if row["kind"] == "event"}
        for what in ("EVENT_TYPE_OPEN_DOOR_FULFILLED", "BLOCKED", "UNBLOCKED"):
            assert events[what]["actor"] == ME, what
        assert events["EVENT_TYPE_OPEN_DOOR_FULFILLED"]["detail"]["description"] == "a look"
        refused = await api.post(f"/v1/cells/{label}/open", json={})
        assert (refused.status_code, refused.json()["code"]) == (400, 3)


async def test_where_technicians_are_named_a_door_opens_for_one_of_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    access = {"technicians_file": technicians(tmp_path)}
    monkeypatch.setattr(module, "log", structlog.wrap_logger(None, wrapper_class=structlog.BoundLogger))
    with structlog.testing.capture_logs() as logged:
        async with real_site(tmp_path, NO_BROKER, access=access) as site, client(tmp_path) as api:
            label = label_of(site)
            body = {"reason": "a look"}
            without = await api.post(f"/v1/cells/{label}/open", json=body)
            assert (without.status_code, without.json()["code"]) == (401, 16)
            for act in ("clear", "unblock"):
                assert (await api.post(f"/v1/cells/{label}/{act}")).status_code == 401, act
            wrong = {NAME_HEADER: "bob", PIN_HEADER: OTHER}
            refused = await api.post(f"/v1/cells/{label}/open", json=body, headers=wrong)
            assert (refused.status_code, refused.json()["code"]) == (403, 7)
            assert site.pulses() == 0
            right = {NAME_HEADER: "bob", PIN_HEADER: PIN}
            assert (await api.post(f"/v1/cells/{label}/open", json=body, headers=right)).status_code == 200
            assert site.pulses() == 1
            # A request that opens nothing needs no technician; one with a right PIN is named all the same.
            assert (await api.post(f"/v1/cells/{label}/block", json=body)).status_code == 200
            assert (await api.post(f"/v1/cells/{label}/unblock", headers=right)).status_code == 200
            rows = await rows_of(tmp_path)
    actors = [
        (row.get("detail", {}).get("cause") or row["what"], row["actor"]) for row in rows if row["actor"]
    ]
    assert sorted(actors) == sorted(
        [
            ("INTENT", "bob"),
            ("OPENED", "bob"),
            ("EVENT_TYPE_OPEN_DOOR_FULFILLED", "bob"),
            ("BLOCKED", ME),
            ("UNBLOCKED", "bob"),
        ]
    )
    said = json.dumps(logged, default=str) + json.dumps(rows)
    with closing(sqlite3.connect(tmp_path / "journal.sqlite")) as journal:
        said += "\n".join(journal.iterdump())
    assert "wrong PIN" in said
    assert PIN not in said
    assert OTHER not in said


async def test_a_kiosk_may_only_send_codes(tmp_path: Path) -> None:
    async with real_site(tmp_path, NO_BROKER, access={"kiosk_users": [ME]}) as site, client(tmp_path) as api:
        label = label_of(site)
        entered = await api.post("/v1/code", json={"text": "0000"})
        assert (entered.status_code, entered.json()["message"]) == (400, "not valid")
        for method, path in (
            ("GET", "/v1/status"),
            ("GET", "/v1/cells"),
            ("GET", "/v1/events"),
            ("GET", "/v1/code"),
            ("GET", "/v1/bus"),
            ("POST", f"/v1/cells/{label}/open"),
            ("POST", "/v1/code/"),
            ("POST", "/v1/diagnose"),
            ("GET", "/nowhere"),
        ):
            refused = await api.request(method, path, json={"reason": "r"} if method == "POST" else None)
            assert (refused.status_code, refused.json()["code"]) == (403, 7), path
        assert site.pulses() == 0


async def test_an_unreadable_journal_is_answered_with_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with real_site(tmp_path, NO_BROKER, access={}) as site, client(tmp_path) as api:

        def unreadable(*_: object) -> int:
            raise StorageFault("journal: disk I/O error")

        monkeypatch.setattr(site.agent.store, "outbox_size", unreadable)
        for path in ("/v1/status", "/metrics"):
            answer = await api.get(path)
            assert (answer.status_code, answer.json()["code"]) == (503, 14), path


async def test_no_more_of_a_body_is_read_than_the_longest_valid_one() -> None:
    kept = 0

    async def receive() -> dict[str, Any]:
        nonlocal kept
        kept += 10_000
        assert kept < 1_000_000
        return {"type": "http.request", "body": b" " * 10_000, "more_body": True}

    sent = Request({"type": "http", "method": "POST", "headers": []}, receive)
    with pytest.raises(Refusal) as caught:
        await read_body(sent, CodeBody)
    assert caught.value.code is Code.INVALID_ARGUMENT
    assert kept <= LONGEST_BODY + 10_000


def test_a_peer_without_kernel_credentials_may_do_no_more_than_a_kiosk() -> None:
    guarded = Access(frozenset({"kiosk"}))
    assert guarded.may(Peer(1000, "bob"), "GET", "/v1/status")
    for peer in (None, Peer(NOBODY_KNOWN, "nobody"), Peer(1001, "kiosk"), named(4_000_000_000)):
        assert not guarded.may(peer, "GET", "/v1/status"), peer
        assert guarded.may(peer, "POST", "/v1/code"), peer
    assert Access().may(None, "POST", "/v1/cells/A01/open")
    assert named(4_000_000_000) == Peer(4_000_000_000, "uid 4000000000", known=False)


def test_the_liveness_check_is_allowed_also_as_a_kiosk_s_user() -> None:
    guarded = Access(frozenset({ME}))
    own = named(os.geteuid())
    assert guarded.may(own, "GET", "/v1/alive")
    assert not guarded.may(own, "GET", "/v1/status")
    assert not guarded.may(Peer(4_000_000_000, ME), "GET", "/v1/alive")
    unnamed = Peer(os.geteuid(), "uid 7", known=False)
    assert Access(frozenset({"kiosk"})).may(unnamed, "GET", "/v1/status")


def test_an_unknown_kiosk_user_is_logged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "log", structlog.wrap_logger(None, wrapper_class=structlog.BoundLogger))
    access = {"kiosk_users": [ME, "kisok"]}
    with structlog.testing.capture_logs() as logged:
        Access.of(load_settings(machine_file(tmp_path, NO_BROKER, access)))
    assert [entry["user"] for entry in logged if entry["log_level"] == "error"] == ["kisok"]


# --- guessing --------------------------------------------------------------------------------------------


async def _inline(function: Callable[..., Any], *arguments: Any) -> Any:
    return function(*arguments)


def request(pin: str | None, name: str = "bob", uid: int = 1000) -> Request:
    headers = [] if pin is None else [(PIN_HEADER.lower().encode(), pin.encode())]
    headers += [(NAME_HEADER.lower().encode(), name.encode())]
    return Request({"type": "http", "headers": headers, "state": {PEER: Peer(uid, f"user{uid}")}})


async def refusal(guarded: Access, given: Request) -> str | None:
    """Why a request is refused with PERMISSION_DENIED; None if it is let through."""
    try:
        await guarded.actor(given, proven=True)
    except Refusal as refused:
        return refused.message if refused.code is Code.PERMISSION_DENIED else f"code {refused.code}"
    return None


def test_wrong_pins_are_slowed_down_and_lock_out_no_other_technician(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asyncio, "to_thread", _inline)
    monkeypatch.setattr(module, "_is_right", lambda known, pin: known is not None and pin == PIN)
    guarded = Access(technicians=Path(technicians(tmp_path)))

    async def growing() -> list[float]:
        loop, pauses = asyncio.get_running_loop(), list[float]()
        for _ in range(14):
            assert await refusal(guarded, request(OTHER, name="eve")) == "wrong name or PIN of a technician"
            assert await refusal(guarded, request(PIN, uid=1001)) is None
            begun_s = loop.time()
            while guarded._tries[1000].until_s > loop.time():
                assert "too many wrong PINs" in str(await refusal(guarded, request(PIN)))
                await asyncio.sleep(1)
            pauses.append(round(loop.time() - begun_s))
        assert await refusal(guarded, request(PIN)) is None  # the real one comes in after the pause
        assert await refusal(guarded, request(OTHER)) == "wrong name or PIN of a technician"
        assert await refusal(guarded, request(PIN)) is None  # and the count restarted
        return pauses

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        pauses = runner.run(growing())
    assert pauses[: FREE_TRIES - 1] == [0] * (FREE_TRIES - 1)
    grown = pauses[FREE_TRIES - 1 :]
    assert grown[:3] == [FIRST_PAUSE_S, 2 * FIRST_PAUSE_S, 4 * FIRST_PAUSE_S]
    assert grown[-1] == LONGEST_PAUSE_S


async def test_concurrent_pins_are_checked_one_after_the_other(tmp_path: Path) -> None:
    guarded = Access(technicians=Path(technicians(tmp_path)))
    refused = await asyncio.gather(*(refusal(guarded, request(OTHER)) for _ in range(20)))
    assert [why for why in refused if why == "wrong name or PIN of a technician"] == [
        "wrong name or PIN of a technician"
    ] * FREE_TRIES
    assert sum("too many" in str(why) for why in refused) == 20 - FREE_TRIES


@pytest.mark.parametrize(
    ("text", "mode", "why"),
    [
        (LINE, 0o640, "can be read by others (mode 0640)"),
        ("bob:123456\n", 0o600, "line 1 is no NAME:$scrypt$..."),
        (f"{LINE}\n{LINE}\n", 0o600, "line 2 names a technician a second time"),
        (LINE.replace("ln=14", "ln=30"), 0o600, "line 1 is no NAME:$scrypt$..."),
        (LINE.replace("ln=14,r=8", "ln=17,r=16"), 0o600, "line 1 is no NAME:$scrypt$..."),  # 268 MB
        ("", 0o600, "wrong name or PIN of a technician"),
    ],
)
async def test_an_invalid_file_admits_no_one(tmp_path: Path, text: str, mode: int, why: str) -> None:
    guarded = Access(technicians=Path(technicians(tmp_path, text, mode)))
    said = await refusal(guarded, request(PIN))
    assert said is not None
    assert why in said
    assert PIN not in said


async def test_a_file_of_another_owner_admits_no_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its owner could make himself a technician."""
    file = technicians(tmp_path)
    if os.geteuid() == 0:
        os.chown(file, 4242, -1)
    else:
        monkeypatch.setattr(os, "geteuid", lambda: 4242)
    said = await refusal(Access(technicians=Path(file)), request(PIN))
    assert said is not None
    assert "another user" in said


async def test_without_the_file_no_one_is_admitted(tmp_path: Path) -> None:
    guarded = Access(technicians=tmp_path / "none")
    assert "No such file" in str(await refusal(guarded, request(PIN)))


# --- the socket ------------------------------------------------------------------------------------------


def test_the_socket_is_open_to_the_daemon_s_user_and_the_group(tmp_path: Path) -> None:
    gid = next(iter(os.getgroups()), os.getegid())
    path = tmp_path / "agent.sock"
    with closing(bind_socket(path, gid)):
        found = path.stat()
        assert stat.S_IMODE(found.st_mode) == 0o660
        assert found.st_gid == gid


def test_an_impossible_group_is_reported_by_its_key(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError) as none:
        group_of("no-such-group")
    assert str(none.value.findings[0]) == "access.group: there is no group 'no-such-group'"
    foreign = next(g for g in grp.getgrall() if g.gr_gid not in (os.getegid(), *os.getgroups()))
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(ConfigError) as kept:
        group_of(foreign.gr_name)
    assert "is not in that group" in str(kept.value.findings[0])


# --- the commands, over the real socket ------------------------------------------------------------------


async def edge_agent(folder: Path, *arguments: str, **environment: str) -> tuple[int, str, str]:
    """An `edge-agent` command as somebody would type it: exit code, standard output and error."""
    process = await asyncio.create_subprocess_exec(
        str(Path(sys.executable).with_name("edge-agent")),
        *arguments,
        env={**os.environ, "EDGE_AGENT_SOCKET": str(folder / "agent.sock"), **environment},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


@pytest.mark.long
async def test_a_technician_at_the_command_line(tmp_path: Path) -> None:
    access = {"technicians_file": technicians(tmp_path)}
    file = tmp_path / "pin"
    file.write_text(PIN + "\n", encoding="utf-8")
    file.chmod(0o600)
    async with real_site(tmp_path, NO_BROKER, access=access) as site:
        label = label_of(site)
        act = ("open", label, "--reason", "a look")
        code, out, err = await edge_agent(tmp_path, *act)
        assert (code, out) == (1, "")
        assert "a technician's PIN is needed for this" in err
        code, out, err = await edge_agent(tmp_path, *act, "--as", "bob", EDGE_AGENT_PIN=OTHER)
        assert (code, out) == (1, "")
        assert "wrong name or PIN of a technician" in err
        assert OTHER not in err
        assert site.pulses() == 0
        code, out, err = await edge_agent(tmp_path, *act, "--as", "bob", "--pin-file", str(file))
        assert (code, out) == (0, f"cell {label} is open\n"), err
        assert site.pulses() == 1
        code, out, _ = await edge_agent(tmp_path, "events", COLUMNS="200")
        assert code == 0
        assert "bob" in out
        code, _, err = await edge_agent(tmp_path, "diagnose", "--doors")
        assert code == 1
        assert "--pin-file" in err
        assert site.pulses() == 1
