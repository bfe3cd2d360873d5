"""dom0_pciback.dom0: boot order, control verbs, and operators who type the wrong thing."""

from __future__ import annotations

from typing import Any

import pytest

from protocol.cper import PcieSection, Valid, pack_pcie
from protocol.ids import Sbdf
from tests.dom0_pciback.pciback.host import CARD, CARD_1, SPARE, Host, make_host

RECEIVER_OVERFLOW = 1 << 0
COMP_ABORT = 1 << 15


@pytest.fixture
def host() -> Host:
    return Host(real=True)


def test_boot_seizes_what_the_host_says_before_anything_is_served(host: Host) -> None:
    seized = {fields[0] for fields in host.world.traced("pciback.seize")}
    assert seized == {CARD, CARD_1, SPARE}
    labels = [record[2] for record in host.world.journal.records]
    assert labels.index("pciback.seize") < labels.index("hw.assign")


def test_ports_belong_to_the_port_driver(host: Host) -> None:
    slots = dict(host.dom0_call("pci_slots"))
    assert slots["0000:00:01.0"] == "pcieport"
    assert slots[CARD] == "pciback"


def test_inject_recovers(host: Host) -> None:
    host.ctl("dom0", "inject", CARD, 0, COMP_ABORT)
    host.settle(3_000)
    assert host.dom0.recoveries == 1
    assert [fields[2] for fields in host.world.traced("pciback.answer")] == [2, 5, 1]


def test_inject_with_a_header_is_logged(host: Host) -> None:
    host.ctl("dom0", "inject", CARD, 0, COMP_ABORT, [1, 2, 3, 4])
    host.settle(3_000)
    assert any("00000001 0x00000002 0x00000003 0x00000004" in line for line in host.log)


def test_a_correctable_error_disturbs_nobody(host: Host) -> None:
    host.ctl("dom0", "inject", CARD, RECEIVER_OVERFLOW, 0)
    host.settle(1_000)
    assert host.dom0.recoveries == 0
    assert host.ctl("dom0", "stats", CARD)["aer_dev_correctable"].startswith("RxErr 1")


def test_ghes_takes_a_record_in_hex(host: Host) -> None:
    section = PcieSection(
        Valid.DEVICE_ID | Valid.AER_INFO, Sbdf.parse(CARD), 0, 0, 0, 0, 0, 0, aer_info=bytes(16) + b"\1" + bytes(79)
    )
    assert host.ctl("dom0", "ghes", pack_pcie(section).hex(), "corrected") == 1
    host.settle(1_000)
    assert host.ctl("dom0", "stats", CARD)["aer_dev_correctable"].startswith("RxErr 1")
    assert host.ctl("dom0", "ghes", pack_pcie(section._replace(valid=0)).hex()) == 0


def test_inject_repeat_waits_for_each_recovery(host: Host) -> None:
    assert host.ctl("dom0", "inject-repeat", CARD, 0, COMP_ABORT, 3) == 3


def test_touch_of_a_function_that_is_not_there(host: Host) -> None:
    host.ctl("dom0", "touch", CARD)
    assert host.world.traced("hw.touch") == [("0000:01:00.7",)]


def test_config_is_4096_bytes(host: Host) -> None:
    data = host.ctl("dom0", "config", CARD)
    assert len(data) == 4096
    assert data[:4] == bytes.fromhex("f41a4110")


def test_stats_of_a_root_port_have_more_files(host: Host) -> None:
    assert set(host.ctl("dom0", "stats", CARD)) < set(host.ctl("dom0", "stats", "0000:00:01.0"))


def test_8_2_channel_stats_count_what_a_guest_did(host: Host) -> None:
    domid = host.guest.domid
    before = host.ctl("dom0", "channel-stats", domid)
    assert set(before) == {"events", "spurious_events", "jiffies_eoi_delayed", "aer_reply_equals_request"}
    host.ctl("dom0", "inject", CARD, 0, COMP_ABORT)
    host.settle(3_000)
    assert host.ctl("dom0", "channel-stats", domid)["events"] > before["events"]
    assert host.ctl("dom0", "channel-stats", domid)["aer_reply_equals_request"] == 0, "a resume has no answer"
    assert "domain 99 is not connected" in host.fails("dom0", "channel-stats", 99)


@pytest.mark.parametrize(
    "request_",
    [
        ("inject",), ("inject", CARD), ("inject", CARD, "x", 0), ("inject", CARD, 0, -1), ("inject", CARD, 0, 1 << 32),
        ("inject", CARD, 0, True), ("inject", CARD, 0, 0, [1, 2]), ("inject", CARD, 0, 0, "head"), ("inject", 5, 0, 0),
        ("inject", "nonsense", 0, 0), ("inject", "0000:09:00.0", 0, 0), ("inject", CARD, 0, 0, [1, 2, 3, 4], 5),
        ("inject-repeat", CARD, 0, 0), ("inject-repeat", CARD, 0, 0, "many"), ("touch",), ("touch", 7), ("touch", "x"),
        ("stats", "x"), ("stats",), ("config", None), ("aer-inject", 5, "f"), ("aer-inject", "AER\nNONSENSE 1\n", "f"),
        ("aer-inject", "text"), ("ghes",), ("ghes", "zz"), ("ghes", "00" * 19),
        ("ghes", "00" * 208, "severe"), ("no-such-verb",), ("__init__",),
    ],
)  # fmt: skip
def test_a_wrong_request_is_refused_and_dom0_lives_on(host: Host, request_: tuple[Any, ...]) -> None:
    assert host.fails("dom0", *request_)
    assert host.ctl("dom0", "stats", CARD)
    assert not host.world.traced("kernel.oops")


def test_an_unknown_verb_names_those_that_exist(host: Host) -> None:
    text = host.fails("dom0", "no-such-verb")
    for verb in ("inject", "touch", "aer-inject", "stats", "config", "channel-stats"):
        assert verb in text


def test_aer_inject_counts_its_records(host: Host) -> None:
    text = f"AER\nPCI_ID {CARD}\nUNCOR_STATUS COMP_ABORT\nHEADER_LOG 0 1 2 3\n"
    assert host.ctl("dom0", "aer-inject", text, "file.aer") == 1
    host.settle(3_000)
    assert host.dom0.recoveries == 1


def test_the_linux_profile_boots_and_recovers_too() -> None:
    host = Host(make_host(profile="linux"), real=True)
    host.ctl("dom0", "inject", CARD, 0, COMP_ABORT)
    host.settle(3_000)
    assert host.dom0.recoveries == 1
    assert host.dom0.core.devices[Sbdf.parse(CARD)].driver is not None
