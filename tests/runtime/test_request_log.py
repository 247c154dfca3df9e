"""One id leads from the REST call to the lock: the log shows each step, and holds no code."""

from __future__ import annotations

from pathlib import Path

import structlog

from tests.support.site import Site, at_site


def test_a_request_can_be_followed_to_its_pulse(tmp_path: Path) -> None:
    codes: list[str] = []

    async def test(site: Site) -> None:
        made = await site.reserve()
        codes.extend((made["drop_off_code"], made["pickup_code"]))
        await site.call("dropoff", "res_1", "req_1", x_request_id="support-77")
        agent = site.plant.agent
        assert agent is not None
        await agent.local.enter_code(made["pickup_code"])  # refused, and logged

    before = structlog.get_config()
    with structlog.testing.capture_logs() as entries:
        structlog.configure(wrapper_class=structlog.BoundLogger, cache_logger_on_first_use=False)
        try:
            at_site(tmp_path, test)
        finally:
            structlog.configure(**before)
    command = next(line for line in entries if line["event"] == "command" and line["request_id"] == "req_1")
    assert (command["command"], command["x_request_id"]) == ("dropoff", "support-77")
    pulse = next(line for line in entries if line["event"] == "pulse")
    assert (pulse["unlock_id"], pulse["door"]) == (command["unlock_id"], "open")
    answered = next(line for line in entries if line["event"] == "answered" and line["request_id"] == "req_1")
    assert answered["code"] == 0
    assert codes
    assert not [line for line in entries if any(code in str(line) for code in codes)]
