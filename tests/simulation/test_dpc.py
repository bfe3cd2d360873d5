"""Downstream Port Containment above guests, in both profiles, and the control verbs (linux-aer.md 10).

No recording has DPC: these tests hold the rules of the specification, not a machine's behaviour.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import pytest

from dom0_pciback.pcie.containment import set_busy
from protocol.labels import LABELS
from protocol.layout_dpc import DPC, DPC_STATUS_TRIGGER
from protocol.topology import HostSpec
from tests.simulation.kit import COMP_ABORT, DLP, MALF_TLP, POISON_TLP, Rig, good
from xenaer import local
from xenaer.campaign.steps.system import System
from xenaer.control import ControlError
from xenaer.host import load_host
from xenaer.journal import JournalSet, differences
from xenaer.simulation import SimSystem

ROOT, UPSTREAM, DOWN = "00:1c.0", "01:00.0", ("02:00.0", "02:01.0")
NIC, DISK = "03:00.0", "04:00.0"
DEVICES = (NIC, DISK)

HOST = """\
name: contained
hierarchy:
  - root_port: "00:1c.0"
    dpc: true
    devices:
      - switch: "01:00.0"
        ports:
          - port: "02:00.0"
            dpc: true
            devices:
              - nic: "03:00.0"
          - port: "02:01.0"
            dpc: true
            devices:
              - block: "04:00.0"
guests:
  - name: net
    devices:
      - {device: "03:00.0", driver: xnic}
  - name: store
    devices:
      - {device: "04:00.0", driver: xblk}
"""
PATIENCE = 200  # times 50 ms
NATIVE = "boot: {pcie_ports: dpc-native}\n"
EDR = "boot: {edr: true, osc_aer: false, osc_dpc: false}\n"
LINUX = "profile: linux\n"
RECOVERED = ["ED(2) 3", "SR 5", "RS"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path


def contained_host(folder: Path, *more: str) -> HostSpec:
    """The host file above with more keys.

    After a bus reset nobody restores a device in the profile ``linux``, so that a guest's own driver gives it up (T2):
    there the drivers are those that answer what they are told.
    """
    text = HOST.replace("xnic", "scripted").replace("xblk", "scripted") if LINUX in more else HOST
    file = folder / "host.yaml"
    file.write_text(text + "".join(more), encoding="utf-8")
    return load_host(file)


def dpc_lines(rig: Rig) -> list[str]:
    """What the DPC and EDR drivers said since the error."""
    return [line.partition(": ")[2] for line in rig.log() if "DPC: " in line or "EDR: " in line]


def contained(rig: Rig, bdf: str) -> bool:
    function = rig.function(bdf)
    return bool(function.config.peek(function.dpc + DPC.STATUS, 2) & DPC_STATUS_TRIGGER)


def works(rig: Rig) -> bool:
    return all(set(rig.workload(name).values()) == {4} for name in ("net", "store"))


# -- an error of a guest's device ------------------------------------------------------------------
@pytest.mark.parametrize("profile", [LINUX, ""])
@pytest.mark.parametrize(("boot", "port", "told"), [("", ROOT, {"net", "store"}), (NATIVE, DOWN[0], {"net"})])
def test_a_fatal_error_is_contained_and_the_guests_recover(
    folder: Path, profile: str, boot: str, port: str, told: set[str]
) -> None:
    rig = Rig(contained_host(folder, profile, boot))
    rig.inject(NIC, MALF_TLP).settle()
    assert dpc_lines(rig) == [f"DPC: containment event, status:0x0005, ERR_FATAL received from 0000:{NIC}"]
    assert rig.resets_of(port) == ["dpc"]
    assert rig.resets() == ["dpc"], "the release is the only reset"
    assert not rig.records("aer.irq"), "AER does not hear of it"
    for name in ("net", "store"):
        assert rig.callbacks(name) == (RECOVERED if name in told else [])
    assert set(rig.verdicts()) == {"successful"}
    assert not contained(rig, port)
    if not profile:
        assert good(rig, DEVICES)
        assert works(rig)
        rig.check()


@pytest.mark.parametrize("profile", [LINUX, ""])
def test_a_nonfatal_error_is_not_contained(folder: Path, profile: str) -> None:
    rig = Rig(contained_host(folder, profile, NATIVE)).inject(NIC, COMP_ABORT).settle()
    assert dpc_lines(rig) == []
    assert rig.records("aer.irq")
    assert rig.callbacks("net")[0] == "ED(1) 2"


@pytest.mark.parametrize("where", [ROOT, UPSTREAM, *DOWN])
def test_errors_of_ports(folder: Path, where: str) -> None:
    rig = Rig(contained_host(folder, NATIVE)).inject(where, DLP).settle()
    port = ROOT if where == UPSTREAM else where
    assert rig.resets_of(port) == ["dpc"]
    assert ("unmasked uncorrectable" in dpc_lines(rig)[0]) is (where != UPSTREAM)
    assert set(rig.verdicts()) == {"successful"}
    assert good(rig, DEVICES)
    assert works(rig)
    rig.check()


def test_an_error_after_the_recovery_is_contained_again(folder: Path) -> None:
    rig = Rig(contained_host(folder)).inject(NIC, MALF_TLP).settle()
    rig.inject(DISK, MALF_TLP).settle()
    assert [line[-7:] for line in dpc_lines(rig)] == [NIC, DISK]
    assert rig.resets_of(ROOT) == ["dpc", "dpc"]
    assert works(rig)
    rig.check()


def test_two_contained_ports_recover_side_by_side(folder: Path) -> None:
    rig = Rig(contained_host(folder, NATIVE)).inject(NIC, MALF_TLP).inject(DISK, MALF_TLP).settle()
    assert {str(e["subject"])[5:] for e in rig.records("pci.reset")} == set(DOWN)
    assert [rig.callbacks(name) for name in ("net", "store")] == [RECOVERED, RECOVERED]
    assert works(rig)
    rig.check()


@pytest.mark.parametrize("second", [NIC, DISK])
def test_hardened_a_containment_in_the_middle_of_a_recovery_kills_nobody(folder: Path, second: str) -> None:
    """Whatever drivers make of a device that does not answer meanwhile: the port's own recovery asks them again."""
    for moment in range(40):
        rig = Rig(contained_host(folder)).inject(NIC, COMP_ABORT).settle(moment * 0.02)
        rig.inject(second, MALF_TLP).settle()
        assert not rig.aerfail, moment
        assert [rig.callbacks(name)[-3:] for name in ("net", "store")] == [RECOVERED, RECOVERED], moment
        assert works(rig), moment
        rig.check()


