"""`/api/operations/v1`, releases: versions of the daemon that go out to the machines in waves."""

from __future__ import annotations

import uuid
from collections import Counter
from typing import Annotated, Any

from fastapi import APIRouter, Body, Depends
from pydantic import Field
from sqlalchemy import Connection

from cloud_gateway.api.common import NOT_FOUND_ERRORS, GatewayParts, WithParts
from cloud_gateway.api.errors import invalid, not_found
from cloud_gateway.operations.acts import Actor, record_act
from cloud_gateway.operations.remote_api import (
    AT,
    NAME,
    PREFIX,
    REMOTE_ERRORS,
    Limit,
    described,
    remote_work,
)
from cloud_gateway.operations.routes import Acting, actor_of, refuse_without, same_site
from cloud_gateway.remote.releases import (
    STOPPED,
    ReleaseRow,
    add_release,
    end_release,
    find_release,
    newest_releases,
    pause_release,
    progress_of,
)
from cloud_gateway.remote.work import NO_KEY
from cloud_gateway.users import Role
from edge_agent.errors import Code, Refusal
from edge_agent.protocol.api import Body as JsonBody
from edge_agent.protocol.api import Identifier, rfc3339


class ReleaseBody(JsonBody):
    """A version of the daemon for some machines, or all."""

    version: Annotated[str, Field(pattern=r"^[0-9][A-Za-z0-9.+~:-]{0,63}$")] = described(
        "The version.", "0.3.0"
    )
    machine_ids: Annotated[list[Identifier], Field(max_length=100_000)] | None = described(
        "Which machines; absent: every machine that is known.", ["machine_123"], default=None
    )


class WaveView(JsonBody):
    """One wave of a release."""

    wave: int = described("Its number, from 1.", 1)
    results: dict[str, int] = described("Number of its machines by result.", {"APPLIED": 5})


class ReleaseView(JsonBody):
    """A release, and how far its machines are."""

    release_id: str = described("Its id.", "rel_0f1e2d3c")
    version: str = described("The version.", "0.3.0")
    by: str = described("Who began it.", NAME)
    begun_at: str = described("When it began.", AT)
    state: str = described("RUNNING, PAUSED, STOPPED or FINISHED.", "RUNNING")
    reason: str = described("Why it stopped.", "1 of 5 machines of wave 1 went back: machine_7", default="")
    ended_at: str | None = described("When it ended.", AT, default=None)
    results: dict[str, int] = described("Number of machines by result.", {"APPLIED": 5, "WAITING": 95})
    waves: list[WaveView] = Field(description="Its waves, the first one first.")
    machines: dict[str, dict[str, Any]] = described(
        "Wave and result of each machine.",
        {"machine_123": {"wave": 1, "result": "APPLIED"}},
        default_factory=dict,
    )


router = APIRouter(
    prefix=PREFIX,
    dependencies=[Depends(actor_of)],
    tags=["remote work"],
    responses=REMOTE_ERRORS,
)


@router.post(
    "/releases", status_code=201, response_model_exclude_none=True, dependencies=[Depends(same_site)]
)
async def begin_release(body: Annotated[ReleaseBody, Body()], parts: WithParts, actor: Acting) -> ReleaseView:
    """Begins a release: at most 5 machines first, then 5 %, 25 % and all. It is stopped by one machine of the
    first wave that goes back, later by more than 1 % of a wave."""
    await refuse_without(parts, actor, Role.OPERATOR, "begin release", body.version)
    if not remote_work(parts).signed:
        raise Refusal(Code.NOT_BUILT, NO_KEY)
    known = dict.fromkeys(await parts.store.machine_ids())
    chosen = list(known) if body.machine_ids is None else list(dict.fromkeys(body.machine_ids))
    for place, machine_id in enumerate(chosen):
        if machine_id not in known:
            raise invalid(f"machine_ids[{place}]", f"no machine {machine_id} is known")
    if not chosen:
        raise Refusal(Code.NOT_ALLOWED, "no machine is known")
    now_s = parts.clock()
    release = ReleaseRow(f"rel_{uuid.uuid4().hex}", body.version, actor.name, now_s)

    def work(db: Connection) -> None:
        add_release(db, release, chosen)
        record_act(db, actor, "begin release", f"{release.release_id} {body.version}", "done", now_s)

    await parts.store.write(work)
    remote_work(parts).wake()
    return await _release_view(parts, release, detailed=True)


