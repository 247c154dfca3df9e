"""`make demo`: starts everything, prints when it is ready, and ends everything with one Ctrl-C."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import shutil
import signal
import sys
import tomllib
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx

from edge_agent.config import load_settings
from edge_agent.console.unix_server import serve
from edge_agent.errors import ConfigError
from tools.bench.control import create_app
from tools.bench.ports import HOST, is_free
from tools.bench.settings import (
    REPOSITORY,
    BadEnvironment,
    BenchSettings,
    from_environment,
    write_files,
)
from tools.bench.supervisor import Supervised

READY_TIMEOUT_S = 30.0
LOOK_AGAIN_S = 0.05
STOP_ORDER = ("gateway", "agent", "simulator", "broker")


class NotReady(Exception):
    """A process did not answer in time."""


def main() -> int:
    """Runs the bench until Ctrl-C or SIGTERM; returns the exit code."""
    try:
        settings = from_environment(os.environ)
        machine_id = write_files(settings)
        load_settings(settings.machine_file)
    except (BadEnvironment, OSError, tomllib.TOMLDecodeError) as error:
        return _complain(f"{error}", 2)
    except ConfigError as error:
        for finding in error.findings:
            _complain(f"{settings.config}: {finding}", 2)
        return 2
    broker = shutil.which("mosquitto", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if broker is None:
        return _complain("the Mosquitto broker is missing; install it with: apt install mosquitto", 1)
    lock = (settings.folder / "lock").open("w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return _complain(f"another bench runs in {settings.folder} (BENCH_DIR)", 1)
    for name, port in settings.ports.items():
        if not is_free(port):
            return _complain(f"port {port} is busy; choose another one with {name}", 1)
    with lock:
        return asyncio.run(_run(settings, machine_id, broker))


def _complain(message: str, code: int) -> int:
    print(f"bench: {message}", file=sys.stderr)
    return code


async def _run(settings: BenchSettings, machine_id: str, broker: str) -> int:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    processes = _processes(settings, machine_id, broker)
    supervisors = {
        name: asyncio.create_task(process.supervise(), name=name) for name, process in processes.items()
    }
    control = asyncio.create_task(serve(create_app(processes), settings.control_socket), name="control")
    starting = asyncio.create_task(_start(processes, settings, machine_id), name="start")
    stopping = asyncio.create_task(stop.wait(), name="stop")
    code = 0
    try:
        await asyncio.wait({starting, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if starting.done():
            starting.result()
            print(_greeting(settings, machine_id), flush=True)
            await stopping
    except NotReady as error:
        code = _complain(str(error), 1)
    finally:
        for task in (control, starting, stopping):
            task.cancel()
        await asyncio.gather(control, starting, stopping, return_exceptions=True)
        for name in STOP_ORDER:
            supervisors[name].cancel()
            await asyncio.gather(supervisors[name], return_exceptions=True)
    return code


def _processes(settings: BenchSettings, machine_id: str, broker: str) -> dict[str, Supervised]:
    api, sim = f"http://{HOST}:{settings.api_port}", f"http://{HOST}:{settings.sim_port}"
    machine = str(settings.machine_file)

    def process(name: str, command: list[str], answers: Callable[[], Awaitable[bool]]) -> Supervised:
        async def ready() -> None:
            await _until(answers, name, settings.folder / "logs" / f"{name}.log")

        return Supervised(name, command, settings.folder, ready, REPOSITORY)

    simulator = [sys.executable, "-m", "tools.bus_simulator", "--config", machine]
    simulator += ["--http-port", str(settings.sim_port), "--supervisor", str(settings.control_socket)]
    simulator += ["--page-origin", f"http://{HOST}:{settings.api_port}"]
    simulator += ["--state", str(settings.folder / "world.json")]
    gateway = [sys.executable, "-m", "cloud_gateway", "--config", str(settings.gateway_file)]
    agent = [str(Path(sys.executable).with_name("edge-agent")), "run", "--config", machine]

    async def broker_answers() -> bool:
        return not is_free(settings.mqtt_port)

    async def gateway_answers() -> bool:
        return await _status(f"{api}/healthz") == 200

    async def simulator_answers() -> bool:
        return await _status(f"{sim}/healthz") == 200

    async def agent_answers() -> bool:
        return bool((await _machine(settings, machine_id)).get("online"))

    return {
        "broker": process("broker", [broker, "-c", str(settings.broker_file)], broker_answers),
        "simulator": process("simulator", simulator, simulator_answers),
        "gateway": process("gateway", gateway, gateway_answers),
        "agent": process("agent", agent, agent_answers),
    }


async def _start(processes: dict[str, Supervised], settings: BenchSettings, machine_id: str) -> None:
    """Starts broker, simulator and gateway together, and the agent when its ports exist. Then waits until
    every door has been read and the gateway has answered that it knows of no earlier journal."""

    async def field() -> None:
        await processes["simulator"].start()
        await processes["agent"].start()

    async def doors_known() -> bool:
        status = await _local(settings.agent_socket, "status") or {}
        cells = await _local(settings.agent_socket, "cells") or []
        return status.get("history") == "sound" and _doors_known(await _machine(settings, machine_id), cells)

    await asyncio.gather(processes["broker"].start(), processes["gateway"].start(), field())
    await _until(doors_known, "the locker's wiring", settings.folder / "logs" / "agent.log")


async def _until(answers: Callable[[], Awaitable[bool]], name: str, log: Path) -> None:
    try:
        async with asyncio.timeout(READY_TIMEOUT_S):
            while not await answers():
                await asyncio.sleep(LOOK_AGAIN_S)
    except TimeoutError:
        raise NotReady(f"{name} does not answer; its log is {log}") from None


def _doors_known(machine: dict[str, Any], cells: list[dict[str, Any]]) -> bool:
    """Whether every door has been read, and the gateway has the free cells since."""

    def free(cell: dict[str, Any]) -> bool:
        flagged = cell["blocked"] or cell["faulty"]
        return cell["status"] == "IDLE" and cell["door"] == "closed" and not flagged

    known = {cell["description"] for cell in machine.get("all_cells", ()) if cell["available"]}
    read = bool(cells) and all(cell["door"] != "unknown" for cell in cells)
    return read and known >= {cell["label"] for cell in cells if free(cell)}


async def _local(socket_path: Path, name: str) -> Any:
    """The agent's response on its local API; None if it does not answer."""
    transport = httpx.AsyncHTTPTransport(uds=str(socket_path))
    async with httpx.AsyncClient(timeout=2, transport=transport) as client:
        with contextlib.suppress(httpx.TransportError):
            response = await client.get(f"http://agent/v1/{name}")
            if response.status_code == 200:
                return response.json()
    return None


