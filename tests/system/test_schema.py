"""The gateway against its own OpenAPI document, with generated requests, good and bad, on the whole bench."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.bench import running_bench

EXAMPLES = 40
LEAST = 1000
"""At least this number of requests, so that a run that sends nothing is noticed."""
NOT_ON_A_BENCH = ("approve", "request_service_command", "want_configuration", "begin_release")
CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "negative_data_rejection",
    "unsupported_method",
)


@pytest.mark.long
def test_no_server_error_and_no_breach_of_the_schema(tmp_path: Path) -> None:
    """The API of platforms and that of operators, each with its credentials.

    Four acts are left out: a bench has no service key and no authority for certificates, so they answer
    NOT_BUILT, which is a 501.
    """
    with running_bench(tmp_path / "bench") as bench:
        done = subprocess.run(
            [
                Path(sys.executable).with_name("schemathesis"),
                "run",
                f"{bench.gateway.base_url}/openapi.json",
                "--header=X-API-Key: bench-key",
                "--auth=operator:bench-key",
                f"--exclude-operation-id-regex=^({'|'.join(NOT_ON_A_BENCH)})_",
                f"--checks={','.join(CHECKS)}",
                f"--max-examples={EXAMPLES}",
                "--phases=examples,coverage,fuzzing",
                "--generation-deterministic",
                "--no-color",
                "--warnings=off",
                "--continue-on-failure",
            ],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )
        assert done.returncode == 0, done.stdout[-6000:] + done.stderr
        counted = re.search(r"(\d+) generated, (\d+) passed", done.stdout)
        assert counted is not None
        assert int(counted[2]) == int(counted[1]) >= LEAST
        described = bench.gateway.get("/openapi.json").json()["paths"]
        assert {path.split("/")[2] for path in described if path.startswith("/api/")} == {
            "delivery",
            "operations",
        }
        assert bench.gateway.get("/healthz").status_code == 200
        assert bench.command("status").returncode == 0
