"""The kiosk's screen without a browser: who is served, what is shown, and what became of an entry."""

from __future__ import annotations

import asyncio
import json
import re
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, get_args

import httpx
import pytest

from edge_agent.config.screen import Language, ScreenSection
from edge_agent.console.screen import feed as feed_module
from edge_agent.console.screen.feed import PAGES_MAX
from edge_agent.console.screen.results import REASONS, result_of
from edge_agent.console.screen.server import CAPS, LONGEST_ENTRY, create_screen, serve_screen
from edge_agent.console.unix_server import serve_on
from edge_agent.errors import Code, ErrorInfo, Refusal
from edge_agent.model import Door, Instant
from edge_agent.statemachine.outputs import Answer
from tests.support.site import Site, at_site
from tools.bench.ports import free_port

SECTION = ScreenSection(port=8082, language="de", help="+49 30 1234")
OWN = "http://127.0.0.1:8082"
MESSAGES = Path(feed_module.__file__).parent / "messages"
STATIC = Path(feed_module.__file__).parent / "static"
FROM_PAGE = {"Origin": OWN, "Content-Type": "application/json"}
NOW = Instant("boot", 10**12, 1e9, True)


def screen_of(site: Site) -> Any:
    agent = site.plant.agent
    assert agent is not None
    return create_screen(agent.local, agent.screen_feed, SECTION, 'Hall "A" <South>')


@asynccontextmanager
async def client_of(site: Site, base_url: str = OWN) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(app=screen_of(site))
    async with httpx.AsyncClient(transport=transport, base_url=base_url) as client:
        yield client


async def entered(client: httpx.AsyncClient, text: str) -> dict[str, Any]:
    answer = await client.post("/code", json={"text": text}, headers={"Origin": OWN})
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


class Lines:
    """The events of one page's stream, as they come."""

    def __init__(self, site: Site) -> None:
        agent = site.plant.agent
        assert agent is not None
        self._stream = agent.screen_feed.stream("a page")
        self.feed = asyncio.create_task(agent.screen_feed.run())  # the plant serves no console

    async def next(self, *kinds: str) -> tuple[str, dict[str, Any]]:
        """The next event of one of these kinds."""
        await asyncio.sleep(0)  # the feed begins before the first state is read
        async with asyncio.timeout(60):
            while True:
                kind, body = re.fullmatch(r"event: (\w+)\ndata: (.*)\n\n", await anext(self._stream)).groups()  # type: ignore[union-attr]
                if kind in kinds:
                    return kind, json.loads(body)

    async def until_state(self, key: str, value: object) -> dict[str, Any]:
        """The first state in which a key has a value."""
        while True:
            _, state = await self.next("state")
            if state[key] == value:
                return state

    async def close(self) -> None:
        self.feed.cancel()
        await self._stream.aclose()


def test_only_its_own_host_and_page_are_served(tmp_path: Path) -> None:
    async def test(site: Site) -> None:
        entry = b'{"text": "1234"}'
        async with client_of(site) as client:
            assert (await client.get("/")).status_code == 200
            for host in ("evil.example:8082", "127.0.0.1:9999", "127.0.0.1", "", "localhost.evil:8082"):
                answer = await client.get("/", headers={"Host": host})
                assert answer.status_code == 421, host
            twice = [("Host", "127.0.0.1:8082"), ("Host", "evil.example")]
            assert (await client.get("/", headers=twice)).status_code == 421
            headers: dict[str, str]
            for headers, status in [
                ({"Content-Type": "application/json"}, 403),
                ({**FROM_PAGE, "Origin": "http://evil.example"}, 403),
                ({**FROM_PAGE, "Origin": "null"}, 403),
                ({**FROM_PAGE, "Origin": "http://localhost:8082"}, 403),
                ({**FROM_PAGE, "Content-Type": "text/plain"}, 415),
                ({"Origin": OWN}, 415),
                ({**FROM_PAGE, "Content-Type": "application/json; charset=utf-8"}, 200),
            ]:
                answer = await client.post("/code", content=entry, headers=headers)
                assert answer.status_code == status, headers
        assert site.pulses() == 0

    at_site(tmp_path, test)


def test_it_has_the_rights_of_a_kiosk_user_and_no_more(tmp_path: Path) -> None:
    async def test(site: Site) -> None:
        async with client_of(site) as client:
            for path in (
                "/v1/status",
                "/v1/cells",
                "/v1/code",
                "/metrics",
                "/static/../server.py",
                "/openapi.json",
            ):
                assert (await client.get(path)).status_code in (404, 405), path
            for path in ("/", "/stream", "/v1/code", "/v1/cells/A01/open", "/static/main.js"):
                answer = await client.post(path, json={"text": "1", "reason": "x"}, headers={"Origin": OWN})
                assert answer.status_code in (404, 405), path
            assert (await client.get("/code")).status_code == 405
            for name in ("", "%2e%2e%2fserver.py", "server.py", "kiosk.html", "en.json", "main.js%00"):
                assert (await client.get(f"/static/{name}")).status_code == 404, name

    at_site(tmp_path, test)


