"""docs/asyncapi.yaml: current, valid, and what a real machine sends fits it.

The JSON Schema of AsyncAPI 3.0.0 beside this file is the AsyncAPI Initiative's (Apache-2.0, npm package
@asyncapi/specs 6.11.1), without its spaces.
"""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import jsonschema
import yaml

from edge_agent import __version__
from edge_agent.model import Source
from edge_agent.mqtt.messages import Message
from edge_agent.protocol.asyncapi import document
from edge_agent.protocol.commands import COMMANDS
from edge_agent.protocol.replies import RESULTS
from tests.support.site import Site, at_site
from tools.pages.contracts.pages import DOCS

SCHEMA = Path(__file__).with_name("asyncapi-3.0.0.json.gz")
ROOT = "locker/v1/machine_123/"


def test_the_document_is_valid_asyncapi() -> None:
    found = yaml.safe_load((DOCS / "asyncapi.yaml").read_text(encoding="utf-8"))
    schema = json.loads(gzip.decompress(SCHEMA.read_bytes()))
    jsonschema.Draft7Validator(schema).validate(found)
    broken = found | {"channels": {"x": {"address": 3}}}
    assert list(jsonschema.Draft7Validator(schema).iter_errors(broken))


def test_every_reference_in_it_leads_somewhere() -> None:
    found = document(__version__)

    def follow(value: Any) -> None:
        if isinstance(value, dict):
            if "$ref" in value:
                target: Any = found
                for part in value["$ref"].removeprefix("#/").split("/"):
                    target = target[part]
            for child in value.values():
                follow(child)
        elif isinstance(value, list):
            for child in value:
                follow(child)

    follow(found)
    assert set(RESULTS) == set(COMMANDS)
    assert {f"{name}-command" for name in COMMANDS} < set(found["components"]["messages"])


class Judge:
    """Holds messages against the payloads of the document, in which nothing more may be than it says."""

    def __init__(self) -> None:
        found = document(__version__)
        self._found = found
        self.seen: set[str] = set()

    def judge(self, name: str, payload: str) -> None:
        """Raises `jsonschema.ValidationError`."""
        self.seen.add(name)
        message = self._found["components"]["messages"][name]
        schema = message["payload"] | {"components": self._found["components"]}
        body = json.loads(payload)
        jsonschema.Draft202012Validator(schema).validate(body)
        self._demand_known(message["payload"], body)

    def _demand_known(self, schema: dict[str, Any], body: Any) -> None:
        """Every field that was sent is in the document."""
        while "$ref" in schema:
            schema = self._found["components"]["schemas"][schema["$ref"].rsplit("/", 1)[-1]]
        for choice in schema.get("anyOf", ()):
            if "$ref" in choice and isinstance(body, dict):
                self._demand_known(choice, body)
        if isinstance(body, dict) and "properties" in schema:
            unknown = set(body) - set(schema["properties"])
            assert not unknown, unknown
            for name, value in body.items():
                self._demand_known(schema["properties"][name], value)
        elif isinstance(body, list) and isinstance(schema.get("items"), dict):
            for item in body:
                self._demand_known(schema["items"], item)


def test_what_a_machine_sends_fits_the_document(tmp_path: Path) -> None:
    judge = Judge()
    places = {"evt": "events", "state/machine": "machine", "state/digest": "digest"}
    places["telemetry"] = "telemetry"

    async def test(site: Site) -> None:
        def check_message(message: Message) -> None:
            name = places.get(message.topic.removeprefix(ROOT))
            if name is not None:
                judge.judge(name, message.payload)

        site.plant.broker.on_message = check_message
        abandoned: dict[str, Any] = {}
        for name, body in [("restore", {"applied": {}, "reservations": []}), *commands()]:
            if name == "clear-cell":
                body = {"cell_id": abandoned["cell_id"]}
            reply = await site.plant.broker.call(name, {"request_id": f"{name}-{len(body)}"} | body)
            judge.judge("error" if "error" in reply else f"{name}-result", json.dumps(reply))
            if name == "abandon":
                abandoned |= reply["result"]["cell"]
            if name in ("dropoff", "pickup"):
                site.plant.world.close(reply["result"]["cell"]["description"])
                ended = "DROPOFF" if name == "dropoff" else "RESERVATION_COMPLETED"
                await site.until(lambda ended=ended: site.types()[-1] == ended)  # type: ignore[misc]
        await site.plant.kill()
        site.plant.start()
        await site.until(lambda: "digest" in judge.seen and "telemetry" in judge.seen)

    at_site(tmp_path, test)
    expected = {f"{name}-result" for name in COMMANDS} | {"error", *places.values()}
    assert judge.seen == expected


def commands() -> list[tuple[str, dict[str, Any]]]:
    """One of each, in an order in which each is granted; the last is refused."""
    reserve = {
        "machine_id": "machine_123",
        "platform_order_id": "o",
        "packaging": {"width": 200, "height": 100, "depth": 300},
        "grace_period_pickup_in_seconds": 0,
    }
    one, two = {"reservation_id": "res_1"}, {"reservation_id": "res_2"}
    cell = {"cell_id": "cell_machine_123_c08"}
    return [
        ("echo", {"message": str(Source.API)}),
        ("reserve", reserve | one),
        ("dropoff", one),
        ("pickup", one),
        ("reserve", reserve | two | {"notes": "n"}),
        ("cancel", two),
        ("reserve", reserve | {"reservation_id": "res_3", "webhook_url": "", "eta_minutes": 3}),
        ("dropoff", {"reservation_id": "res_3", "challenge": ""}),
        ("abandon", {"reservation_id": "res_3"}),
        ("reserve", reserve | {"reservation_id": "res_4", "webhook_url": "", "eta_minutes": 3, "notes": ""}),
        ("open-door", {"reservation_id": "res_4"}),
        ("maintenance", cell | {"description": "d"}),
        ("block-cell", cell | {"reason": "r"}),
        ("unblock-cell", cell),
        ("clear-cell", {}),  # of what was abandoned
        ("get-machine", {}),
        ("get-reservation", one),
        ("list-reservations", {}),
        ("sync", {"from_sequence": 1}),
        ("cancel", {"reservation_id": "res_none", "platform": ""}),
    ]
