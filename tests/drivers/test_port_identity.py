"""Which adapter is behind a port: serial number, USB socket, or no more than a name."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_agent.drivers.port_identity import identify
from tools.simulate.usb import UsbTree


def port(tmp_path: Path, tty: str) -> str:
    (tmp_path / tty).touch()
    return str(tmp_path / tty)


@pytest.mark.behaviour("port-01")
def test_a_unique_serial_number_takes_precedence_over_the_usb_socket(tmp_path: Path) -> None:
    tree = UsbTree(tmp_path / "sys")
    tree.plug("ttyUSB0", "1.1", serial="A10K5X2B")
    first = identify(port(tmp_path, "ttyUSB0"), tree.sysfs)
    assert first.best == "usb-serial 1a86:7523 A10K5X2B 00"
    tree.unplug("ttyUSB0")
    tree.plug("ttyUSB7", "1.3", serial="A10K5X2B")
    moved = identify(port(tmp_path, "ttyUSB7"), tree.sysfs)
    assert moved.like(first.best) == first.best
    assert moved.path != first.path


@pytest.mark.behaviour("port-01")
@pytest.mark.parametrize("serial", [None, "0001", "00000000", "shared"])
def test_without_a_unique_number_the_usb_socket_identifies_it(tmp_path: Path, serial: str | None) -> None:
    tree = UsbTree(tmp_path / "sys")
    tree.plug("ttyUSB0", "1.1", serial=serial)
    tree.plug("ttyUSB1", "1.2", serial=serial)
    found = [identify(port(tmp_path, tty), tree.sysfs).best for tty in ("ttyUSB0", "ttyUSB1")]
    assert found == ["usb-path 0000:00:14.0:1.1:00", "usb-path 0000:00:14.0:1.2:00"]


def test_a_bus_bound_to_a_number_that_two_adapters_have_is_not_recognised(tmp_path: Path) -> None:
    tree = UsbTree(tmp_path / "sys")
    tree.plug("ttyUSB0", "1.1", serial="A1")
    bound = identify(port(tmp_path, "ttyUSB0"), tree.sysfs).best
    tree.plug("ttyUSB1", "1.2", serial="A1")
    assert identify(port(tmp_path, "ttyUSB0"), tree.sysfs).like(bound) != bound


@pytest.mark.behaviour("port-01")
def test_a_port_without_usb_is_identified_by_its_configured_name(tmp_path: Path) -> None:
    sysfs = UsbTree(tmp_path / "sys").sysfs
    (sysfs / "class" / "tty" / "ttyS0" / "device").mkdir(parents=True)
    for name in ("/dev/pts/3", "tcp://10.0.0.5:502", port(tmp_path, "ttyS0")):
        assert identify(name, sysfs).best == f"name {name}"


def test_two_ports_of_one_adapter_are_distinguished(tmp_path: Path) -> None:
    tree = UsbTree(tmp_path / "sys")
    tree.plug("ttyUSB0", "1.1", serial="FT4232")
    tree.plug("ttyUSB1", "1.1", serial="FT4232", interface="01")
    found = {identify(port(tmp_path, tty), tree.sysfs).best for tty in ("ttyUSB0", "ttyUSB1")}
    assert found == {"usb-serial 1a86:7523 FT4232 00", "usb-serial 1a86:7523 FT4232 01"}
