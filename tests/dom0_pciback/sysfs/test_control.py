"""The control verbs about sysfs: through dom0's door, as the command asks."""

from __future__ import annotations

from errno import EACCES, EINVAL, ENOENT
from typing import Any

import pytest

from dom0_pciback.sysfs import control
from tests.dom0_pciback.pciback.host import CARD, Host

AT = f"bus/pci/devices/{CARD}"


@pytest.fixture
def host() -> Host:
    return Host(real=True)


def pages(host: Host) -> dict[str, tuple[int, bytes]]:
    found: dict[str, tuple[int, bytes]] = {}
    start = 0
    while True:
        start, entries = host.ctl("dom0", "sysfs", start)
        assert len(entries) <= control.PAGE
        found.update({path: (mode, content) for path, mode, content in entries})
        if not start:
            return found


def test_the_whole_tree_comes_in_pages(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = pages(host)
    assert list(whole) == list(host.dom0.sysfs.nodes())
    assert whole[f"devices/pci0000:00/0000:00:01.0/{CARD}/vendor"] == (0o100444, b"0x1af4\n")
    assert whole[AT] == (0o120777, f"../../../devices/pci0000:00/0000:00:01.0/{CARD}".encode())
    monkeypatch.setattr(control, "PAGE", 7)
    assert pages(host) == whole


def test_a_page_fits_into_a_message(host: Host) -> None:
    """Even one of nothing but configuration spaces; ``MESSAGE_MAX`` is 4 MiB."""
    assert control.PAGE * (4096 + 300) < 1 << 22


def test_read_and_write(host: Host) -> None:
    assert host.ctl("dom0", "sysfs-read", f"{AT}/driver/../{CARD}/class") == -ENOENT
    assert host.ctl("dom0", "sysfs-read", f"{AT}/class") == b"0x020000\n"
    assert host.ctl("dom0", "sysfs-read", f"{AT}/reset") == -EACCES
    assert host.ctl("dom0", "sysfs-write", f"{AT}/aer/nonfatal_ratelimit_burst", "3") == 1
    assert host.ctl("dom0", "sysfs-read", f"{AT}/aer/nonfatal_ratelimit_burst") == b"3\n"
    assert host.ctl("dom0", "sysfs-write", f"{AT}/aer/nonfatal_ratelimit_burst", "three") == -EINVAL


def test_a_reset_is_answered_when_it_is_over(host: Host) -> None:
    assert host.ctl("dom0", "sysfs-write", f"{AT}/reset", "1\n") == 2
    assert ("flr", 0) in [fields[1:] for fields in host.world.traced("pci.reset")]


def test_a_device_can_be_taken_from_pciback_and_given_back(host: Host) -> None:
    spare = "0000:02:00.0"
    assert host.ctl("dom0", "sysfs-write", "bus/pci/drivers/pciback/unbind", spare) > 0
    assert host.ctl("dom0", "sysfs-read", f"bus/pci/devices/{spare}/uevent").startswith(b"PCI_CLASS")
    assert host.ctl("dom0", "sysfs-write", "bus/pci/drivers/pciback/bind", f"{spare}\n") > 0
    assert host.ctl("dom0", "sysfs-read", f"bus/pci/devices/{spare}/uevent").startswith(b"DRIVER=pciback\n")


@pytest.mark.parametrize(
    "request_",
    [("sysfs",), ("sysfs", -1), ("sysfs", "x"), ("sysfs-read",), ("sysfs-read", 5), ("sysfs-write", AT),
     ("sysfs-write", AT, 1), ("sysfs-mount",), ("sysfs-mount", "/x")],
)  # fmt: skip
def test_a_wrong_request_is_refused_and_dom0_lives_on(host: Host, request_: tuple[Any, ...]) -> None:
    assert host.fails("dom0", *request_)
    assert host.ctl("dom0", "sysfs-read", f"{AT}/vendor")


def test_in_virtual_time_there_is_no_directory_to_keep(host: Host) -> None:
    assert "virtual time" in host.fails("dom0", "sysfs-mount", "/somewhere")
