"""The files of the kiosk's page, and the headers with which they are served."""

from __future__ import annotations

from importlib import resources

HOST = "127.0.0.1"
TYPES = {"css": "text/css", "js": "text/javascript", "json": "application/json"}
POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src data:",
        "connect-src 'self'",
        "form-action 'none'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    )
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}


def hosts_of(port: int) -> frozenset[str]:
    """The Host headers that are our own on this port: others come from a page of another host."""
    found = {f"{name}:{port}" for name in (HOST, "localhost")}
    return frozenset(found | {HOST, "localhost"} if port == 80 else found)


def names(folder: str) -> set[str]:
    """The files of a folder."""
    return {entry.name for entry in resources.files("edge_agent.console.screen").joinpath(folder).iterdir()}


def read(folder: str, name: str) -> str:
    """Read for each request: a page is loaded once a day, and need not stay in memory."""
    return resources.files("edge_agent.console.screen").joinpath(folder, name).read_text(encoding="utf-8")