# -- a port that is not released -------------------------------------------------------------------
def test_hardened_guests_of_a_port_that_stays_busy_are_killed(folder: Path) -> None:
    rig = Rig(contained_host(folder))
    set_busy(rig.function(ROOT), True)
    rig.inject(NIC, MALF_TLP).settle(60_000)
    assert rig.resets_of(ROOT) == ["dpc", "dpc"]
    assert set(rig.verdicts()) == {"failed"}
    assert not rig.alive("net")
    assert not rig.alive("store")
    assert contained(rig, ROOT)


def test_hardened_the_second_reset_is_one_of_the_bus(folder: Path) -> None:
    """The port is released, but what is below does not answer in time: then there is nothing left to release."""
    text = HOST.replace('switch: "01:00.0"', 'switch: "01:00.0"\n        ready_ms: 1500', 1)
    file = folder / "slow.yaml"
    file.write_text(text + "timing: {reset_ready_ms: 1000}\n", encoding="utf-8")
    rig = Rig(load_host(file)).inject(NIC, MALF_TLP).settle(60_000)
    assert rig.resets_of(ROOT) == ["dpc", "bus"]


def test_linux_a_busy_port_fails_the_recovery(folder: Path) -> None:
    rig = Rig(contained_host(folder, LINUX))
    set_busy(rig.function(ROOT), True)
    rig.inject(NIC, MALF_TLP).settle(60_000)
    assert rig.resets_of(ROOT) == ["dpc"]
    assert rig.verdicts() == ["failed"]
    assert "DPC: root port still busy" in dpc_lines(rig)


# -- two worlds ------------------------------------------------------------------------------------
def play(system: System) -> None:
    """Three containments, each after the recovery of both guests from the one before."""
    steps: dict[str, list[Any]] = {"inject": [NIC, 0, MALF_TLP], "dpc-trigger": [ROOT], "rp-pio": [ROOT, 1]}
    for number, (verb, args) in enumerate(steps.items(), 1):
        system.ctl("dom0", verb, args)
        for _ in range(PATIENCE):
            if sum(e["label"] == "recovery.end" for e in system.records(None)[0]) == 2 * number:
                break
            system.advance(50)


