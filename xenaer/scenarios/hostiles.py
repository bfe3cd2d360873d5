"""Hostile and broken guests X1 to X48 of xen-pci.md 10: each line one scenario."""

from __future__ import annotations

from xenaer.scenarios.hosts import guest, host
from xenaer.scenarios.interleavings import IGNORE, MUTE, one, two
from xenaer.scenarios.scenario import MakeHost, Scenario

SLOW_MS = 299_000
PROTOCOL = "XenStore's wire protocol is not spoken in virtual time; tests/hypervisor_stub/xenstore has it"
RINGS = "no device of this program has a shared ring"


def three() -> MakeHost:
    """Three hostile guests with a device each."""
    return lambda: host(guest("h1", "A"), guest("h2", "B"), guest("h3", "C"))


# fmt: off
# op: cmd err domain bus devfn offset size value, hexadecimal
ROWS: tuple[Scenario, ...] = (
    Scenario("X1", "unknown commands", one("h1"),
        "op h1 6; reply h1; op h1 9; reply h1; op h1 a; reply h1; op h1 80000000; reply h1"),
    Scenario("X2", "unknown domain, bus, device", one("h1"),
        "op h1 0 0 1 0 0 0 4; reply h1; op h1 0 0 0 1 0 0 4; reply h1; op h1 0 0 0 0 f8 0 4; reply h1"),
    Scenario("X3", "device number with bits above 7", one("h1"),
        "op h1 0 0 0 0 100 0 4; reply h1"),
    Scenario("X4", "sizes that there are not", one("h1"),
        "op h1 0 0 0 0 0 0 0; reply h1; op h1 0 0 0 0 0 0 3; reply h1; op h1 0 0 0 0 0 0 8; reply h1; "
        "op h1 0 0 0 0 0 0 -1; reply h1; op h1 0 0 0 0 0 0 -80000000; reply h1"),
    Scenario("X5", "unaligned offset", one("h1"),
        "op h1 0 0 0 0 0 1 2; reply h1; op h1 0 0 0 0 0 2 4; reply h1"),
    Scenario("X6", "negative offset", one("h1"),
        "op h1 0 0 0 0 0 -4 4; reply h1; op h1 1 0 0 0 0 -4 4 1; reply h1"),
    Scenario("X7", "offset beyond the device's space", one("h1"),
        "op h1 0 0 0 0 0 1000 4; reply h1; op h1 0 0 0 0 0 7ffffffc 4; reply h1"),
    Scenario("X8", "MSI-X with too many vectors", one("h1"),
        "op h1 4 0 0 0 0 0 0 81; reply h1; op h1 4 0 0 0 0 0 0 ffffffff; reply h1"),
    Scenario("X9", "MSI-X with no vector, or the same twice", one("h1"),
        "op h1 4; reply h1; op h1 4 0 0 0 0 0 0 2; reply h1"),
    Scenario("X10", "MSI twice, MSI-X while MSI is on, off without on", one("h1"),
        "op h1 2; reply h1; op h1 2; reply h1; op h1 4 0 0 0 0 0 0 1; reply h1; op h1 3; reply h1; op h1 3; reply h1"),
    Scenario("X11", "changes the request after the flag", one("h1"),
        "op h1 0 0 0 0 0 0 4; poke h1 24 04000000; reply h1"),
    Scenario("X12", "a request without a doorbell", one("h1"),
        "poke h1 28 04000000; flag h1 set 0; reply h1; bell h1; reply h1"),
    Scenario("X13", "doorbells without end", one("h1"),
        "bell h1 300 0.1; run 3000; statistics h1 events spurious_events"),
    Scenario("X14", "requests without end", one("h1"),
        "flood h1 200; reply h1"),
    Scenario("X15", "gives a request up while it runs", one("h1"),
        "hold h1.out; op h1 0 0 0 0 0 0 4; flag h1 clear 0; run 1; release h1.out; reply h1"),
    Scenario("X16", "clears the AER flag without an answer", one("h1", spec=IGNORE),
        "inject A nonfatal; until pciback.ask; run 1; answer h1; run; statistics h1 aer_reply_equals_request"),
    Scenario("X17", "an answer that is none", one("h1"),
        "votes h1 77 5 1; inject A nonfatal; run"),
    Scenario("X18", "answers twice, answers when nothing was asked", one("h1"),
        "answer h1 2; answer h1 5; run 100; statistics h1 spurious_events; votes h1 2 5 1; inject A nonfatal; run"),
    Scenario("X19", "never answers", one("h1"),
        "inject A nonfatal; run"),
    Scenario("X20", "answers at the last moment of every phase", two({"ed_ms": SLOW_MS, "mmio_ms": SLOW_MS}, {}),
        "inject A nonfatal; run 1000; inject C nonfatal; run"),
    Scenario("X21", "sets the AER flag itself", one("h1"),
        "flag h1 set 2; bell h1; votes h1 2 5 1; inject A nonfatal; run"),
    Scenario("X22", "rewrites the address of an AER request", one("h1"),
        "inject A nonfatal; until pciback.ask; run 1; poke h1 560 070000000800000011000000; votes h1 5 1; answer h1 2; "
        "run"),
    Scenario("X23", "takes its AER handler bit away", one("h1"),
        "flag h1 clear 1; votes h1 2 5 1; inject A nonfatal; run"),
    Scenario("X24", "claims AER code, has no handlers", one(no_err_handler=True),
        "inject A nonfatal; run"),
    Scenario("X25", "grants that do not work", three(),
        "state h1; state h2; state h3; inject A nonfatal; run",
        {"h1": {"pci-op-ref": "999"}, "h2": {"readonly": "yes"}, "h3": {"remote": "1"}}),
    Scenario("X26", "event channels that do not work", three(),
        "state h1; state h2; state h3",
        {"h1": {"event-channel": "0"}, "h2": {"event-channel": "4294967295"}, "h3": {"event-channel": "77"}}),
    Scenario("X27", "wrong magic", three(),
        "state h1; state h2; state h3",
        {"h1": {"magic": "-"}, "h2": {"magic": "6"}, "h3": {"magic": "7" + "x" * 1999}}),
    Scenario("X28", "references that are no numbers", three(),
        "state h1; state h2; state h3",
        {"h1": {"pci-op-ref": "abc"}, "h2": {"pci-op-ref": "-1"}, "h3": {"pci-op-ref": "4294967297"}}),
    Scenario("X29", "states that there are not", one("h1"),
        "node h1 state 99; node h1 state -1; node h1 state abc; run 1000; state h1; op h1 0 0 0 0 0 0 4; reply h1"),
    Scenario("X30", "states back and forth", one("h1"),
        "node h1 state 3; node h1 state 7; node h1 state 3; node h1 state 6; node h1 state 3; node h1 state 6; run; "
        "state h1"),
    Scenario("X31", "Reconfiguring without being asked", one("h1"),
        "node h1 state 7; state h1; op h1 0 0 0 0 0 0 4; reply h1"),
    Scenario("X32", "Connected before Initialised", one("h1"),
        "node h1 state 4; state h1; run 40000; inject A nonfatal; run",
        {"h1": {"quiet": "yes"}}),
    Scenario("X33", "closes in the middle of a phase", one("h1"),
        "inject A nonfatal; until pciback.ask; run 1; node h1 state 5; run"),
    Scenario("X34", "connects again and again", one("h1"),
        "node h1 state 6; offer-again h1; state h1; node h1 state 6; offer-again h1; state h1"),
    Scenario("X35", "deletes its frontend directory", one("h1"),
        "call h1 xs_rm 0 device/pci/0; run"),
    Scenario("X36", "long values and deep trees", one("h1"),
        "call h1 xs_write 0 data/long x*4000; many h1 1200; run"),
    Scenario("X37", "watches and transactions without end", one("h1"),
        "watches h1 140; transactions h1 12; run"),
    Scenario("X38", "frames that are too long or never end", one("h1"), "", why_not=PROTOCOL),
    Scenario("X39", "a transaction of somebody else", one("h1"),
        "call h1 xs_read 4711 name; call h1 xs_end 4711 1; call h1 xs_read 0 name"),
    Scenario("X40", "ring indices above the size", one("h1"), "", why_not=RINGS),
    Scenario("X41", "reads of every device number without end", two({}, {}, ("C", "A")),
        "scan g2 600; config g1 0 0 4; run 2; config g1 0 8 4; run"),
    Scenario("X42", "dies in the middle of the protocol", one("h1"),
        "inject A fatal; until pciback.ask; run 1; flag h1 clear 2; kill h1; run"),
    Scenario("X43", "answers, and dies before the reset", one(),
        "inject A fatal; until pciback.answer; kill g1; run"),
    Scenario("X44", "switches bus mastering on again while the device is frozen", one(ed_ms=100),
        "inject A fatal; until pciback.ask; run 50; config g1 0 4 2 107; run 5; dma A g1; run; dma A g1"),
    Scenario("X45", "config operations while the device is being reset", one(),
        "inject A fatal; until pciback.answer; run 50; config g1 0 8 4; run"),
    Scenario("X46", "an error of a sleeping device", one(permissive=True),
        "config g1 0 44 2 3; run 10; inject A nonfatal; run"),
    Scenario("X47", "writes of registers that are not the guest's", one("h1"),
        "op h1 1 0 0 0 0 e 1 7f; reply h1; op h1 1 0 0 0 0 34 1 0; reply h1; op h1 1 0 0 0 0 10 4 12345000; reply h1; "
        "op h1 0 0 0 0 0 c 4; reply h1; op h1 0 0 0 0 0 34 1; reply h1"),
    Scenario("X48", "nonsense on the channel", one("h1"),
        "inject A nonfatal; until pciback.ask; run 1; garbage h1; run"),
)
# fmt: on

__all__ = ["IGNORE", "MUTE", "ROWS"]
