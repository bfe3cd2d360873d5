"""Properties that hold for every combination of errors, masks, severities, answers and enables."""

from __future__ import annotations

from functools import cache
from itertools import product
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dom0_pciback.drivers.aerlab import VARIANTS, Answers
from dom0_pciback.pcie.config_space import ConfigSpace
from protocol.bits import COR_ALL, UNCOR_ALL
from protocol.ers import ErsResult, Severity, merge
from protocol.ids import Sbdf
from protocol.layout_aer import AER
from protocol.layout_header import HEADER, TYPE1
from protocol.layout_pcie import EXP
from xenaer.conform.machine import NS_PER_S, Machine

WORDS = st.integers(0, 0xFFFFFFFF)
NONE, CAN, RST, DIS, REC, NAD = ErsResult


# -- votes -------------------------------------------------------------------------------------
def by_the_findings(votes: tuple[ErsResult, ...]) -> ErsResult:
    """The merge rule as the recordings' third finding puts it in words, from CAN_RECOVER on."""
    if NAD in votes:
        return NAD
    status = CAN
    for vote in votes:
        if vote is NONE or status is RST:
            continue
        if status is not DIS or vote is RST:
            status = vote
    return status


def test_votes_merge_as_the_findings_say_for_all_sequences_of_up_to_five() -> None:
    for length in range(1, 6):
        for votes in product(ErsResult, repeat=length):
            status: int = CAN
            for vote in votes:
                status = merge(status, vote)
            assert status == by_the_findings(votes), votes


# -- registers -----------------------------------------------------------------------------------
def bit_by_bit(old: int, written: int, rw: int, w1c: int) -> int:
    """What each bit becomes, one at a time."""
    new = 0
    for bit in range(32):
        was, said = old >> bit & 1, written >> bit & 1
        if rw >> bit & 1:
            is_now = said
        elif w1c >> bit & 1:
            is_now = 0 if said else was
        else:
            is_now = was
        new |= is_now << bit
    return new


PLACES = [(layout, base) for layout, base in ((HEADER, 0), (TYPE1, 0), (EXP, 0x70), (AER, 0x100))]
REGISTERS = [(base + reg, reg) for layout, base in PLACES for reg in layout.registers]


@given(st.lists(st.tuples(st.sampled_from(REGISTERS), WORDS, WORDS), max_size=20))
def test_a_write_changes_each_bit_by_its_own_rule(writes: list[tuple[tuple[int, Any], int, int]]) -> None:
    space = ConfigSpace()
    for layout, base in PLACES:
        space.add(layout, base, "root_port", {})
    for (offset, reg), hardware, written in writes:
        ones = (1 << 8 * reg.width) - 1
        space.poke(offset, reg.width, hardware & ones)
        space.write(offset, reg.width, written & ones)
        assert space.read(offset, reg.width) == bit_by_bit(hardware & ones, written & ones, reg.rw, reg.w1c)


@given(st.lists(st.tuples(st.integers(0, 0x147 // 4), WORDS), max_size=20))
def test_a_dword_write_is_that_of_its_bytes(writes: list[tuple[int, int]]) -> None:
    whole, bytewise = ConfigSpace(), ConfigSpace()
    for layout, base in PLACES:
        for space in (whole, bytewise):
            space.add(layout, base, "root_port", {})
    for index, value in writes:
        whole.write(4 * index, 4, value)
        for byte in range(4):
            bytewise.write(4 * index + byte, 1, value >> 8 * byte & 0xFF)
        assert whole.data == bytewise.data


# -- whole machines --------------------------------------------------------------------------------
@cache
def machine() -> Machine:
    return Machine("main")


ENDPOINTS = ("epa", "epb", "epc", "epd")
DEVICES = (*ENDPOINTS, "rp1", "rp2", "up2", "dn20", "dn21", "rp9", "net1", "nvm", "tst", "ppb", "rciep")

drivers = st.fixed_dictionaries(
    {
        name: st.tuples(
            st.sampled_from([*VARIANTS, ""]),
            st.builds(Answers, *[st.integers(1, 6)] * 5, restore=st.integers(0, 1), sleep_det=st.sampled_from([0, 5])),
        )
        for name in ENDPOINTS
    }
)
settings_of = st.dictionaries(st.sampled_from(DEVICES), st.tuples(WORDS, WORDS, WORDS, st.integers(0, 0xF)), max_size=4)
errors = st.tuples(
    st.sampled_from(DEVICES), st.integers(0, COR_ALL), st.integers(0, UNCOR_ALL), st.booleans(), st.booleans()
)


@settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow])
@given(drivers, settings_of, st.lists(errors, min_size=1, max_size=6))
def test_no_combination_raises_loses_a_count_or_leaves_a_task_waiting(
    bound: dict[str, tuple[str, Answers]],
    registers: dict[str, tuple[int, int, int, int]],
    struck: list[tuple[str, int, int, bool, bool]],
) -> None:
    m = machine()
    m.reset()
    m.hierarchy.interrupt = m.dom0.aer.interrupt
    for name, (driver, answers) in bound.items():
        dev = m.device(m.names[name])
        dev.set_driver(m.core.drivers[driver] if driver else None)
        m.dom0.answers[dev.sbdf] = answers
    for name, values in registers.items():
        write_settings(m, m.names[name], values)
    for name, cor, uncor, advisory, at_once in struck:
        if cor & COR_ALL or uncor & UNCOR_ALL:
            m.hierarchy.inject(m.names[name], cor & COR_ALL, uncor & UNCOR_ALL, advisory=advisory)
        if not at_once:
            m.world.run_until(lambda: False, m.world.now() + 3_000_000)
    m.world.run_until(lambda: False, m.world.now() + 3_600 * NS_PER_S)  # resets wait for a minute each
    assert m.at_rest, m.kernel.tasks
    assert not any(record[2] == "kernel.oops" for record in m.journal.records)
    check_counts(m)


def write_settings(m: Machine, sbdf: Sbdf, values: tuple[int, int, int, int]) -> None:
    """Masks, severities and enables, as ``setpci`` would write them."""
    dev = m.device(sbdf)
    for register, value in zip((AER.UNCOR_MASK, AER.UNCOR_SEVER, AER.COR_MASK), values, strict=False):
        if dev.aer:
            m.core.write(dev, dev.aer + register, 4, value)
    if dev.exp:
        m.core.write(dev, dev.exp + EXP.DEVCTL, 2, values[3])


def check_counts(m: Machine) -> None:
    """Device totals are the records told, root totals the interrupts."""
    told = [(record[3], record[4]) for record in m.journal.records if record[2] == "aer.error"]
    begun = [record[3] for record in m.journal.records if record[2] == "recovery.begin"]
    ended = [record[3] for record in m.journal.records if record[2] == "recovery.end"]
    assert sorted(begun) == sorted(ended)
    irqs = [(record[3], record[4]) for record in m.journal.records if record[2] == "aer.irq"]
    for sbdf, dev in m.core.devices.items():
        if dev.aer_info is None:
            continue
        for severity in Severity:
            assert dev.aer_info.stats.totals[severity] == told.count((str(sbdf), severity.name))
        classes = {Severity.CORRECTABLE: 0x01, Severity.NONFATAL: 0x44, Severity.FATAL: 0x44}
        for severity, mask in classes.items():
            wanted = {Severity.CORRECTABLE: (0x01,), Severity.NONFATAL: (0x04,), Severity.FATAL: (0x44, 0x40)}[severity]
            seen = sum(1 for bdf, status in irqs if bdf == str(sbdf) and status & mask in wanted)
            assert dev.aer_info.stats.root[severity] == seen
