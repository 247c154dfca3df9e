"""`edge-agent schema`: what the configuration and the MQTT contract look like, for editors and other
programs."""

from __future__ import annotations

import ast
import inspect

import typer
import yaml

from edge_agent import __version__
from edge_agent.cli.daemon import print_json
from edge_agent.config import Settings
from edge_agent.drivers import measuring, profile_writes, profiles
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


@schema_app.command("profile")
def profile() -> None:
    """A device profile, config/devices/*.toml (JSON Schema)."""
    print_json(profile_schema())


def profile_schema() -> dict[str, object]:
    """The JSON Schema of a device profile; the docstring of each key is its description.

    pydantic would read the docstrings when the models are made, which would slow each start of the daemon.
    """
    schema = profiles.Profile.model_json_schema()
    sources = "".join(inspect.getsource(module) for module in (profiles, profile_writes, measuring))
    described = _docstrings_of_fields(sources)
    for name, part in {"Profile": schema, **schema["$defs"]}.items():
        for base in reversed(getattr(profiles, name).__mro__):
            for key, text in described.get(base.__name__, {}).items():
                part["properties"][key].setdefault("description", text)
    return schema


def _docstrings_of_fields(source: str) -> dict[str, dict[str, str]]:
    """By class and field: the string that follows a field in the source."""
    found: dict[str, dict[str, str]] = {}
    for node in ast.parse(source).body:
        if not isinstance(node, ast.ClassDef):
            continue
        for field, after in zip(node.body, node.body[1:], strict=False):
            if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
                match after:
                    case ast.Expr(value=ast.Constant(value=str(text))):
                        found.setdefault(node.name, {})[field.target.id] = inspect.cleandoc(text)
    return found
