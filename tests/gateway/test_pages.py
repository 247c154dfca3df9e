"""What is not under the API's prefix: QR images, health, OpenAPI."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import Any

import segno

from tests.gateway.support import API, running_gateway, settings
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


async def test_openapi_tells_every_route_and_no_framework_error(tmp_path: Path, broker: Broker) -> None:
    async with running_gateway(settings(tmp_path, broker.port)) as gateway:
        document = (await gateway.http.get("/openapi.json")).json()
    expected = {
        ("post", "/echo"),
        ("post", "/machines/search"),
        ("get", "/machines/{machine_id}"),
        ("post", "/reservations"),
        ("get", "/reservations"),
        ("get", "/reservations/{reservation_id}"),
        ("post", "/reservations/{reservation_id}/dropoffs"),
        ("post", "/reservations/{reservation_id}/pickups"),
        ("post", "/reservations/{reservation_id}/deletes"),
        ("post", "/reservations/{reservation_id}/abandons"),
        ("post", "/reservations/{reservation_id}/open-door"),
        ("post", "/maintenances"),
    }
    operations = {
        (method, path.removeprefix(API)): operation
        for path, methods in document["paths"].items()
        if path.startswith(API)
        for method, operation in methods.items()
    }
    assert set(operations) == expected
    for operation in operations.values():
        assert "422" not in operation["responses"]
        assert operation["security"] == [{"APIKeyHeader": []}]
    taken = operations["post", "/reservations"]["requestBody"]["content"]["application/json"]["schema"]
    assert taken == {"$ref": "#/components/schemas/ReserveBody"}
    for reference in _references(document):
        assert reference.rsplit("/", 1)[1] in document["components"]["schemas"]


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
