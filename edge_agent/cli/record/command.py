"""The command `edge-agent bus record-profile`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

import typer

from edge_agent import __version__
from edge_agent.cli.daemon import (
    DEFAULT_SOCKET,
    REFUSED,
    USAGE,
    Socket,
    call,
    console,
    file_problem,
    problems,
)
from edge_agent.cli.pin import As, PinFile
from edge_agent.cli.record.steps import NotRecorded, TerminalDialog, VectorRecorder
from edge_agent.cli.text.language import _, marked, plural
from edge_agent.drivers.profiles import Profile
from edge_agent.protocol.api import rfc3339
from edge_agent.runtime.clock import SystemClock
from edge_agent.service.recording import Exchange, vectors_toml

RELAYS = marked("they switch only when a parcel needs them; watch one, and note it in the profile")


def record_profile(
    context: typer.Context,
    device: Annotated[str, typer.Argument(metavar="DEVICE", help="its name in the configuration")],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", help="a new file; default: PROFILE-vectors.toml"),
    ] = None,
    socket: Socket = DEFAULT_SOCKET,
    pin_file: PinFile = None,
    name: As = None,
) -> None:
    """Record frames of a real board, step by step, as vectors for its profile; exit 1 if some are missing.

    The daemon keeps the port and works on. One lock is pulsed: of a free cell that you name and confirm, and
    it is journaled as your `open`. Stand at the machine.
    """
    found = call(socket, "GET", f"/v1/bus/devices/{quote(device, safe='')}")
    profile = Profile.model_validate(found["described"])
    file = output or Path(f"{found['profile']}-vectors.toml")
    if file.exists():
        raise _stop(_("{file} exists already", file=file), USAGE)
    talk = context.obj if isinstance(context.obj, TerminalDialog) else TerminalDialog()
    console.print(_introduction(found, profile), highlight=False, markup=False, soft_wrap=True)
    person = talk.text(_("Your name, for the file"))
    board = talk.text(_("Model and version, as printed on the board"))
    if not person or not board:
        raise _stop(_("without a name and a board nobody could rely on the frames"), REFUSED)
    recorder = VectorRecorder(socket, found, profile, talk, pin_file, name)
    missing = _record(recorder)
    if recorder.recorded:
        _write(file, _text(found, person, board, recorder.recorded))
        number = len(recorder.recorded)
        said = plural("{number} vector is in {file}", "{number} vectors are in {file}", number, file=file)
        console.print(said, highlight=False, markup=False)
    relays = [f"relays: {_(RELAYS)}"] if "relays" in _uses(recorder) else []
    for line in missing + relays:
        problems.print(_("not recorded: {what}", what=line), style="yellow", highlight=False, markup=False)
    if missing or not recorder.recorded:
        raise _stop(_("grade: not silver yet; record the rest in another run"), REFUSED)
    grade = _(
        "grade: silver, once they are in {profile}.toml; the file says what else to set there",
        profile=found["profile"],
    )
    console.print(grade, highlight=False, markup=False, soft_wrap=True)


def _uses(recorder: VectorRecorder) -> set[str]:
    """The capabilities of the profile that cells of this machine use."""
    capabilities = {"door": "doors", "heating": "relays", "cooling": "relays"}
    found = {capabilities.get(row["use"], row["use"]) for row in recorder.device["cells"]}
    return found | ({"checks"} if recorder.profile.checks else set())


def _record(recorder: VectorRecorder) -> list[str]:
    """Goes through the steps; returns what could not be recorded, and why."""
    uses = _uses(recorder)
    steps: list[tuple[str, Callable[[], None]]] = [
        ("doors", recorder.doors),
        ("lock", recorder.lock),
        ("scale", recorder.scale),
        ("temperature", recorder.temperature),
        ("signal", recorder.signal),
        ("checks", recorder.checks),
    ]
    if "doors" in uses and not set(recorder.cells("lock")) & set(recorder.cells("door")):
        steps.insert(1, ("doors", recorder.one_door))
    missing = [] if uses - {"relays"} else [_("no cell of this machine uses the board")]
    for capability, step in steps:
        if capability not in uses:
            continue
        try:
            step()
        except NotRecorded as why:
            missing.append(f"{capability}: {why}")
            problems.print(f"{capability}: {why}", style="red", highlight=False, markup=False)
    return missing


def _introduction(device: dict[str, Any], profile: Profile) -> str:
    board = _(
        "{device} is address {address} on bus {bus}, profile {profile} (grade {grade}).",
        device=device["device"],
        address=device["address"],
        bus=device["bus"],
        profile=device["profile"],
        grade=profile.identity.grade,
    )
    rules = _(
        "Each step says what to do at the machine. Nobody else may use it meanwhile. "
        "Only a real board counts: frames of a simulated one prove nothing."
    )
    return f"{board}\n{rules}"


def _text(device: dict[str, Any], person: str, board: str, recorded: list[tuple[str, Exchange]]) -> str:
    day = rfc3339(SystemClock().now().wall_s)[:10]  # the date in UTC
    person, board = (one.replace('"', "'").replace("\\", "/") for one in (person, board))
    return (
        f"# Frames of a real board, recorded by `edge-agent bus record-profile` {__version__}.\n"
        f"# Append them to {device['profile']}.toml, and set in its [identity]:\n"
        f'# recorded = "{person}, {day}, on {board}"\n\n'
    ) + vectors_toml(recorded)


def _write(file: Path, text: str) -> None:
    try:
        with file.open("x", encoding="utf-8") as opened:
            opened.write(text)
    except OSError as error:
        raise _stop(file_problem(file, error), USAGE) from None


def _stop(why: str, code: int) -> typer.Exit:
    problems.print(why, style="red", highlight=False, markup=False, soft_wrap=True)
    return typer.Exit(code)
