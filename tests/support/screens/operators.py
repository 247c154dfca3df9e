"""People of the gateway's users file: one of each role, named by it."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from cloud_gateway.users import Role
from cloud_gateway.users import main as users

PASSWORD = "correct horse battery"


def operators_file(folder: Path) -> Path:
    """Writes the file; all have the same password."""
    file = folder / "users.toml"
    with pytest.MonkeyPatch.context() as patch:
        for role in Role:
            patch.setattr("sys.stdin", io.StringIO(f"{PASSWORD}\n"))
            assert users(["set", "--file", str(file), "--name", str(role), "--role", str(role)]) == 0
    return file
