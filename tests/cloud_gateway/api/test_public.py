"""What is not under the API's prefix: QR images, health, OpenAPI and its page."""

from __future__ import annotations

import json
import re
import struct
import zlib
from pathlib import Path
from typing import Any

import pytest
import segno
from pydantic import ValidationError

from cloud_gateway.api import reference_page
from cloud_gateway.api.bodies import EchoBody, SearchBody
from cloud_gateway.api.openapi import WEBHOOK_URL
from edge_agent.protocol.api import Body, MaintenanceBody, OpenDoorBody, ReserveBody
from tests.cloud_gateway.support import API, RESERVE, running_gateway, settings
from tests.support.broker import Broker


async def test_qr_image_needs_no_key_and_holds_the_text(tmp_path: Path, broker: Broker) -> None:
    async with running_gateway(settings(tmp_path, broker.port)) as gateway:
        del gateway.http.headers["X-API-Key"]
        text = "DLV-DROP-res_789-1234"
        response = await gateway.http.get(f"/qrcode/{text}")
        assert response.status_code == 200
        assert response.headers["content-type"] == "image/png"
        modules = [list(row) for row in segno.make_qr(text, error="m").matrix]
        assert _modules(response.content, len(modules)) == modules
        for other in (
            "ABC123",
            "DLV-DROP-res_789-",
            "DLV-OPEN-res_1-1",
            "DLV-DROP-res_1-1234%0A",
            "x" * 3000,
        ):
            response = await gateway.http.get(f"/qrcode/{other}")
            assert (response.status_code, response.json()["code"]) == (404, 5)


ALWAYS = {"400", "403", "429", "500"}
OF_A_MACHINE = ALWAYS | {"404", "501", "503", "504"}

ROUTES: dict[tuple[str, str], tuple[set[str], str | None]] = {
    ("post", "/echo"): (ALWAYS, "EchoBody"),
    ("post", "/machines/search"): (ALWAYS, "SearchBody"),
    ("get", "/machines/{machine_id}"): (ALWAYS | {"404"}, None),
    ("post", "/reservations"): (OF_A_MACHINE, "ReserveBody"),
    ("get", "/reservations"): (ALWAYS, None),
    ("get", "/reservations/{reservation_id}"): (ALWAYS | {"404"}, None),
    ("post", "/reservations/{reservation_id}/dropoffs"): (OF_A_MACHINE, "object"),
    ("post", "/reservations/{reservation_id}/pickups"): (OF_A_MACHINE, "object"),
    ("post", "/reservations/{reservation_id}/deletes"): (OF_A_MACHINE, "object"),
    ("post", "/reservations/{reservation_id}/abandons"): (OF_A_MACHINE, "object"),
    ("post", "/reservations/{reservation_id}/open-door"): (OF_A_MACHINE, "OpenDoorBody"),
    ("post", "/maintenances"): (OF_A_MACHINE, "MaintenanceBody"),
}
"""Every route of the API: the errors it may answer, and the schema of its body."""

OF_OPERATIONS = {"303", "400", "401", "403", "404", "429", "500"}
FLEET = "/api/operations/v1"
OF_THE_FLEET = {"200", "400", "401", "429", "500"}
OF_CELL_ACTS = OF_THE_FLEET | {"403", "404", "501", "503", "504"}
PAGES: dict[tuple[str, str], set[str]] = {
    ("get", "/qrcode/{text}"): {"200", "400", "404", "429", "500"},
    ("get", "/healthz"): {"200", "400", "500", "503"},
    ("get", "/docs"): {"200", "400", "500"},
    ("get", "/operations"): {"200", "400", "401", "429", "500"},
    ("get", "/operations.json"): {"200", "400", "401", "429", "500"},
    ("get", "/operations/acts.jsonl"): {"200", "400", "401", "429", "500"},
    ("post", "/operations/tickets/{ticket_id}/close"): OF_OPERATIONS,
    ("post", "/operations/webhooks/{position}/retry"): OF_OPERATIONS,
    ("post", "/operations/machines/{machine_id}/release"): OF_OPERATIONS,
}

