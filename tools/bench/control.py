"""Serves `/processes/{name}/{act}` on a Unix socket; the simulator's control API forwards the requests."""

from __future__ import annotations

from collections.abc import Mapping

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from edge_agent.errors import Code, Refusal
from edge_agent.protocol.api import rpc_status
from tools.bench.supervisor import Supervised

OF_OTHERS = ("agent", "broker", "gateway")


def create_app(processes: Mapping[str, Supervised]) -> Starlette:
    """Returns the application behind the socket."""

    async def act(request: Request) -> Response:
        name, action = request.path_params["name"], request.path_params["act"]
        if name not in OF_OTHERS:
            return JSONResponse(rpc_status(Refusal(Code.NOT_FOUND, f"no such process: {name}")), 404)
        process = processes[name]
        acts = {"kill": process.kill, "stop": process.stop, "start": process.start}
        if action not in acts:
            return JSONResponse(rpc_status(Refusal(Code.NOT_FOUND, f"no such act: {action}")), 404)
        await acts[action]()
        return JSONResponse({"name": name, "pid": process.pid})

    return Starlette(routes=[Route("/processes/{name}/{act}", act, methods=["POST"])])
