"""The vectors of linux-aer.md 15 that one recorded machine can show: stimulus, votes, reset, result, what is left.

``inj`` is the kernel's software injector, ``hw`` the hardware. Vectors that need another tree are in
``tests/dom0_pciback/aer``.
"""

from __future__ import annotations

from errno import EINVAL, ENODEV, EPROTONOSUPPORT
from functools import cache
from typing import Any, NamedTuple

import pytest

from dom0_pciback.aer.inject import RECORD, AerInject
from protocol.ids import Sbdf
from protocol.layout_aer import AER
from protocol.layout_header import HEADER
from xenaer.conform.emit import CORE_CALLS, collect, dmesg
from xenaer.conform.machine import NS_PER_S, Machine

NET, NIC2, NVM, EP, EP2 = "net1", "net2", "nvm", "epa", "epb"


@cache
def booted(name: str) -> Machine:
    return Machine(name)


def machine(name: str = "main") -> Machine:
    m = booted(name)
    m.reset()
    m.hierarchy.interrupt = m.dom0.aer.interrupt
    return m


def settle(m: Machine, seconds: float = 100) -> None:
    m.world.run_until(lambda: False, m.world.now() + int(seconds * NS_PER_S))


def inj(m: Machine, name: str, cor: int, uncor: int) -> int:
    rc = m.dom0.injector.inject(m.names[name], cor, uncor, (1, 2, 3, 4))
    settle(m)
    return rc


def lines(m: Machine) -> list[str]:
    return [f"<{level}> {text}" for _, level, text in dmesg(m.journal.records)]


def calls(m: Machine) -> list[str]:
    return collect(m.journal.records, CORE_CALLS)


def aer_word(m: Machine, name: str, register: int) -> int:
    dev = m.device(m.names[name])
    return m.core.read(dev, dev.aer + register, 4)


def events(m: Machine, name: str) -> list[str]:
    bdf = str(m.names[name])
    return [record[5] for record in m.journal.records if record[2] == "uevent" and record[3] == bdf and record[5]]


class Vector(NamedTuple):
    number: str
    target: str
    driver: str | None  # None: the one of the machine
    uncor: int
    vote: str
    resets: int
    verdict: str
    events: list[str]
    status_left: int


GOOD, BAD = ["BEGIN_RECOVERY", "SUCCESSFUL_RECOVERY"], ["FAILED_RECOVERY"]
VECTORS = [
    Vector("V5", NET, None, 0x8000, "NEED_RESET", 1, "successful", GOOD, 0),
    Vector("V6", NET, None, 0x40000, "NEED_RESET", 1, "successful", GOOD, 0),
    Vector("V7", NET, "", 0x8000, "NO_AER_DRIVER", 0, "failed", BAD, 0x8000),
    Vector("V8", NET, "", 0x40000, "NO_AER_DRIVER", 1, "failed", BAD, 0x40000),
    Vector("V9", "vnet", None, 0x8000, "NO_AER_DRIVER", 0, "failed", BAD, 0x8000),
    Vector("V10", NIC2, None, 0x8000, "CAN_RECOVER", 0, "successful", GOOD, 0),
    Vector("V11", NIC2, None, 0x40000, "NEED_RESET", 1, "successful", GOOD, 0),
]


@pytest.mark.parametrize("vector", VECTORS, ids=[vector.number for vector in VECTORS])
def test_vector(vector: Vector) -> None:
    m = machine()
    dev = m.device(m.names[vector.target])
    if vector.driver is not None:
        dev.set_driver(m.core.drivers[vector.driver] if vector.driver else None)
    assert inj(m, vector.target, 0, vector.uncor) == 0
    assert f"pci_uevent_ers({dev.name}, {vector.vote})" in calls(m)
    assert sum("link has been reset (0)" in line for line in lines(m)) == vector.resets
    assert lines(m)[-1].endswith(f"AER: device recovery {vector.verdict}")
    assert events(m, vector.target) == vector.events
    assert aer_word(m, vector.target, AER.UNCOR_STATUS) == vector.status_left