async def _status(url: str) -> int:
    async with httpx.AsyncClient(timeout=2) as client:
        with contextlib.suppress(httpx.TransportError):
            return (await client.get(url)).status_code
    return 0


async def _machine(settings: BenchSettings, machine_id: str) -> dict[str, Any]:
    """The machine as the gateway shows it; empty while it does not."""
    url = f"http://{HOST}:{settings.api_port}/api/delivery/external/v1/machines/{machine_id}"
    async with httpx.AsyncClient(timeout=2, headers={"X-API-Key": settings.api_key}) as client:
        with contextlib.suppress(httpx.TransportError):
            response = await client.get(url)
            if response.status_code == 200:
                found: dict[str, Any] = response.json()["machine"]
                return found
    return {}


def _greeting(settings: BenchSettings, machine_id: str) -> str:
    api = f"http://{HOST}:{settings.api_port}/api/delivery/external/v1"
    sim = f"http://{HOST}:{settings.sim_port}"
    key = f"-H 'X-API-Key: {settings.api_key}'"
    order = (
        f'{{"machine_id": "{machine_id}", "platform_order_id": "order_456", '
        '"packaging": {"width": 300, "height": 200, "depth": 400, "weight": 1500, "cooling_required": true}}'
    )
    screen = "" if settings.screen_port is None else f"screen:     http://{HOST}:{settings.screen_port}/\n"
    return (
        f"bench ready: api {api} simulator {sim} mqtt {HOST}:{settings.mqtt_port} (Ctrl-C ends all)\n"
        f"  curl -s {key} {api}/reservations -d '{order}'\n"
        f"  curl -s {key} -X POST {api}/reservations/RESERVATION_ID/dropoffs\n"
        f"  curl -s {sim}/cells\n"
        f"wall:       http://{HOST}:{settings.api_port}/\n"
        f"{screen}"
        f"operations: http://{HOST}:{settings.api_port}/operations"
        f" (any user name, password {settings.api_key})\n"
        f"commands:   export EDGE_AGENT_SOCKET={settings.agent_socket}; .venv/bin/edge-agent status"
    )


if __name__ == "__main__":
    sys.exit(main())
