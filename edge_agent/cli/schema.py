"""`edge-agent schema`: what the configuration and the MQTT contract look like, for editors and for others."""

from __future__ import annotations

import typer
import yaml

from edge_agent import __version__
from edge_agent.cli.daemon import print_json
from edge_agent.config import Settings
from edge_agent.protocol.asyncapi import document

schema_app = typer.Typer(no_args_is_help=True, help="Print a schema.")


def asyncapi_yaml() -> str:
    """The MQTT contract as AsyncAPI 3 in YAML."""
    return yaml.safe_dump(document(__version__), sort_keys=False, allow_unicode=True, width=110)


@schema_app.command("asyncapi")
def asyncapi() -> None:
    """The MQTT contract (AsyncAPI 3, YAML)."""
    typer.echo(asyncapi_yaml(), nl=False)


@schema_app.command("config")
def config() -> None:
    """The machine's configuration (JSON Schema)."""
    print_json(Settings.model_json_schema())