def test_v1_v2_correctable_errors_are_counted_and_cleared() -> None:
    m = machine()
    assert inj(m, NET, 0x43, 0) == 0
    assert aer_word(m, NET, AER.COR_STATUS) == 0
    stats = m.dom0.aer.stats_text(m.device(m.names[NET]), "aer_dev_correctable").splitlines()
    assert stats[:3] == ["RxErr 1", "dev_cor_errs_bit[1] 1", "BadTLP 1"]
    assert stats[-1] == "TOTAL_ERR_COR 1"


def test_v3_v4_t41_a_refused_injection_leaves_its_bits_which_ride_along() -> None:
    m = machine()
    assert inj(m, NET, 0x2000, 0) == -EINVAL
    assert aer_word(m, NET, AER.COR_STATUS) == 0x2000
    assert lines(m) == ["<4> e1000e 0000:07:00.0: aer_inject: The correctable error(s) is masked by device"]
    assert inj(m, NET, 0x0001, 0) == 0
    assert "<4> e1000e 0000:07:00.0:   device [8086:10d3] error status/mask=00002001/0000e000" in lines(m)
    assert not any("NonFatalErr" in line for line in lines(m))


@pytest.mark.parametrize(("bit", "left"), [(0x4000, 0), (0x10, 0x10)], ids=["V12", "V13"])
def test_v12_v13_t16_a_fatal_bit_of_a_root_port_stays(bit: int, left: int) -> None:
    m = machine()
    assert inj(m, "rp5", 0, bit) == 0
    assert lines(m)[-1].endswith("device recovery successful")
    assert events(m, NVM) == GOOD
    assert aer_word(m, "rp5", AER.UNCOR_STATUS) == left


@pytest.mark.parametrize(
    ("uncor", "resets", "events_of_first"),
    [(0x8000, 0, ["BEGIN_RECOVERY", "FAILED_RECOVERY"]), (0x40000, 1, ["BEGIN_RECOVERY", "FAILED_RECOVERY"])],
    ids=["V17", "V18"],
)
def test_v17_v18_an_unbound_sibling_vetoes(uncor: int, resets: int, events_of_first: list[str]) -> None:
    m = machine()
    m.device(m.names[EP2]).set_driver(None)
    m.dom0.answers.clear()
    assert inj(m, EP, 0, uncor) == 0
    assert sum("link has been reset (0)" in line for line in lines(m)) == resets
    assert lines(m)[-1].endswith("device recovery failed")
    assert (events(m, EP), events(m, EP2)) == (events_of_first, BAD)


def test_v21_a_link_that_stays_down_fails_the_recovery() -> None:
    m = machine("fastlink")
    assert inj(m, NET, 0, 0x8000) == 0
    assert [line.rpartition(": ")[2] for line in lines(m)[-4:]] == [
        "Data Link Layer Link Active not set in 100 msec",
        "Root Port link has been reset (-25)",
        "subordinate device reset failed",
        "device recovery failed",
    ]
    assert aer_word(m, NET, AER.UNCOR_STATUS) == 0x8000


def test_v22_both_classes_in_one_record_correctable_first() -> None:
    m = machine()
    assert inj(m, NET, 0x40, 0x8000) == 0
    words = [line for line in lines(m) if "message received" in line]
    assert ["Correctable" in words[0], "Non-Fatal" in words[1]] == [True, True]


def test_v23_ten_of_fifteen_are_printed_all_are_traced_and_counted() -> None:
    m = machine()
    for _ in range(15):
        m.dom0.injector.inject(m.names[NET], 0x40, 0, (0, 0, 0, 0))
        settle(m, 0.05)
    assert sum("BadTLP" in line for line in lines(m)) == 10
    assert sum(record[2] == "aer.error" for record in m.journal.records) == 15
    settle(m, 6)
    m.dom0.injector.inject(m.names[NET], 0x40, 0, (0, 0, 0, 0))
    settle(m)
    assert "<4> aer_ratelimit: 5 callbacks suppressed" in lines(m)


@pytest.mark.parametrize(
    ("cor", "uncor", "severity"),
    [(1, 0, "Correctable"), (0, 0x8000, "Uncorrectable (Non-Fatal)"), (0, 0x40000, "Uncorrectable (Fatal)")],
)
def test_v28_t21_a_function_that_linux_does_not_know(cor: int, uncor: int, severity: str) -> None:
    m = machine()
    m.core.forget(m.device(m.names["epd"]))
    m.hierarchy.inject(m.names["epd"], cor, uncor)
    settle(m)
    text = f"<6> pcieport 0000:00:05.0: AER: {severity} error message received from 0000:05:00.0 (no details found"
    assert lines(m) == [text]
    assert calls(m) == []


