"""People at the operators' pages: who gets in, what each role may do, and the record of what was done."""

from __future__ import annotations

import asyncio
import errno
import io
import json
import sqlite3
import stat
from pathlib import Path

import httpx
import pytest
from sqlalchemy import delete, text, update
from sqlalchemy.exc import DBAPIError

from cloud_gateway.db.tables import operator_acts
from cloud_gateway.operations import api
from cloud_gateway.users import Role, Users, main, read_users
from edge_agent.errors import ConfigError
from tests.cloud_gateway.events.test_audit import born
from tests.cloud_gateway.operations.test_routes import basic
from tests.cloud_gateway.support import OPERATIONS_KEY, Gateway, bench, running_gateway, settings
from tests.support.broker import Broker

PASSWORD = "correct horse battery"


def set_user(
    file: Path, monkeypatch: pytest.MonkeyPatch, name: str, role: str, password: str = PASSWORD
) -> int:
    """Runs the command with a password on standard input."""
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{password}\n"))
    return main(["set", "--file", str(file), "--name", name, "--role", role])


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file with a person of each role."""
    path = tmp_path / "users.toml"
    for role in Role:
        assert set_user(path, monkeypatch, f"{role}@example.org", str(role)) == 0
    return path


def test_no_password_is_in_the_file(file: Path) -> None:
    assert PASSWORD not in file.read_text(encoding="utf-8")


async def test_a_password_is_remembered_and_replaced(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    users = Users(file)
    name = "reader@example.org"
    for _ in range(2):  # the second time from memory
        found = await users.find(name, PASSWORD)
        assert found is not None
        assert found.role is Role.READER
    assert await users.find(name, PASSWORD + "x") is None
    assert await users.find("nobody", PASSWORD) is None
    assert set_user(file, monkeypatch, name, "support", "another long password") == 0
    users.file.look()
    assert await users.find(name, PASSWORD) is None
    changed = await users.find(name, "another long password")
    assert changed is not None
    assert changed.role is Role.SUPPORT
    assert main(["remove", "--file", str(file), "--name", name]) == 0
    users.file.look()
    assert await users.find(name, "another long password") is None
    assert main(["remove", "--file", str(file), "--name", name]) == 1
    users.close()


def test_nobody_else_can_read_the_file_while_it_is_replaced(
    file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = file.read_text(encoding="utf-8")
    draft = file.with_name(f".{file.name}.new")
    draft.write_text("left by a power cut", encoding="utf-8")
    draft.chmod(0o666)

    def ends_here(*_: object) -> None:
        raise OSError(errno.EPERM, "not permitted")

    with monkeypatch.context() as patched:
        patched.setattr(Path, "chmod", ends_here)
        assert set_user(file, monkeypatch, "new", "reader") == 2
    assert "not permitted" in capsys.readouterr().err
    assert stat.S_IMODE(draft.stat().st_mode) == 0o600
    assert file.read_text(encoding="utf-8") == before
    assert set_user(file, monkeypatch, "new", "reader") == 0
    assert not draft.exists()
    assert stat.S_IMODE(file.stat().st_mode) == 0o640


def test_the_command_refuses_short_passwords_and_bad_names(
    file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = file.read_text(encoding="utf-8")
    assert set_user(file, monkeypatch, "new", "reader", "short") == 2
    assert "password: has fewer than 12 characters" in capsys.readouterr().err
    assert set_user(file, monkeypatch, "two words", "reader") == 2
    assert "name: " in capsys.readouterr().err
    assert file.read_text(encoding="utf-8") == before
    assert main(["list", "--file", str(file)]) == 0
    assert "operator@example.org: operator" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("content", "path"),
    [
        ('[[users]]\nname = "a"\nrole = "king"\nargon2id = "$argon2id$v=19$m=65536$aaaaaaaaaaaa"\n', "role"),
        ('[[users]]\nname = "a"\nrole = "reader"\nargon2id = "plain"\n', "argon2id"),
        ('[[users]]\nname = "a"\nrole = "reader"\npassword = "plain"\n', "password"),
        ("users = 1\n", "users"),
        ("", "users"),
        ("users = " + "[" * 5000, "users.toml"),
        ("users = " + "9" * 5000, "users.toml"),
    ],
)
def test_a_bad_file_names_the_key_path(tmp_path: Path, content: str, path: str) -> None:
    file = tmp_path / "users.toml"
    file.write_text(content, encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        read_users(file)
    assert any(path in str(finding) for finding in caught.value.findings)


ACTS = {
    "close ticket": ("/operations/tickets/t-1/close", Role.SUPPORT),
    "retry webhook": ("/operations/webhooks/7/retry", Role.SUPPORT),
    "release machine": ("/operations/machines/machine_123/release", Role.OPERATOR),
}
"""Each act of the page, its path, and the least role that it needs."""

FLEET_ACTS = {
    "block cell": ("/machines/machine_123/cells/A03/block", Role.SUPPORT),
    "unblock cell": ("/machines/machine_123/cells/A03/unblock", Role.SUPPORT),
    "clear cell": ("/machines/machine_123/cells/A03/clear", Role.OPERATOR),
    "close ticket": ("/tickets/t-1/close?machine_id=machine_123", Role.SUPPORT),
}
"""The same of `/api/operations/v1`."""


async def post(gateway: Gateway, path: str, role: Role) -> httpx.Response:
    """An act by the person with this role."""
    headers = {"Authorization": basic(PASSWORD, f"{role}@example.org")}
    return await gateway.http.post(path, headers=headers)


async def test_each_role_may_do_its_acts_and_no_other_and_all_is_recorded(
    tmp_path: Path, broker: Broker, file: Path
) -> None:
    given = settings(tmp_path, broker.port).model_copy(update={"users_file": str(file)})
    expected = []
    async with running_gateway(given) as gateway:
        for role in Role:
            reader = {"Authorization": basic(PASSWORD, f"{role}@example.org")}
            for page in ("/operations", "/operations.json", "/operations/acts.jsonl"):
                assert (await gateway.http.get(page, headers=reader)).status_code == 200
            for act, (path, needed) in ACTS.items():
                response = await post(gateway, path, role)
                allowed = role.may(needed)
                assert response.status_code == (404 if allowed else 403), (role, act, response.text)
                expected.append(
                    (f"{role}@example.org", str(role), act, "not found" if allowed else "refused")
                )
        by_key = {"Authorization": basic(OPERATIONS_KEY, "anna")}
        await gateway.http.post(ACTS["close ticket"][0], headers=by_key)
        expected.append(("anna (operations key)", "operator", "close ticket", "not found"))
        exported = await gateway.http.get("/operations/acts.jsonl", headers=by_key)
        rows = [json.loads(line) for line in exported.text.splitlines()]
        assert [(row["actor"], row["role"], row["act"], row["result"]) for row in rows] == expected
        assert [row["position"] for row in rows] == list(range(1, len(rows) + 1))
        later = await gateway.http.get(f"/operations/acts.jsonl?after={len(rows) - 1}", headers=by_key)
        assert [json.loads(line) for line in later.text.splitlines()] == rows[-1:]


async def test_each_role_may_do_its_acts_at_the_api_and_no_other(
    tmp_path: Path, broker: Broker, file: Path
) -> None:
    acts = [route for route in api.router.routes if "POST" in getattr(route, "methods", ())]
    assert len(acts) == len(FLEET_ACTS)  # none is missing here
    async with bench(tmp_path, broker.port, users_file=file) as (gateway, peer):
        for command in ("block-cell", "unblock-cell", "clear-cell"):
            peer.scripts[command] = lambda _: {"result": {}}
        expected = []
        for role in Role:
            by = {"Authorization": basic(PASSWORD, f"{role}@example.org")}
            for path in ("", "/machine_123", "/machine_123/events"):
                page = await gateway.http.get(f"{api.PREFIX}/machines{path}", headers=by)
                assert page.status_code == 200
            for act, (path, needed) in FLEET_ACTS.items():
                body = {"reason": "it rubs"}
                response = await gateway.http.post(f"{api.PREFIX}{path}", json=body, headers=by)
                results = ["not found"] if act == "close ticket" else ["requested", "done"]
                status = 404 if act == "close ticket" else 200
                if not role.may(needed):
                    results, status = ["refused"], 403
                assert response.status_code == status, (role, act, response.text)
                expected += [(f"{role}@example.org", str(role), act, result) for result in results]
        assert len(peer.commands) == 5  # two of support, three of operator
        by_key = {"Authorization": basic(OPERATIONS_KEY)}
        exported = await gateway.http.get("/operations/acts.jsonl", headers=by_key)
        rows = [json.loads(line) for line in exported.text.splitlines()]
        assert [(row["actor"], row["role"], row["act"], row["result"]) for row in rows] == expected


async def test_nobody_gets_in_with_a_wrong_password_and_guessers_wait(
    tmp_path: Path, broker: Broker, file: Path
) -> None:
    given = settings(tmp_path, broker.port).model_copy(update={"users_file": str(file)})
    limits = given.limits.model_copy(update={"wrong_keys": 2, "wrong_keys_per_min": 0.001})
    async with running_gateway(given.model_copy(update={"limits": limits})) as gateway:
        good = {"Authorization": basic(PASSWORD, "reader@example.org")}
        assert (await gateway.http.get("/operations", headers=good)).status_code == 200
        codes = [
            (await gateway.http.get("/operations", headers={"Authorization": basic("x", name)})).status_code
            for name in ("reader@example.org", "nobody", "reader@example.org")
        ]
        assert codes == [401, 401, 429]
        assert (await gateway.http.get("/operations", headers=good)).status_code == 200  # known to be right


@pytest.mark.parametrize("name", ["support@example.org" + " " * 109, "x" * 1000, ""])
async def test_no_name_hides_that_the_operations_key_was_used(
    tmp_path: Path, broker: Broker, name: str
) -> None:
    async with running_gateway(settings(tmp_path, broker.port)) as gateway:
        by_key = {"Authorization": basic(OPERATIONS_KEY, name)}
        await gateway.http.post(ACTS["close ticket"][0], headers=by_key)
        exported = await gateway.http.get("/operations/acts.jsonl", headers=by_key)
    assert json.loads(exported.text)["actor"].endswith(" (operations key)")


async def test_a_machine_is_released_and_recorded_together_or_not_at_all(
    tmp_path: Path, broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> None:
        raise sqlite3.OperationalError("disk I/O error")

    by_key = {"Authorization": basic(OPERATIONS_KEY)}
    async with running_gateway(settings(tmp_path, broker.port)) as gateway:
        twins = gateway.app.state.parts.twins
        for run in ("run-a", "run-b", "run-a"):
            await twins.take_online("machine_123", born(run), retained=False)
        with monkeypatch.context() as patched:
            patched.setattr("cloud_gateway.operations.routes.record_act", fails)
            failed = await gateway.http.post(ACTS["release machine"][0], headers=by_key)
        assert failed.status_code == 500
        assert await twins.has_unresolved("machine_123")
        released = await gateway.http.post(ACTS["release machine"][0], headers=by_key)
        assert released.status_code == 303
        assert not await twins.has_unresolved("machine_123")
        exported = await gateway.http.get("/operations/acts.jsonl", headers=by_key)
    assert json.loads(exported.text)["result"] == "done"


async def test_guesses_sent_together_are_counted_one_by_one(
    tmp_path: Path, broker: Broker, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compared: list[bytes] = []

    def not_right(_stored: bytes, password: bytes) -> bool:
        compared.append(password)
        return False

    monkeypatch.setattr("cloud_gateway.users._is_right", not_right)
    given = settings(tmp_path, broker.port).model_copy(update={"users_file": str(file)})
    limits = given.limits.model_copy(update={"wrong_keys": 2, "wrong_keys_per_min": 0.001})
    async with running_gateway(given.model_copy(update={"limits": limits})) as gateway:
        guesses = [{"Authorization": basic(f"guess {n}", "reader@example.org")} for n in range(10)]
        answers = await asyncio.gather(*(gateway.http.get("/operations", headers=one) for one in guesses))
    assert sorted(answer.status_code for answer in answers) == [401] * 2 + [429] * 8
    assert len(compared) == 2


async def test_the_record_cannot_be_changed_or_deleted(tmp_path: Path, broker: Broker, file: Path) -> None:
    given = settings(tmp_path, broker.port).model_copy(update={"users_file": str(file)})
    async with running_gateway(given) as gateway:
        await post(gateway, ACTS["close ticket"][0], Role.SUPPORT)
        store = gateway.app.state.parts.store
        for change in (update(operator_acts).values(actor="x"), delete(operator_acts)):
            with pytest.raises(DBAPIError, match="never changed or deleted"):
                await store.write(lambda db, change=change: db.execute(change))
        count = await store.read(lambda db: db.execute(text("SELECT count(*) FROM operator_acts")).scalar())
        assert count == 1