FLEET_ROUTES: dict[tuple[str, str], set[str]] = {
    ("get", f"{FLEET}/machines"): OF_THE_FLEET,
    ("get", f"{FLEET}/machines/{{machine_id}}"): OF_THE_FLEET | {"404"},
    ("get", f"{FLEET}/machines/{{machine_id}}/events"): OF_THE_FLEET | {"404"},
    **{
        ("post", f"{FLEET}/machines/{{machine_id}}/cells/{{label}}/{act}"): OF_CELL_ACTS
        for act in ("block", "unblock", "clear")
    },
    ("post", f"{FLEET}/tickets/{{ticket_id}}/close"): OF_THE_FLEET | {"403", "404"},
}
"""Routes of the operators' API that show the fleet and act on it."""


async def described(folder: Path, broker: Broker) -> dict[str, Any]:
    """/openapi.json."""
    async with running_gateway(settings(folder, broker.port)) as gateway:
        document: dict[str, Any] = (await gateway.http.get("/openapi.json")).json()
        return document


async def test_openapi_describes_every_route_with_its_responses_and_bodies(
    tmp_path: Path, broker: Broker
) -> None:
    document = await described(tmp_path, broker)
    operations = {
        (method, path): operation
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    }
    of_the_api = {(method, f"{API}{path}"): route for (method, path), route in ROUTES.items()}
    of_operators = {place for place in operations if place[1].startswith("/api/operations/v1/")}
    assert set(operations) - of_operators == set(of_the_api) | set(PAGES)
    assert of_operators
    for place, operation in operations.items():
        assert "X-Request-ID" in [parameter["name"] for parameter in operation["parameters"]]
        for status, answer in operation["responses"].items():
            assert "X-Request-ID" in answer["headers"]
            if int(status) >= 400 and place != ("get", "/healthz"):
                described_as = {
                    "application/json": {"schema": {"$ref": "#/components/schemas/ErrorResponse"}}
                }
                assert answer["content"] == described_as, (place, status)
    for place, statuses in (PAGES | FLEET_ROUTES).items():
        assert set(operations[place]["responses"]) == statuses, place
    for place, (errors, body) in of_the_api.items():
        operation = operations[place]
        assert set(operation["responses"]) == errors | {"200"}, place
        assert operation["security"] == [{"APIKeyHeader": []}]
        schema = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema")
        if body == "object":
            assert schema == {"type": "object"}
        else:
            assert schema == (None if body is None else {"$ref": f"#/components/schemas/{body}"}), place
    for reference in _references(document):
        assert reference.rsplit("/", 1)[1] in document["components"]["schemas"]


async def test_every_field_of_openapi_has_a_description_and_an_example(
    tmp_path: Path, broker: Broker
) -> None:
    document = await described(tmp_path, broker)
    schemas = dict(document["components"]["schemas"])
    for kind, methods in document["webhooks"].items():
        schemas[kind] = methods["post"]["requestBody"]["content"]["application/json"]["schema"]
    page = reference_page.ReferencePage(document)
    for name, schema in schemas.items():
        for field, kind in schema.get("properties", {}).items():
            assert kind["description"], (name, field)
            assert page.example(kind) is not None, (name, field)
    for methods in document["paths"].values():
        for operation in methods.values():
            assert all(parameter["description"] for parameter in operation["parameters"])
    bodies: tuple[type[Body], ...] = (EchoBody, SearchBody, ReserveBody, OpenDoorBody, MaintenanceBody)
    for model in bodies:
        example = page.example(schemas[model.__name__])
        model.model_validate(example)
        assert set(example) == set(schemas[model.__name__]["properties"])


async def test_the_reference_is_one_page_without_scripts_or_other_hosts(
    tmp_path: Path, broker: Broker
) -> None:
    async with running_gateway(settings(tmp_path, broker.port)) as gateway:
        del gateway.http.headers["X-API-Key"]
        response = await gateway.http.get("/docs")
        document = (await gateway.http.get("/openapi.json")).json()
    page = response.text
    assert response.headers["content-type"] == "text/html; charset=utf-8"
    assert response.headers["Content-Security-Policy"].startswith("default-src 'none'; style-src 'sha256-")
    assert not re.search(r"<(script|img|link|iframe)|src=", page)
    assert {url.split("/")[0] for url in re.findall(r'href="([^"#]*)', page)} == {""}
    for path, methods in document["paths"].items():
        for method in methods:
            assert f"{method.upper()} {path}</code></h3>" in page
    for kind in document["webhooks"]:
        assert f"WEBHOOK {kind}</code></h3>" in page
    anchors = re.findall(r'id="([^"]+)"', page)
    assert len(anchors) == len(set(anchors))
    assert set(re.findall(r'href="#([^"]+)"', page)) <= set(anchors)
    assert set(document["components"]["schemas"]) <= set(anchors)