def test_v29_an_advisory_error_says_nothing_with_default_masks() -> None:
    m = machine()
    m.hierarchy.inject(m.names[EP], 0, 1 << 16, advisory=True)
    settle(m)
    assert (aer_word(m, EP, AER.COR_STATUS), aer_word(m, EP, AER.UNCOR_STATUS)) == (0x2000, 0)
    assert lines(m) == []


def test_v30_t42_mask_override_gives_a_source_line_and_nothing_else() -> None:
    m = machine()
    injector = AerInject(m.core, m.dom0.aer, mask_override=True)
    assert injector.inject(m.names[NET], 0x2000, 0, (0, 0, 0, 0)) == 0
    settle(m)
    assert [line.partition(": ")[2] for line in lines(m)] == [
        "aer_inject: Injecting errors 00002000/00000000 into device 0000:07:00.0",
        "AER: Correctable error message received from 0000:07:00.0",
    ]
    assert aer_word(m, NET, AER.COR_STATUS) == 0x2000
    assert aer_word(m, NET, AER.COR_MASK) == 0xE000
    injector.unload()


def test_v31_t27_t40_real_errors_are_invisible_and_the_port_is_deaf_afterwards() -> None:
    m = machine()
    assert inj(m, EP, 0x40, 0) == 0
    said = len(lines(m))
    for _ in range(2):
        m.hierarchy.inject(m.names[EP], 0x1, 0)
        settle(m)
    assert len(lines(m)) == said
    m.dom0.injector.unload()
    assert aer_word(m, "rp1", AER.ROOT_STATUS) == 0x3
    m.hierarchy.inject(m.names[EP], 0x1, 0)
    settle(m)
    assert len(lines(m)) == said


def test_v32_without_aer_the_injector_finds_no_service() -> None:
    m = machine("noaer")
    assert inj(m, EP, 0x1, 0) == -ENODEV
    assert lines(m) == ["<3> pcieport 0000:00:04.0: aer_inject: AER device not found"]


def test_v33_a_device_without_aer() -> None:
    m = machine()
    assert inj(m, NVM, 0x1, 0) == -EPROTONOSUPPORT
    assert lines(m) == ["<3> nvme 0000:09:00.0: aer_inject: Device doesn't support AER"]


@pytest.mark.parametrize(("size", "result"), [(0, -EINVAL), (27, -EINVAL), (28, 28), (32, 32), (33, -EINVAL)])
def test_sizes_of_a_record(size: int, result: int) -> None:
    m = machine()
    record = RECORD.pack(7, 0, 0, 0, 0x40, 0, 0, 0, 0, 0)
    assert m.dom0.injector.write((record + b"\0")[:size]) == result


def test_t43_ones_written_to_a_simulated_status_set_every_bit() -> None:
    m = machine()
    assert inj(m, NET, 0x40, 0) == 0
    dev: Any = m.device(m.names[NET])
    m.core.write(dev, dev.aer + AER.COR_STATUS, 4, 0xFFFFFFFF)
    assert aer_word(m, NET, AER.COR_STATUS) == 0xFFFFFFFF


def test_an_unknown_device_is_refused_without_a_word() -> None:
    m = machine()
    assert m.dom0.injector.inject(Sbdf.parse("55:00.0"), 1, 0, (0, 0, 0, 0)) == -ENODEV
    assert lines(m) == []


def test_t25_a_reset_without_restore_leaves_a_function_mute() -> None:
    m = machine()
    dev = m.device(m.names["epc"])
    dev.set_driver(None)
    m.hierarchy.inject(dev.sbdf, 0, 0x40000)
    settle(m)
    assert m.core.read(dev, HEADER.COMMAND, 2) == 0
    said = len(lines(m))
    m.hierarchy.inject(dev.sbdf, 0x1, 0x40000)
    settle(m)
    assert len(lines(m)) == said
