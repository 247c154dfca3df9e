"""The walks of the README, the guide and the page for integrators, typed as they stand there, on a fresh
bench."""

from __future__ import annotations

import os
import re
import selectors
import subprocess
from pathlib import Path
from time import monotonic

from tests.support.bench import running_bench
from tools.bench.ports import free_port
from tools.bench.settings import REPOSITORY

END = "--end-of-output--"
LIMIT_S = 15.0


def commands() -> list[tuple[str, str]]:
    """Every `$ command` of the console blocks, with the output that stands below it."""
    pages = (REPOSITORY / name for name in ("README.md", "docs/guide.md", "docs/integrate.md"))
    text = "".join(page.read_text(encoding="utf-8") for page in pages)
    found: list[tuple[str, str]] = []
    for block in re.findall(r"```console\n(.*?)```", text, re.DOTALL):
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, _, output = part.partition("\n")
            found.append((command, output))
    return found


def normal(text: str) -> str:
    """Identifiers and codes differ from run to run; all else must be equal."""
    text = re.sub(r"res_[0-9a-f]+", "RID", text)
    return re.sub(r"(code = |RID-)\d{4}\b", r"\1CODE", text)


class Shell:
    """One bash, typed into line by line."""

    def __init__(self) -> None:
        self._bash = subprocess.Popen(
            ["bash"], cwd=REPOSITORY, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )

    def type(self, command: str) -> str:
        """The output of one command."""
        assert self._bash.stdin is not None
        assert self._bash.stdout is not None
        self._bash.stdin.write(f"{command}\necho {END}\n".encode())
        self._bash.stdin.flush()
        seen = b""
        with selectors.DefaultSelector() as selector:
            selector.register(self._bash.stdout, selectors.EVENT_READ)
            while not seen.endswith(f"{END}\n".encode()):
                assert selector.select(LIMIT_S), f"no end of {command!r}: {seen!r}"
                seen += os.read(self._bash.stdout.fileno(), 65_536)
        return seen.decode().removesuffix(f"{END}\n")

    def close(self) -> None:
        self._bash.communicate(timeout=10)


def test_the_walk_shows_what_really_happens(tmp_path: Path) -> None:
    with running_bench(tmp_path) as bench:
        shell, receiver_port = Shell(), free_port()
        try:
            for command, expected in commands():
                typed = (
                    command.replace("127.0.0.1:8080", f"127.0.0.1:{bench.ports['BENCH_API_PORT']}")
                    .replace("127.0.0.1:8081", f"127.0.0.1:{bench.ports['BENCH_SIM_PORT']}")
                    .replace(".bench/", f"{tmp_path}/")
                    .replace(" 9000 ", f" {receiver_port} ")
                    .replace(":9000/", f":{receiver_port}/")
                )
                # A person types slower than a door closes: what only reads may be typed again.
                end = monotonic() + LIMIT_S
                said = shell.type(typed)
                while _only_reads(typed) and normal(said) != normal(expected) and monotonic() < end:
                    said = shell.type(typed)
                if command.startswith("curl") and "dropoffs" in command:
                    expected = expected.rstrip("\n")  # an answer of the API has no line end
                assert normal(said).rstrip("\n") == normal(expected).rstrip("\n"), command
        finally:
            shell.close()


def _only_reads(command: str) -> bool:
    asked = command.removeprefix("sleep 1; ")
    return asked.startswith(("curl", "cat")) and " -X POST " not in command and " -d " not in command