async def test_openapi_marks_optional_and_nullable_fields(tmp_path: Path, broker: Broker) -> None:
    document = await described(tmp_path, broker)
    paths, schemas = document["paths"], document["components"]["schemas"]
    needed = {
        path.removeprefix(API): methods["post"]["requestBody"]["required"]
        for path, methods in paths.items()
        if path.startswith(API) and "post" in methods
    }
    assert {path for path, value in needed.items() if value} == {
        "/machines/search",
        "/reservations",
        "/maintenances",
    }
    for name in ("EchoBody", "SearchBody", "ReserveBody", "PackagingBody", "OpenDoorBody", "MaintenanceBody"):
        schema = schemas[name]
        for field, kind in schema["properties"].items():
            nullable = {"type": "null"} in kind.get("anyOf", [])
            assert nullable is (field not in schema.get("required", [])), (name, field)
    for name, schema in schemas.items():
        if not name.endswith("Body"):
            assert '{"type": "null"}' not in json.dumps(schema), name
    sizes = [p for p in paths[f"{API}/reservations"]["get"]["parameters"] if p["name"] == "page_size"]
    assert (sizes[0]["schema"]["minimum"], sizes[0]["schema"]["maximum"]) == (1, 1000)


@pytest.mark.parametrize(
    ("url", "good"),
    [
        ("", True),
        ("https://yourapi.com/webhooks/delivery", True),
        ("https://a.example:8443/x?order=1&b=2", True),
        ("http://127.0.0.1:9000/hook", True),
        ("http://localhost/", True),
        ("http://[::1]:9/x", True),
        ("http://example.org/", False),
        ("ftp://example.org/", False),
        ("https://", False),
        ("no", False),
    ],
)
def test_the_pattern_of_webhook_urls_agrees_with_the_api(url: str, good: bool) -> None:
    assert (re.search(WEBHOOK_URL, url) is not None) is good
    body = {**RESERVE, "webhook_url": url}
    if good:
        ReserveBody.model_validate(body)
    else:
        with pytest.raises(ValidationError):
            ReserveBody.model_validate(body)


def _references(node: Any) -> list[str]:
    if isinstance(node, dict):
        own = [node["$ref"]] if isinstance(node.get("$ref"), str) else []
        return own + [found for value in node.values() for found in _references(value)]
    if isinstance(node, list):
        return [found for value in node for found in _references(value)]
    return []


def _modules(png: bytes, size: int) -> list[list[int]]:
    """The dark modules of a one-bit greyscale PNG with the filters None and Up (PNG specification, 9.2)."""
    assert png[:8] == b"\x89PNG\r\n\x1a\n"
    position, data, width = 8, b"", 0
    while position < len(png):
        (length,) = struct.unpack(">I", png[position : position + 4])
        kind, body = png[position + 4 : position + 8], png[position + 8 : position + 8 + length]
        if kind == b"IHDR":
            width, _height, depth, colour = struct.unpack(">IIBB", body[:10])
            assert (depth, colour) == (1, 0)
        elif kind == b"IDAT":
            data += body
        position += 12 + length
    raw, stride = zlib.decompress(data), (width + 7) // 8 + 1
    lines = [bytes(stride - 1)]
    for start in range(0, len(raw), stride):
        kind_of_filter, line = raw[start], raw[start + 1 : start + stride]
        assert kind_of_filter in (0, 2)
        above = lines[-1] if kind_of_filter == 2 else bytes(stride - 1)
        lines.append(bytes((one + two) % 256 for one, two in zip(line, above, strict=True)))
    scale = width // (size + 8)

    def dark(row: int, column: int) -> int:
        x, y = (column + 4) * scale + scale // 2, (row + 4) * scale + scale // 2
        return 1 - (lines[y + 1][x // 8] >> (7 - x % 8) & 1)

    return [[dark(row, column) for column in range(size)] for row in range(size)]
