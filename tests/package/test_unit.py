"""The unit as systemd reads it, and the files around it."""

from __future__ import annotations

import configparser
import json
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

from cloud_gateway.api.http_server import CONNECTIONS_MAX, WEBHOOKS_MAX, Descriptors
from cloud_gateway.logs import REPEATS_MAX, WINDOW_S
from cloud_gateway.service_status import STATUS_PAUSE_S
from cloud_gateway.settings import Timing
from edge_agent.config.modes import UMASK
from edge_agent.console.admission import DESCRIPTORS_KEPT, MOST_CONNECTIONS, Caps, caps_for
from edge_agent.process.log_output import BURST, PER_S
from tools.bench.settings import REPOSITORY
from tools.package.__main__ import PACKAGES
from tools.package.deb import SCRIPT_NAMES, SCRIPTS

FOLDER = REPOSITORY / "systemd"
UNIT = FOLDER / "edge-agent.service"
GATEWAY = FOLDER / "edge-gateway.service"
UPDATER = FOLDER / "edge-agent-updater.service"
PROGRAMS = {
    UNIT: "/usr/bin/edge-agent",
    GATEWAY: "/usr/bin/edge-gateway",
    UPDATER: "/usr/bin/edge-agent-updater",
}
UNITS = pytest.mark.parametrize("unit", PROGRAMS, ids=lambda unit: unit.stem)
WORST_EXPOSURE = {UNIT: 1.5, GATEWAY: 1.5, UPDATER: 2.4}
"""The updater is root: it restarts a service, and writes what that service runs."""
DROP_INS = ("10-network.conf", "20-credentials.conf", "30-chrony.conf")


def analyze(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["systemd-analyze", *arguments], capture_output=True, text=True, check=False)


def here(folder: Path, text: str, unit: Path = UNIT) -> Path:
    """The unit as it would be checked on a machine that has the program."""
    program = shutil.which("true")
    assert program is not None
    copy = folder / unit.name
    copy.write_text(text.replace(PROGRAMS[unit], program), encoding="utf-8")
    return copy


@UNITS
def test_systemd_analyze_accepts_the_unit(tmp_path: Path, unit: Path) -> None:
    done = analyze("verify", "--man=no", str(here(tmp_path, unit.read_text(encoding="utf-8"), unit)))
    assert (done.returncode, done.stderr) == (0, "")


def test_a_misspelt_directive_is_noticed(tmp_path: Path) -> None:
    """systemd-analyze answers 0 all the same, so what it writes counts."""
    text = UNIT.read_text(encoding="utf-8").replace("WatchdogSec=", "WachdogSec=")
    assert "WachdogSec" in analyze("verify", "--man=no", str(here(tmp_path, text))).stderr


@pytest.mark.parametrize("name", DROP_INS)
def test_systemd_analyze_accepts_the_examples(tmp_path: Path, name: str) -> None:
    unit = here(tmp_path, UNIT.read_text(encoding="utf-8"))
    folder = tmp_path / "edge-agent.service.d"
    folder.mkdir()
    shutil.copy(FOLDER / "examples" / name, folder)
    done = analyze("verify", "--man=no", str(unit))
    assert (done.returncode, done.stderr) == (0, "")


def test_systemd_analyze_accepts_the_kiosks_screen(tmp_path: Path) -> None:
    text = (FOLDER / "examples" / "kiosk-screen.service").read_text(encoding="utf-8")
    program = str(shutil.which("true"))
    copy = tmp_path / "kiosk-screen.service"
    copy.write_text(text.replace(PROGRAMS[UNIT], program), encoding="utf-8")
    here(tmp_path, UNIT.read_text(encoding="utf-8"))
    done = analyze("verify", "--man=no", str(copy))
    assert (done.returncode, done.stderr) == (0, "")


def test_the_browser_is_sent_to_one_place() -> None:
    """Unit, policy and example configuration name the same port, and no other host."""
    example = tomllib.loads((REPOSITORY / "config" / "locker.example.toml").read_text(encoding="utf-8"))
    address = f"http://127.0.0.1:{example['screen']['port']}"
    unit = (FOLDER / "examples" / "kiosk-screen.service").read_text(encoding="utf-8")
    assert re.findall(r"https?://\S+", unit) == [f"{address}/"] * 2  # what is waited for, and what is shown
    policy = json.loads((FOLDER / "examples" / "kiosk-chromium-policy.json").read_text(encoding="utf-8"))
    assert (policy["URLBlocklist"], policy["URLAllowlist"]) == (["*"], [address])


@UNITS
def test_the_unit_stays_below_its_exposure_limit(unit: Path) -> None:
    threshold = f"--threshold={round(WORST_EXPOSURE[unit] * 10)}"
    done = analyze("security", "--offline=yes", threshold, "--no-pager", str(unit))
    assert done.returncode == 0, done.stdout
    worse = analyze("security", "--offline=yes", "--threshold=5", "--no-pager", str(unit))
    assert worse.returncode != 0


def service_of(unit: Path) -> configparser.SectionProxy:
    parser = configparser.RawConfigParser(strict=False)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read(unit)
    return parser["Service"]


