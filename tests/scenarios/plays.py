"""The scenarios: what must be the same on every wire, at every speed, with every protocol."""

from __future__ import annotations

from edge_agent.model import Door
from tests.scenarios.stage import Scenario, Stage, until

TRIES = 20
"""On a bad wire people try again."""
CLEARED_WITHIN_S = 5 + 2
"""A port is opened again within 2 s; its alarm is cleared 5 s after the condition ended."""
LIFE = ["RESERVATION_CREATED", "DROPOFF", "PICKUP", "RESERVATION_COMPLETED"]


async def _opened(stage: Stage, name: str, rid: str) -> str:
    """Asks until a door is said to be open; its label."""
    for _ in range(TRIES):
        reply = await stage.call(name, rid)
        if "result" in reply:
            label = str(reply["result"]["cell"]["description"])
            assert stage.door(label) is Door.OPEN
            return label
        assert reply["error"]["code"] in (4, 9, 13, 14), reply
        await stage.pause(0.5)
    raise AssertionError(f"{name}: never granted")


async def _dropped_off(stage: Stage, rid: str) -> str:
    label = await _opened(stage, "dropoff", rid)
    stage.hands("place", label)
    await stage.pause(0.5)
    stage.hands("close", label)
    await until(stage, lambda: "DROPOFF" in stage.published(rid))
    return label


async def _fetched(stage: Stage, rid: str, label: str) -> None:
    assert stage.door(label) is Door.OPEN
    stage.hands("take", label)
    await stage.pause(0.5)
    stage.hands("close", label)
    await until(stage, lambda: "RESERVATION_COMPLETED" in stage.published(rid))


async def a_life_by_the_api(stage: Stage) -> None:
    """Reserved, dropped off, fetched: the four events, and no lock but this one."""
    rid = (await stage.reserve())["reservation_id"]
    label = await _dropped_off(stage, rid)
    assert await _opened(stage, "pickup", rid) == label
    await _fetched(stage, rid, label)
    assert [kind for kind in stage.published(rid) if kind in LIFE] == LIFE
    assert set(stage.pulses()) == {label}


async def a_life_by_codes(stage: Stage) -> None:
    """The same with digits at the kiosk, which need no cloud."""
    made = await stage.reserve()
    rid, label = made["reservation_id"], made["cell"]["description"]

    async def entered(code: str) -> None:
        for _ in range(TRIES):
            if stage.door(label) is Door.OPEN or await stage.enter(code):
                return
            await stage.pause(0.5)
        raise AssertionError("the door never opened")

    await entered(made["drop_off_code"])
    await until(stage, lambda: stage.door(label) is Door.OPEN)
    await stage.pause(1.0)
    stage.hands("place", label)
    stage.hands("close", label)
    await until(stage, lambda: "DROPOFF" in stage.published(rid))
    await entered(made["pickup_code"])
    await stage.pause(1.0)
    await _fetched(stage, rid, label)
    assert set(stage.pulses()) == {label}


async def a_jammed_lock(stage: Stage) -> None:
    """The reservation moves within the same call, and an alarm names the lock."""
    made = await stage.reserve()
    rid, label = made["reservation_id"], made["cell"]["description"]
    end = stage.fault("lock_jammed", label)
    other = await _opened(stage, "dropoff", rid)
    assert other != label
    await until(stage, lambda: "ALARM_RAISED:LOCK_JAMMED" in stage.published())
    assert set(stage.pulses()) == {label, other}
    end()
    stage.hands("close", other)


async def a_forced_door(stage: Stage) -> None:
    """It raises an alarm, and moves no reservation."""
    made = await stage.reserve()
    rid, label = made["reservation_id"], made["cell"]["description"]
    stage.hands("open", label)
    await until(stage, lambda: "ALARM_RAISED:DOOR_FORCED" in stage.published())
    await stage.pause(0.5)
    stage.hands("close", label)
    await stage.pause(1.0)
    assert [kind for kind in stage.published(rid) if kind in LIFE] == LIFE[:1]
    assert stage.pulses() == []


async def a_silent_board(stage: Stage) -> None:
    """Nothing is pulsed that cannot be seen; when the board answers again, everything goes on."""
    made = await stage.reserve()
    rid = made["reservation_id"]
    label = await _dropped_off(stage, rid)
    before = stage.pulses()
    end = stage.fault("device_silent", stage.address_of(label))
    reply = await stage.call("pickup", rid)
    assert reply["error"]["code"] == 13, reply
    assert stage.pulses() == before
    await until(stage, lambda: "ALARM_RAISED:DEVICE_SILENT" in stage.published())
    end()
    await until(stage, lambda: "ALARM_CLEARED:DEVICE_SILENT" in stage.published())
    assert await _opened(stage, "pickup", rid) == label
    await _fetched(stage, rid, label)


async def a_lost_port(stage: Stage) -> None:
    """It raises an alarm, the port is opened again by itself, and nothing was lost."""
    made = await stage.reserve()
    rid = made["reservation_id"]
    label = await _dropped_off(stage, rid)
    end = stage.fault("bus_unplugged")
    await until(stage, lambda: "ALARM_RAISED:BUS_DOWN" in stage.published())
    reply = await stage.call("pickup", rid)
    assert reply["error"]["code"] == 13, reply
    end()
    await until(stage, lambda: "ALARM_CLEARED:BUS_DOWN" in stage.published(), CLEARED_WITHIN_S)
    assert await _opened(stage, "pickup", rid) == label
    await _fetched(stage, rid, label)


PLAYS: dict[str, Scenario] = {
    "a life by the API": a_life_by_the_api,
    "a life by codes": a_life_by_codes,
    # Before the jammed lock: within 10 s of its pulses another door that opens is a wrong door.
    "a forced door": a_forced_door,
    "a jammed lock": a_jammed_lock,
    "a silent board": a_silent_board,
    "a lost port": a_lost_port,
}
