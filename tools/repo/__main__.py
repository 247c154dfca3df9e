"""`python -m tools.repo`: puts packages into a signed apt repository; older packages in it stay.

apt-ftparchive makes the indexes, gpg the signature. The key is made once, by `--make-key`. A person
who has it can replace the program of every machine that knows its public half.

Exit codes: 0 done, 1 a program failed, 2 bad usage.
"""

from __future__ import annotations

import argparse
import gzip
import shutil
import subprocess
import sys
from pathlib import Path

from tools.bench.settings import REPOSITORY

COMPONENT = "main"
ARCHITECTURES = ("amd64", "arm64", "armhf")
KEY_NAME = "edge-agent releases"
PUBLIC_KEY = "edge-agent-releases.asc"


class RepositoryFailed(Exception):
    """A program that makes the repository failed."""


def main(arguments: list[str] | None = None) -> int:
    """Reads the command line and makes the repository; returns the exit code."""
    parser = argparse.ArgumentParser(prog="repo", description="Makes a signed apt repository.")
    parser.add_argument("packages", nargs="*", type=Path, metavar="DEB", help="default: dist/*.deb")
    parser.add_argument("--output", type=Path, default=REPOSITORY / "dist" / "repo", metavar="FOLDER")
    parser.add_argument("--channel", default="stable", help="the suite: stable, candidate, ...")
    parser.add_argument(
        "--gnupg", type=Path, required=True, metavar="FOLDER", help="GnuPG's folder with the key"
    )
    parser.add_argument("--make-key", action="store_true", help="make the key, if the folder has none")
    options = parser.parse_args(arguments)
    packages = options.packages or sorted((REPOSITORY / "dist").glob("*.deb"))
    if not packages:
        print("repo: no packages; `make deb` builds them", file=sys.stderr)
        return 2
    try:
        if options.make_key:
            make_key(options.gnupg)
        publish(packages, options.output, options.channel, options.gnupg)
    except RepositoryFailed as error:
        print(f"repo: {error}", file=sys.stderr)
        return 1
    finally:
        end_agent(options.gnupg)
    print(f"{options.output}: {len(packages)} packages in channel {options.channel}")
    print(f"on a machine: the key in /etc/edge-agent/{PUBLIC_KEY}, and in /etc/edge-agent/updates.list:")
    print(f"deb [signed-by=/etc/edge-agent/{PUBLIC_KEY}] URL {options.channel} {COMPONENT}")
    return 0


def make_key(home: Path) -> None:
    """Makes a signing key without an expiry and without a passphrase. Raises `RepositoryFailed`."""
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    if "sec" not in _run(["gpg", *_gpg(home), "--list-secret-keys", "--with-colons"]):
        create = ["--passphrase", "", "--quick-generate-key", KEY_NAME, "ed25519", "sign", "never"]
        _run(["gpg", *_gpg(home), *create])


def end_agent(home: Path) -> None:
    """Ends the agent that gpg has started for this folder."""
    subprocess.run(["gpgconf", "--homedir", str(home), "--kill", "all"], capture_output=True, check=False)


def publish(packages: list[Path], output: Path, channel: str, home: Path) -> None:
    """Adds packages to a repository, makes its indexes anew and signs them. Raises `RepositoryFailed`.

    The signed `InRelease` is replaced last: a machine that reads meanwhile sees the old or the new
    repository.
    """
    pool = output / "pool" / channel
    pool.mkdir(parents=True, exist_ok=True)
    for package in packages:
        if package.resolve() != (pool / package.name).resolve():
            shutil.copyfile(package, pool / package.name)
    suite = output / "dists" / channel
    for architecture in ARCHITECTURES:
        index = suite / COMPONENT / f"binary-{architecture}"
        index.mkdir(parents=True, exist_ok=True)
        command = ["apt-ftparchive", "--arch", architecture, "packages", f"pool/{channel}"]
        text = _run(command, output).encode()
        (index / "Packages").write_bytes(text)
        (index / "Packages.gz").write_bytes(gzip.compress(text, mtime=0))
    fields = {"Suite": channel, "Codename": channel, "Components": COMPONENT}
    fields |= {"Architectures": " ".join(ARCHITECTURES), "Origin": "edge-agent", "Acquire-By-Hash": "no"}
    given = [f"-oAPT::FTPArchive::Release::{name}={value}" for name, value in fields.items()]
    for old in ("Release", "InRelease.part"):
        (suite / old).unlink(missing_ok=True)
    release = _run(["apt-ftparchive", *given, "release", f"dists/{channel}"], output)
    (suite / "Release").write_text(release, encoding="utf-8")
    signed = suite / "InRelease.part"
    sign = ["--clearsign", "--digest-algo", "SHA512", "--output", str(signed), str(suite / "Release")]
    _run(["gpg", *_gpg(home), *sign])
    signed.replace(suite / "InRelease")
    _run(["gpg", *_gpg(home), "--yes", "--armor", "--output", str(output / PUBLIC_KEY), "--export", KEY_NAME])


def _gpg(home: Path) -> list[str]:
    return ["--homedir", str(home), "--batch", "--quiet", "--pinentry-mode", "loopback"]


def _run(command: list[str], folder: Path | None = None) -> str:
    """The output of a program. Raises `RepositoryFailed` with its last line if it fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder)
    except OSError as error:
        raise RepositoryFailed(f"{command[0]}: {error.strerror}") from None
    if done.returncode:
        lines = (done.stderr or done.stdout).strip().splitlines()
        raise RepositoryFailed(f"{command[0]}: {lines[-1] if lines else done.returncode}")
    return done.stdout


if __name__ == "__main__":
    sys.exit(main())