def test_x2_the_unit_bounds_its_log_and_has_descriptors_for_what_the_daemon_keeps() -> None:
    service = service_of(UNIT)
    assert caps_for(int(service["LimitNOFILE"])) == Caps(MOST_CONNECTIONS, MOST_CONNECTIONS // 2)
    comment = UNIT.read_text(encoding="utf-8")
    assert f"at most {MOST_CONNECTIONS} connections and leaves {DESCRIPTORS_KEPT} descriptors" in comment
    # One kind of entry alone never uses up what all kinds have.
    interval_s = int(service["LogRateLimitIntervalSec"].removesuffix("s"))
    assert BURST + PER_S * interval_s < int(service["LogRateLimitBurst"]) / 4
    assert int(service["UMask"], 8) == UMASK


def test_x2_the_gateways_unit_bounds_its_log_and_has_descriptors_for_its_caps() -> None:
    service = service_of(GATEWAY)
    found = Descriptors.of_limit(int(service["LimitNOFILE"]))
    assert found == Descriptors(CONNECTIONS_MAX, WEBHOOKS_MAX)
    assert Descriptors.of_limit(int(service["LimitNOFILE"]) - 2) != found
    interval_s = int(service["LogRateLimitIntervalSec"].removesuffix("s"))
    assert REPEATS_MAX * (1 + interval_s / WINDOW_S) < int(service["LogRateLimitBurst"]) / 4
    assert (int(service["UMask"], 8), service["LimitCORE"]) == (UMASK, "0")


def test_the_service_is_always_restarted_and_a_hang_is_noticed() -> None:
    parser = configparser.RawConfigParser(strict=False)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read(UNIT)
    assert parser["Unit"]["StartLimitIntervalSec"] == "0"
    service = parser["Service"]
    assert service["Restart"] == "always"
    assert service["Type"] == "notify"
    assert int(service["WatchdogSec"]) > 0
    assert service["LimitCORE"] == "0"
    assert (
        service["RuntimeDirectoryMode"] == "0755"
    )  # else a group of `access.group` does not reach the socket
    assert "PrivateUsers" not in service or service["PrivateUsers"] == "no"  # else peers have no names


def test_the_user_is_made_and_may_use_serial_ports() -> None:
    lines = (FOLDER / "edge-agent.sysusers").read_text(encoding="utf-8").splitlines()
    assert lines[0].split()[:2] == ["u", "edge-agent"]
    assert {"m edge-agent dialout", "m edge-agent input", "m edge-agent tss"} <= set(lines)


def test_the_daemon_may_open_a_tpm_and_no_other_kind_of_device_than_before() -> None:
    allowed = re.findall(r"^DeviceAllow=(.+)$", UNIT.read_text(encoding="utf-8"), re.MULTILINE)
    serial = {f"char-tty{kind} rw" for kind in ("USB", "ACM", "S", "AMA", "mxc", "SC")}
    assert set(allowed) == serial | {"char-input r", "char-tpm rw"}
    assert service_of(UNIT)["DevicePolicy"] == "closed"


def test_ftdi_adapters_answer_at_once() -> None:
    rules = (FOLDER / "60-edge-agent.rules").read_text(encoding="utf-8")
    assert 'ATTR{latency_timer}="1"' in rules
    assert 'GROUP="dialout"' in rules


def test_the_gateway_is_restarted_watched_and_has_time_to_stop() -> None:
    service = service_of(GATEWAY)
    assert (service["Type"], service["NotifyAccess"], service["Restart"]) == ("notify", "main", "always")
    assert int(service["WatchdogSec"]) > 10 * STATUS_PAUSE_S
    timing = Timing()
    assert timing.stop_s > max(timing.wait_s, timing.webhook_timeout_s)
    assert int(service["TimeoutStopSec"]) >= 2 * timing.stop_s


def test_the_gateway_s_user_is_made_and_reads_what_root_writes() -> None:
    """A file that root makes in a folder with the bit setgid belongs to the folder's group."""
    (line,) = (FOLDER / "edge-gateway.sysusers").read_text(encoding="utf-8").splitlines()
    assert line.split()[:2] == ["u", "edge-gateway"]
    tmpfiles = (FOLDER / "edge-gateway.tmpfiles").read_text(encoding="utf-8")
    mode = service_of(GATEWAY)["ConfigurationDirectoryMode"]
    assert f"z /etc/edge-gateway {mode} root edge-gateway" in tmpfiles
    assert f"chmod {mode} /etc/edge-gateway" in (SCRIPTS / "edge-gateway" / "postinst").read_text()
    assert int(mode, 8) == 0o2750


@pytest.mark.parametrize("script", SCRIPT_NAMES)
@pytest.mark.parametrize("package", PACKAGES)
def test_the_maintainer_s_scripts_are_sound(package: str, script: str) -> None:
    """They are shell, end at an error, know their calls, and call systemd only where it runs."""
    path = SCRIPTS / package / script
    subprocess.run(["sh", "-n", str(path)], check=True)
    text = path.read_text(encoding="utf-8")
    assert text.startswith("#!/bin/sh\nset -e\n")
    assert subprocess.run(["sh", str(path), "nonsense"], capture_output=True, check=False).returncode == 1
    if "systemctl" in text:
        assert text.index("[ -d /run/systemd/system ]") < text.index("systemctl")
