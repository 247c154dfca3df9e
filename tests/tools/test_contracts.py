"""The documents that others build on: made from the models, current, and valid."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from openapi_spec_validator import OpenAPIV31SpecValidator

from tools.pages.contracts.pages import DOCS, PAGES


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_a_document_matches_its_models(path: Path) -> None:
    assert path.read_text(encoding="utf-8") == PAGES[path](), "stale: make docs"


def test_the_rest_api_is_valid_openapi() -> None:
    found: dict[str, Any] = yaml.safe_load((DOCS / "openapi.yaml").read_text(encoding="utf-8"))
    OpenAPIV31SpecValidator(found).validate()
    assert found["openapi"].startswith("3.1")
    assert list(OpenAPIV31SpecValidator(found | {"paths": {"/x": {"get": 1}}}).iter_errors())