def test_bodies_are_bounded_and_bad_ones_name_the_field(tmp_path: Path) -> None:
    async def test(site: Site) -> None:
        async with client_of(site) as client:
            for content, word in [
                (b'{"text": "' + b"1" * LONGEST_ENTRY + b'"}', "body"),
                (b'{"text": 1}', "text"),
                (b'{"txt": "1"}', "text"),
                (b"[]", "object"),
                (b"\xff", "JSON"),
            ]:
                answer = await client.post("/code", content=content, headers=FROM_PAGE)
                assert answer.status_code == 400, content
                assert word.lower() in answer.text.lower()

    at_site(tmp_path, test)


def test_every_answer_is_bound_to_the_page_and_not_stored(tmp_path: Path) -> None:
    async def test(site: Site) -> None:
        async with client_of(site) as client:
            for path in ("/", "/static/main.js", "/messages/ar.json", "/nothing"):
                headers = (await client.get(path)).headers
                assert "default-src 'none'" in headers["content-security-policy"]
                assert "frame-ancestors 'none'" in headers["content-security-policy"]
                assert headers["cache-control"] == "no-store"
                assert headers["x-content-type-options"] == "nosniff"
            page = (await client.get("/")).text
            assert "Hall &quot;A&quot;" not in page  # JSON escapes the quote first
            assert "&lt;South&gt;" in page
            assert "<South>" not in page

    at_site(tmp_path, test)


def test_a_life_by_codes_and_what_the_page_learns_of_it(tmp_path: Path) -> None:
    async def test(site: Site) -> None:
        made = await site.reserve(1)
        lines = Lines(site)
        _, cabinet = await lines.next("cabinet")
        assert cabinet["page"] == "a page"
        assert {"label": "B01", "width": 350, "height": 250} in cabinet["cells"]
        _, state = await lines.next("state")
        assert state == {"doors": {}, "link": True, "service": "ok", "rest": {}}
        async with client_of(site) as client:
            label = made["cell"]["description"]
            opened = await entered(client, made["drop_off_code"])
            larger = opened.pop("larger")
            assert opened == {"result": "opened", "cell": label, "purpose": "dropoff", "grace_s": 120}
            assert larger["seconds"] in (59, 60)
            await lines.until_state("doors", {label: "open"})
            site.plant.world.close(label)
            await lines.until_state("doors", {})
            await site.until(lambda: "DROPOFF" in site.types())
            opened = await entered(client, made["pickup_code"])
            assert opened == {"result": "opened", "cell": label, "purpose": "pickup", "grace_s": 5}
            assert await entered(client, "1") == {"result": "not_valid"}
        await lines.close()

    at_site(tmp_path, test)


def test_nothing_that_is_sent_holds_a_code_or_a_reservation(tmp_path: Path) -> None:
    async def test(site: Site) -> None:
        made = await site.reserve(1, platform_order_id="order 77", notes="for Ms Miller")
        lines = Lines(site)
        sent = [await lines.next("cabinet"), await lines.next("state")]
        agent = site.plant.agent
        assert agent is not None
        reading = asyncio.create_task(agent._read(made["drop_off_code"], 0.0))
        while sent[-1][1].get("result") != "opened":
            sent.append(await lines.next("entry", "state"))
        await reading
        async with client_of(site) as client:
            text = (
                json.dumps(sent) + (await client.get("/")).text + json.dumps(await entered(client, "99999"))
            )
        for secret in (made["drop_off_code"], made["pickup_code"], "res_1", "order 77", "Miller"):
            assert re.search(rf"\b{re.escape(secret)}\b", text) is None, secret
        await lines.close()

    at_site(tmp_path, test)


def test_an_entry_at_the_scanner_is_shown(tmp_path: Path) -> None:
    async def test(site: Site) -> None:
        made = await site.reserve(1)
        lines = Lines(site)
        await lines.next("cabinet")
        agent = site.plant.agent
        assert agent is not None
        text = f"DLV-DROP-res_1-{made['drop_off_code']}"
        reading = asyncio.create_task(agent._read(text, 0.0))
        assert (await lines.next("entry"))[1] == {"result": "under_way"}
        assert (await lines.next("entry"))[1]["cell"] == made["cell"]["description"]
        await reading
        await lines.close()

    at_site(tmp_path, test)


