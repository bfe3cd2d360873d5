"""Which errors were processed, and which are lost: injected, masked, told, logged, recovered, reset."""

from __future__ import annotations

from dataclasses import replace

import pytest

from protocol.bits import COR_MASKED, UNCOR_MASKED
from protocol.topology import BootSpec
from tests.campaign.verdict_kit import ED, NONE, PORT, A, B, C, Written, three_guests
from xenaer.campaign.verdict.afterwards import DIRTY, Afterwards, DeviceAfter
from xenaer.campaign.verdict.masks import masks_of

BAD_TLP, COMP_ABORT, UNX_COMP, INTERNAL = 1 << 6, 1 << 15, 1 << 16, 1 << 14
MULTI_UNCOR = 0x0C


def lost(w: Written, after: Afterwards | None = None) -> bool:
    """Nobody processed an error."""
    return w.verdict(after).outcome == "lost"


def test_an_error_that_a_root_port_was_told_of() -> None:
    assert lost(Written().inject(A))
    assert not lost(Written().inject(A, told=False))


def test_or_that_the_device_still_shows() -> None:
    w = Written().inject(A, told=False)
    assert lost(w, Afterwards(devices={A: DeviceAfter(DIRTY, left=(0, COMP_ABORT))}))
    assert not lost(w, Afterwards(devices={A: DeviceAfter(DIRTY, left=(0, UNX_COMP))}))


def test_of_several_messages_only_the_first_is_named() -> None:
    w = Written().inject(A, told=False).inject(B, told=False).dom0("aer.irq", PORT, MULTI_UNCOR, 0x0200 << 16)
    assert "0000:01:00.0" in w.verdict().text


def test_the_source_of_a_class_that_was_not_received_is_an_old_one() -> None:
    w = Written().inject(A, cor=BAD_TLP, uncor=0, told=False).dom0("aer.irq", PORT, 4, 0x0200 << 16 | 0x0100)
    assert not lost(w)


def test_masked_bits_are_nobodys_business() -> None:
    assert not lost(Written().inject(A, cor=INTERNAL, uncor=0))
    assert not lost(Written().dom0("hw.mask", A, 0, COMP_ABORT).inject(A))
    assert lost(Written().inject(A, cor=INTERNAL | BAD_TLP, uncor=0))


def test_a_logged_correctable_error_is_done() -> None:
    w = Written().inject(A, cor=BAD_TLP, uncor=0).dom0("aer.error", A, "CORRECTABLE", BAD_TLP, [])
    assert w.verdict().outcome == "corrected-logged"
    assert lost(w.inject(A, cor=1, uncor=0))


def test_an_advisory_error_is_logged_as_correctable() -> None:
    assert not lost(Written().inject(A).dom0("aer.error", A, "CORRECTABLE", 1 << 13, []))


def test_an_uncorrectable_one_wants_a_recovery() -> None:
    w = Written().inject(A).dom0("aer.error", A, "NONFATAL", COMP_ABORT, [])
    assert lost(w)
    assert not lost(w.dom0("recovery.begin", A, "NORMAL").talk(A).end(A))


def test_a_second_error_wants_another_round() -> None:
    """errata 9.2 no. 14"""
    w = Written().inject(A).begin(A).ask(A, ED, 2).inject(A, uncor=UNX_COMP)
    assert lost(Written().inject(A).begin(A).ask(A, ED, 2).inject(A, uncor=UNX_COMP).end(A))
    assert not lost(w.dom0("recovery.round", A, 2).dom0("recovery.begin", A, "NORMAL").talk(A).end(A))


def test_but_the_same_bit_twice_is_one_error() -> None:
    assert not lost(Written().inject(A).begin(A).ask(A, ED, 2).inject(A).end(A))
    assert lost(Written().inject(A).begin(A).talk(A).end(A).inject(A))


def test_nor_does_it_help_anybody_when_all_have_failed() -> None:
    w = Written().inject(A).begin(A).ask(A, ED, 4, "answer-disconnect").inject(A, uncor=UNX_COMP).end(A, "failed")
    assert not lost(w.kill("g1", A))