@router.get("/releases", response_model_exclude_none=True)
async def releases(parts: WithParts, limit: Limit = 20) -> list[ReleaseView]:
    """The newest releases, newest first, without their machines."""
    found = await parts.store.read(lambda db: newest_releases(db, limit))
    return [await _release_view(parts, one, detailed=False) for one in found]


@router.get("/releases/{release_id}", response_model_exclude_none=True, responses=NOT_FOUND_ERRORS)
async def release(release_id: str, parts: WithParts) -> ReleaseView:
    """One release, with the wave and the result of each machine."""
    return await _release_view(parts, await _found_release(parts, release_id), detailed=True)


@router.post(
    "/releases/{release_id}/stop",
    response_model_exclude_none=True,
    responses=NOT_FOUND_ERRORS,
    dependencies=[Depends(same_site)],
)
async def stop_release(release_id: str, parts: WithParts, actor: Acting) -> ReleaseView:
    """Stops a release: no further machine gets it. Those that are at it finish by themselves."""
    await refuse_without(parts, actor, Role.OPERATOR, "stop release", release_id)
    await _found_release(parts, release_id)
    now_s = parts.clock()

    def work(db: Connection) -> None:
        done = end_release(db, release_id, STOPPED, f"stopped by {actor.name}", now_s)
        record_act(db, actor, "stop release", release_id, "done" if done else "was over", now_s)

    await parts.store.write(work)
    return await _release_view(parts, await _found_release(parts, release_id), detailed=True)


@router.post(
    "/releases/{release_id}/pause",
    response_model_exclude_none=True,
    responses=NOT_FOUND_ERRORS,
    dependencies=[Depends(same_site)],
)
async def pause_one_release(release_id: str, parts: WithParts, actor: Acting) -> ReleaseView:
    """Pauses a release: no further machine gets it until it is resumed. Those that are at it finish by
    themselves."""
    return await _pause(parts, actor, release_id, paused=True)


@router.post(
    "/releases/{release_id}/resume",
    response_model_exclude_none=True,
    responses=NOT_FOUND_ERRORS,
    dependencies=[Depends(same_site)],
)
async def resume_release(release_id: str, parts: WithParts, actor: Acting) -> ReleaseView:
    """Lets a paused release go on where it was. What machines reported meanwhile counts."""
    return await _pause(parts, actor, release_id, paused=False)


async def _pause(parts: GatewayParts, actor: Actor, release_id: str, *, paused: bool) -> ReleaseView:
    act = "pause release" if paused else "resume release"
    await refuse_without(parts, actor, Role.OPERATOR, act, release_id)
    await _found_release(parts, release_id)
    now_s = parts.clock()

    def work(db: Connection) -> None:
        done = pause_release(db, release_id, paused=paused)
        record_act(db, actor, act, release_id, "done" if done else "nothing to do", now_s)

    await parts.store.write(work)
    remote_work(parts).wake()
    return await _release_view(parts, await _found_release(parts, release_id), detailed=True)


async def _found_release(parts: GatewayParts, release_id: str) -> ReleaseRow:
    found = await parts.store.read(lambda db: find_release(db, release_id))
    if found is None:
        raise not_found("release")
    return found


async def _release_view(parts: GatewayParts, row: ReleaseRow, *, detailed: bool) -> ReleaseView:
    progress = await parts.store.read(lambda db: progress_of(db, row.release_id))
    waves = {
        wave: Counter(one.result for one in progress.values() if one.wave == wave)
        for wave in sorted({one.wave for one in progress.values()})
    }
    machines = {name: {"wave": one.wave + 1, "result": one.result} for name, one in progress.items()}
    return ReleaseView(
        release_id=row.release_id,
        version=row.version,
        by=row.actor,
        begun_at=rfc3339(row.begun_s),
        state=row.state,
        reason=row.reason,
        ended_at=None if row.ended_s is None else rfc3339(row.ended_s),
        results=dict(Counter(one.result for one in progress.values())),
        waves=[WaveView(wave=wave + 1, results=dict(results)) for wave, results in waves.items()],
        machines=machines if detailed else {},
    )