def test_a_right_code_at_a_jammed_door_names_it(tmp_path: Path) -> None:
    async def test(site: Site) -> None:
        made = await site.reserve(1)
        label = made["cell"]["description"]
        async with client_of(site) as client:
            await entered(client, made["drop_off_code"])
            site.plant.world.close(label)
            await site.until(lambda: "DROPOFF" in site.types())
            site.plant.world.jam(label, True)
            assert await entered(client, made["pickup_code"]) == {"result": "not_opened", "cell": label}

    at_site(tmp_path, test)


def test_a_contact_in_doubt_is_shown_as_unknown_and_named(tmp_path: Path) -> None:
    async def test(site: Site) -> None:
        made = await site.reserve(1)
        label = made["cell"]["description"]
        lines = Lines(site)
        async with client_of(site) as client:
            await entered(client, made["drop_off_code"])
            site.plant.world.close(label)
            await site.until(lambda: "DROPOFF" in site.types())
            site.plant.world.stick_contact(label, Door.OPEN)
            await lines.until_state("doors", {label: "unknown"})
            assert await entered(client, made["pickup_code"]) == {"result": "in_doubt", "cell": label}
        await lines.close()

    at_site(tmp_path, test)


def test_the_keypads_rest_is_shown_with_its_seconds(tmp_path: Path) -> None:
    async def test(site: Site) -> None:
        await site.reserve(1)
        lines = Lines(site)
        await lines.next("state")
        async with client_of(site) as client:
            for number in range(5):
                assert await entered(client, f"99999{number}") == {"result": "not_valid"}
        await lines.until_state("rest", {"digits": 60})
        await asyncio.sleep(61)
        assert (await lines.until_state("rest", {}))["service"] == "ok"
        await lines.close()

    at_site(tmp_path, test)


def test_a_lost_broker_and_a_lost_bus_are_shown(tmp_path: Path) -> None:
    async def test(site: Site) -> None:
        lines = Lines(site)
        await lines.next("state")
        site.plant.broker.leave()
        assert (await lines.until_state("link", False))["service"] == "ok"
        site.plant.cables["main"].unplug()
        await lines.until_state("service", "out_of_order")
        await lines.close()

    at_site(tmp_path, test)


def test_an_idle_page_gets_beats(tmp_path: Path) -> None:
    async def test(site: Site) -> None:
        lines = Lines(site)
        begun = asyncio.get_running_loop().time()
        for _ in range(4):
            await lines.next("beat")
        assert asyncio.get_running_loop().time() - begun <= 15
        await lines.close()

    at_site(tmp_path, test)


def test_streams_end_with_the_daemon(tmp_path: Path) -> None:
    async def test(site: Site) -> None:
        lines = Lines(site)
        await lines.next("cabinet")
        lines.feed.cancel()
        with pytest.raises(StopAsyncIteration):
            await lines.next("nothing more")

    at_site(tmp_path, test)


def test_a_further_page_takes_the_place_of_the_oldest(tmp_path: Path) -> None:
    async def test(site: Site) -> None:
        pages = [Lines(site) for _ in range(PAGES_MAX + 1)]
        for page in pages:
            await page.next("cabinet")
        with pytest.raises(StopAsyncIteration):
            await pages[0].next("beat")
        for page in pages[1:]:
            await page.next("beat")
        for page in pages:
            await page.close()

    at_site(tmp_path, test)


@pytest.mark.parametrize(
    ("refusal", "result"),
    [
        (Refusal(Code.NOT_ALLOWED, "not valid"), {"result": "not_valid"}),
        (Refusal(Code.EXPIRED, "too late"), {"result": "too_late"}),
        (Refusal(Code.OFFLINE, "the machine's journal cannot be used just now"), {"result": "try_again"}),
        (Refusal(Code.NOT_ALLOWED, "the reservation ended"), {"result": "try_again"}),
        (
            Refusal(
                Code.NOT_ALLOWED, "hot", info=ErrorInfo("LOCK_COOLS_DOWN", {"cell": "A01", "seconds": "4"})
            ),
            {"result": "cools_down", "cell": "A01", "seconds": 4},
        ),
        (Refusal(Code.NOT_ALLOWED, "?", info=ErrorInfo("HISTORY_UNKNOWN", {})), {"result": "call_for_help"}),
        (Refusal(Code.INTERNAL, "?", info=ErrorInfo("NEW_REASON", {})), {"result": "try_again"}),
    ],
    ids=lambda value: str(getattr(value, "message", "")),
)
def test_what_became_of_a_refused_entry(refusal: Refusal, result: dict[str, Any]) -> None:
    assert result_of(Answer("k", refusal=refusal), NOW) == result