def test_a_correctable_error_meanwhile_is_not_what_the_recovery_is_about() -> None:
    w = Written().inject(A).begin(A).ask(A, ED, 2).inject(A, cor=BAD_TLP, uncor=0).end(A)
    assert lost(w)
    assert not lost(w.dom0("aer.error", A, "CORRECTABLE", BAD_TLP, []))


def test_a_recovery_of_the_port_is_not_one_of_what_is_below() -> None:
    assert lost(Written().inject(A).begin(PORT).talk(A).end(PORT))


def test_unless_the_port_contains_errors() -> None:
    w = Written().inject(A, told=False).dom0("dpc.irq", PORT, 1).dom0("recovery.begin", PORT, "FROZEN")
    after = Afterwards(devices={A: DeviceAfter(DIRTY, left=(0, COMP_ABORT))})
    assert not lost(w.ask(A, ED, 3, state=2).end(PORT), after)


def test_a_reset_function_begins_anew() -> None:
    assert not lost(Written().inject(A).reset(A))
    assert not lost(Written().inject(A).dom0("pci.restore", A))
    assert lost(Written().inject(A).reset(A, "flr", -25))


def test_what_happens_below_a_link_in_reset_happens_to_nobody() -> None:
    w = Written().dom0("aer.root_reset_begin", PORT).inject(A)
    assert not lost(w)
    assert lost(Written().dom0("aer.root_reset_begin", PORT).inject(C))


def test_a_kernel_without_aer_loses_nothing() -> None:
    w = Written()
    w.host = replace(w.host, boot=BootSpec(aer=False))
    assert w.inject(A).verdict().outcome == "no-effect"


def test_whoever_is_blamed_had_none() -> None:
    blamed = Written().inject(A).begin(C, frozen=True).talk(C).end(C)
    assert blamed.verdict().outcome == "wrong-device-blamed"
    both = Written().inject(A).inject(C).begin(C, frozen=True).talk(C).end(C)
    assert both.verdict().outcome == "lost"
    port = Written().inject(A).begin(PORT, frozen=True).talk(A).end(PORT)
    assert port.verdict().outcome == "lost"


@pytest.mark.parametrize("state", ["NORMAL", "FROZEN"])
def test_below_a_port_that_had_the_error_everybody_is_a_bystander_until_the_reset(state: str) -> None:
    """H20"""
    w = Written().inject(PORT, told=False).dom0("recovery.begin", PORT, state)
    w.ask(A, ED, 1, NONE, state=2 if state == "FROZEN" else 1).end(PORT)
    expected = "guest-alive-though-required-dead" if state == "FROZEN" else "recovered"
    assert w.verdict().outcome == expected


# -- masks -------------------------------------------------------------------------------------------
def test_masks_come_from_the_host_file() -> None:
    host = three_guests()
    function = host.functions[1]
    assert masks_of(function, host) == (COR_MASKED, UNCOR_MASKED)
    assert masks_of(function, replace(host, hardware="qemu-7.2")) == (COR_MASKED, 0)
    assert masks_of(replace(function, registers={"aer_unc_mask": 5}), host) == (COR_MASKED, 5)


def test_or_from_a_configuration_image() -> None:
    image = bytearray(4096)
    image[0x100:0x104] = (1 | 1 << 16).to_bytes(4, "little")  # AER, version 1, the last capability
    image[0x108:0x10C], image[0x114:0x118] = b"\x10\0\0\0", b"\x40\0\0\0"
    host = three_guests()
    assert masks_of(replace(host.functions[1], config=image.hex()), host) == (0x40, 0x10)


def test_nobody_can_process_the_error_of_what_is_gone() -> None:
    assert Written().inject(A).verdict().outcome == "lost"
    assert Written().inject(A).dom0("hw.gone", A, "dead").verdict().outcome != "lost"


def test_what_was_reset_before_its_turn_needs_no_recovery() -> None:
    w = Written().inject(A).dom0("aer.error", A, "NONFATAL", 1 << 15, [])
    assert w.verdict().outcome == "lost"
    assert w.reset(A).verdict().outcome != "lost"