def test_processes_and_virtual_time_write_the_same_journal(folder: Path) -> None:
    spec = contained_host(folder)
    simulated = SimSystem(spec)
    play(simulated)
    simulated.close()
    with tempfile.TemporaryDirectory(prefix="xenaer-", ignore_cleanup_errors=True) as run:  # a short path for sockets
        local.up(spec, Path(run))
        try:
            system = local.ProcessSystem(Path(run))
            play(system)
            system.close()
        finally:
            local.down(Path(run))
        found = JournalSet(Path(run) / "journal").read()
    assert differences(simulated.records()[0], found) == []
    assert sum(e["label"] == "dpc.irq" for e in found) == 3


# -- EDR -------------------------------------------------------------------------------------------
@pytest.mark.parametrize("profile", [LINUX, ""])
def test_10_4_the_firmware_notifies_and_hears_of_the_end(folder: Path, profile: str) -> None:
    rig = Rig(contained_host(folder, profile, EDR)).inject(NIC, MALF_TLP).settle()
    assert dpc_lines(rig) == [
        "EDR: EDR event received",
        f"DPC: containment event, status:0x0005, ERR_FATAL received from 0000:{NIC}",
    ]
    assert [(e["event"], e["value"]) for e in rig.records("edr.ost")] == [(0xF, 0x0200 << 16 | 0x80)]
    assert rig.callbacks("net") == RECOVERED


# -- control verbs ---------------------------------------------------------------------------------
@pytest.mark.parametrize("profile", [LINUX, ""])
def test_software_trigger(folder: Path, profile: str) -> None:
    rig = Rig(contained_host(folder, profile))
    rig.inject(NIC, 0, cor=1)
    rig.system.ctl("dom0", "dpc-trigger", [ROOT])
    rig.settle()
    assert dpc_lines(rig) == ["DPC: containment event, status:0x0027: software trigger detected"]
    assert rig.callbacks("net") == RECOVERED
    assert rig.system.dom0.recoveries == 1


def test_rp_pio(folder: Path) -> None:
    rig = Rig(contained_host(folder))
    rig.inject(NIC, 0, cor=1)
    rig.system.ctl("dom0", "rp-pio", [ROOT, 1 << 16, [1, 2, 3, 4]])
    rig.settle()
    assert dpc_lines(rig) == [
        "DPC: containment event, status:0x1007: RP PIO error detected",
        "DPC: rp_pio_status: 0x00010000, rp_pio_mask: 0x00000000",
        "DPC: RP PIO severity=0x00070707, syserror=0x00000000, exception=0x00000000",
        "DPC: [16] Memory Request received UR Completion (First)",
        "DPC: TLP Header: 0x00000001 0x00000002 0x00000003 0x00000004",
    ]
    assert works(rig)
    rig.check()


@pytest.mark.parametrize(
    ("verb", "args", "problem"),
    [
        ("dpc-trigger", [NIC], "0000:03:00.0 has no DPC; there are 0000:00:1c.0, 0000:02:00.0, 0000:02:01.0"),
        ("dpc-trigger", [DOWN[0]], "DPC of 0000:02:00.0 is not enabled"),
        ("dpc-trigger", ["09:00.0"], "no PCI device 09:00.0"),
        ("rp-pio", [DOWN[0], 1], "has no root port extensions"),
        ("rp-pio", [ROOT, 1 << 4], "allowed: bits of 0x70707"),
        ("rp-pio", [ROOT, -1], "argument"),
        ("dpc-trigger", [], "argument"),
    ],
)
def test_operators_who_type_the_wrong_thing(folder: Path, verb: str, args: list[object], problem: str) -> None:
    rig = Rig(contained_host(folder), boot=False)
    with pytest.raises(ControlError, match=problem):
        rig.system.ctl("dom0", verb, args)


def test_records_match_their_declaration(folder: Path) -> None:
    rig = Rig(contained_host(folder))
    rig.inject(NIC, POISON_TLP)
    rig.system.ctl("dom0", "dpc-trigger", [ROOT])
    rig.system.ctl("dom0", "rp-pio", [ROOT, 1])
    rig.settle()
    for label in ("hw.dpc_trigger", "hw.rp_pio", "dpc.irq"):
        assert set(LABELS[label]) <= set(rig.records(label)[0])