async def test_half_requests_hold_nobody_up() -> None:
    """As many half requests as the screen keeps, and one whole one, over TCP."""
    port = free_port()

    class Loop:
        class layout:  # noqa: N801
            code_digits = 4

    class Local:
        loop = Loop()

    app = create_screen(Local(), None, ScreenSection(port=port), "hall")  # type: ignore[arg-type]
    task = asyncio.create_task(serve_screen(app, port, serve_on))
    held = []
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client, asyncio.timeout(30):
        while True:
            with suppress(httpx.TransportError):
                (await client.get("/")).raise_for_status()
                break
            await asyncio.sleep(0.01)
        for _ in range(2 * CAPS.total):
            one = socket.create_connection(("127.0.0.1", port))
            one.sendall(b"GET / HTTP/1.1\r\nHo")
            held.append(one)
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as other:
            assert (await other.get("/static/main.js")).status_code == 200
    with socket.socket() as probe:  # the port of every other address is free: it listens on 127.0.0.1 only
        probe.bind(("127.0.0.2", port))
    for one in held:
        one.close()
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


async def test_the_stream_over_tcp_ends_with_its_client() -> None:
    """A page that goes leaves no stream behind."""
    port, left = free_port(), asyncio.Event()

    class Loop:
        class layout:  # noqa: N801
            code_digits = 4

    class Local:
        loop = Loop()

    class Feed:
        async def stream(self, page: str) -> AsyncIterator[str]:
            try:
                while True:
                    yield f"event: beat\ndata: {json.dumps(page)}\n\n"
                    await asyncio.sleep(0.01)
            finally:
                left.set()

    app = create_screen(Local(), Feed(), ScreenSection(port=port), "hall")  # type: ignore[arg-type]
    task = asyncio.create_task(serve_screen(app, port, serve_on))
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client, asyncio.timeout(30):
        while True:
            with suppress(httpx.TransportError):
                async with client.stream("GET", "/stream") as answer:
                    assert answer.headers["content-type"].startswith("text/event-stream")
                    assert answer.headers["cache-control"] == "no-store"
                    lines = answer.aiter_lines()
                    assert [await anext(lines) for _ in range(4)][::3] == ["event: beat", "event: beat"]
                break
            await asyncio.sleep(0.01)
        await left.wait()
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


LANGUAGES = get_args(Language)


def words(language: str) -> dict[str, str]:
    found: dict[str, str] = json.loads((MESSAGES / f"{language}.json").read_text(encoding="utf-8"))
    return found


def test_there_is_a_file_for_each_language() -> None:
    assert {path.stem for path in MESSAGES.iterdir()} == set(LANGUAGES)
    (listed,) = re.findall(r"LANGUAGES = (\[.*?\])", (STATIC / "words.js").read_text(encoding="utf-8"))
    assert json.loads(listed) == list(LANGUAGES)


@pytest.mark.parametrize("language", LANGUAGES)
def test_all_files_have_the_same_keys_and_placeholders(language: str) -> None:
    english, other = words("en"), words(language)
    assert list(other) == list(english)
    for key, text in other.items():
        assert text.strip() == text != "", key
        assert sorted(re.findall(r"\{.*?\}", text)) == sorted(re.findall(r"\{.*?\}", english[key])), key
        assert language == "en" or key == "language.direction" or text != english[key], key


def test_every_message_is_used_and_every_used_one_exists() -> None:
    source = "".join((STATIC / name).read_text(encoding="utf-8") for name in ("main.js", "claim.js"))
    results = {*REASONS.values(), "too_late", "try_again"} - {"no_larger_cell"}  # said at the open door
    used = {key for key in re.findall(r'"([a-z_]+\.[a-z_]+)"', source) if not key.endswith(".js")}
    used |= {f"{result}.{part}" for result in results for part in ("title", "text")}
    used |= {
        f"{view}.{purpose}" for view in ("opened", "closed") for purpose in ("dropoff", "pickup", "other")
    }
    used |= {f"action.{name}" for name in ("again", "retry", "larger", "trouble", "done", "start")}
    used |= {"keys.delete", "keys.enter", "language.name", "language.direction"}
    assert used == set(words("en"))


def test_the_page_keeps_nothing_and_knows_no_other_host() -> None:
    for path in STATIC.iterdir():
        text = path.read_text(encoding="utf-8")
        for word in (
            "localStorage",
            "sessionStorage",
            "indexedDB",
            "cookie",
            "innerHTML",
            "console.",
            "://",
            "<a ",
        ):
            assert word not in text, f"{path.name}: {word}"
