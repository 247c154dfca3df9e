"""`edge-agent schema`: for editors and for those who talk to machines; needs no daemon."""

from __future__ import annotations

import json
import tomllib

import jsonschema
import yaml
from typer.testing import CliRunner

from edge_agent.cli.commands import app
from tools.bench.settings import REPOSITORY


def test_the_mqtt_contract_is_printed_as_yaml() -> None:
    done = CliRunner().invoke(app, ["schema", "asyncapi"])
    assert done.exit_code == 0
    assert yaml.safe_load(done.output)["asyncapi"] == "3.0.0"
    assert done.output == (REPOSITORY / "docs" / "asyncapi.yaml").read_text(encoding="utf-8")


def test_the_configuration_schema_takes_the_examples_and_no_unknown_key() -> None:
    done = CliRunner().invoke(app, ["schema", "config"])
    assert done.exit_code == 0
    validator = jsonschema.Draft202012Validator(json.loads(done.output))
    machine = tomllib.loads((REPOSITORY / "config" / "locker.example.toml").read_text(encoding="utf-8"))
    validator.validate(machine)
    assert not validator.is_valid(machine | {"unknown": 1})


def test_the_profile_schema_documents_every_key_and_takes_every_profile() -> None:
    done = CliRunner().invoke(app, ["schema", "profile"])
    assert done.exit_code == 0
    schema = json.loads(done.output)
    bare = [
        f"{name}.{key}"
        for name, part in {"Profile": schema, **schema["$defs"]}.items()
        for key, field in part["properties"].items()
        if not field.get("description")
    ]
    assert bare == []
    validator = jsonschema.Draft202012Validator(schema)
    boards = sorted((REPOSITORY / "config" / "devices").glob("*.toml"))
    assert boards
    for board in boards:
        validator.validate(tomllib.loads(board.read_text(encoding="utf-8")))
    assert not validator.is_valid(tomllib.loads(boards[0].read_text(encoding="utf-8")) | {"unknown": 1})


def test_an_unknown_schema_is_bad_usage() -> None:
    assert CliRunner().invoke(app, ["schema", "nonsense"]).exit_code == 2
