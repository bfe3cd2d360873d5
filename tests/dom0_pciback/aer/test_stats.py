"""Counters and their files (linux-aer.md 7)."""

from __future__ import annotations

import pytest

from dom0_pciback.aer.stats import AerStats, device_file, root_file
from protocol.ers import Severity
from tests.dom0_pciback.aer.rig import Rig

UNCOR_ORDER = [
    "Undefined", "DLP", "SDES", "TLP", "FCP", "CmpltTO", "CmpltAbrt", "UnxCmplt", "RxOF", "MalfTLP", "ECRC",
    "UnsupReq", "ACSViol", "UncorrIntErr", "BlockedTLP", "AtomicOpBlocked", "TLPBlockedErr", "PoisonTLPBlocked",
    "DMWrReqBlocked", "IDECheck", "MisIDETLP", "PCRC_CHECK", "TLPXlatBlocked",
]  # fmt: skip


def test_7_2_the_example() -> None:
    stats = AerStats()
    for status in (0x43, 0x43, 0x41, 1):
        stats.count_device(Severity.CORRECTABLE, status)
    for _ in range(3):
        stats.count_device(Severity.CORRECTABLE, 0)
    assert device_file(stats, "aer_dev_correctable") == (
        "RxErr 4\ndev_cor_errs_bit[1] 2\nBadTLP 3\nBadDLLP 0\nRollover 0\nTimeout 0\nNonFatalErr 0\n"
        "CorrIntErr 0\nHeaderOF 0\nTOTAL_ERR_COR 7\n"
    )


@pytest.mark.parametrize(
    ("file", "severity", "array", "total"),
    [
        ("aer_dev_nonfatal", Severity.NONFATAL, "dev_nonfatal_errs", "TOTAL_ERR_NONFATAL"),
        ("aer_dev_fatal", Severity.FATAL, "dev_fatal_errs", "TOTAL_ERR_FATAL"),
    ],
)
def test_7_2_uncorrectable_files_list_23_names_in_order(file: str, severity: Severity, array: str, total: str) -> None:
    stats = AerStats()
    stats.count_device(severity, 0x80000802)
    lines = device_file(stats, file).splitlines()
    assert lines[-1] == f"{total} 1"
    assert lines[1] == f"{array}_bit[1] 1"
    assert [line.split()[0] for line in lines[:-1] if "bit[" not in line] == UNCOR_ORDER
    assert lines[-2] == "TLPXlatBlocked 1"


def test_7_3_root_counters_count_fifo_entries() -> None:
    stats = AerStats()
    for status in (0x3, 0x2C, 0x6D, 0x54):
        stats.count_root(status)
    assert [root_file(stats, f"aer_rootport_total_err_{kind}") for kind in ("cor", "nonfatal", "fatal")] == [
        "2\n", "1\n", "2\n",
    ]  # fmt: skip


def test_t18_the_severity_of_the_message_counts_not_that_of_the_bit() -> None:
    rig = Rig()
    root = rig.dev("00:01.0")
    rig.inject("00:01.0", uncor=0x10)
    rig.inject("00:01.0", uncor=0x4000)
    assert "DLP 1\n" in rig.aer.stats_text(root, "aer_dev_nonfatal")
    assert "DLP 1\n" in rig.aer.stats_text(root, "aer_dev_fatal")


def test_files_exist_where_the_kernel_has_them() -> None:
    rig = Rig()
    for dev, file in ((rig.dev("01:00.0"), "aer_rootport_total_err_cor"), (rig.dev("00:01.0"), "aer_dev_all")):
        with pytest.raises(KeyError):
            rig.aer.stats_text(dev, file)
    assert rig.aer.stats_text(rig.dev("00:01.0"), "aer_rootport_total_err_fatal") == "0\n"
