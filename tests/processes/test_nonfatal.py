"""The letter's error: a missing function is touched, four parties recover the device, traffic goes on."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.processes.hosts import flat, guest, nic, root_port
from tests.processes.running import TRANSPORTS, Running, running

pytestmark = pytest.mark.processes

NIC, PORT = nic(0), root_port(0)
RECEIVER_ERROR, BAD_TLP = 1 << 0, 1 << 6

DOM0_LOG = [
    f"pcieport {PORT}: AER: Uncorrectable (Non-Fatal) error message received from {NIC}",
    f"pciback {NIC}: PCIe Bus Error: severity=Uncorrectable (Non-Fatal), type=Transaction Layer, (Receiver ID)",
    f"pciback {NIC}:   device [1af4:1041] error status/mask=00100000/02400000",
    f"pciback {NIC}:    [20] UnsupReq               (First)",
    f"pciback {NIC}: AER:   TLP Header: 0x04000001 0x0000000f 0x01070000 0x00000000",
    f"pcieport {PORT}: AER: broadcast error_detected message",
    f"pciback {NIC}: xen_pciback: xen_pcibk_error_detected(bus:1,devfn:0)",
    f"pciback {NIC}: xen_pciback: aer_op 6 dom 0 bus 0 devfn 0",
    f"pcieport {PORT}: AER: broadcast mmio_enabled message",
    f"pciback {NIC}: xen_pciback: xen_pcibk_mmio_enabled(bus:1,devfn:0)",
    f"pciback {NIC}: xen_pciback: aer_op 8 dom 0 bus 0 devfn 0",
    f"pcieport {PORT}: AER: broadcast resume message",
    f"pciback {NIC}: xen_pciback: xen_pcibk_error_resume(bus:1,devfn:0)",
    f"pciback {NIC}: xen_pciback: aer_op 7 dom 0 bus 0 devfn 0",
    f"pcieport {PORT}: AER: device recovery successful",
]


def guest_log() -> list[str]:
    """Three requests, each scheduled, dispatched, handled (xen-pci-errata.md 3.2)."""
    lines = []
    answers = {6: "error_detected state=1 -> 2 CAN_RECOVER", 8: "mmio_enabled -> 5 RECOVERED", 7: "resume"}
    for cmd, answer in answers.items():
        lines += [
            "pcifront pci-0: schedule aer frontend job",
            "pcifront pci-0: pcifront service aer bus 0 devfn 0",
            f"pcifront pci-0: pcifront AER process: cmd {cmd:x} (bus:0, devfn0)",
            "xnic 0000:00:00.0: trying to call AER service",
            f"xnic 0000:00:00.0: {answer}",
        ]
    return lines


@pytest.fixture(scope="module", params=TRANSPORTS)
def view(request: pytest.FixtureRequest) -> Iterator[Running]:
    with running(flat([guest("net1", NIC)]), request.param) as view:
        yield view


def test_a_touched_missing_function_is_recovered_with_the_kernels_log_lines(view: Running) -> None:
    view.use("net1")
    mark = view.mark()
    assert view.dom0("touch", NIC) == 0xFFFFFFFF
    assert view.outcome(mark, NIC) == "recovered"
    assert view.log(mark, "dom0") == DOM0_LOG
    assert view.callbacks(mark, "net1", 3) == ["error_detected", "mmio_enabled", "resume"]
    view.until(lambda: view.log(mark, "net1") == guest_log(), "the guest's log")
    assert view.find(mark, "recovery.end", NIC, verdict="successful")
    assert view.find(mark, "pciback.kill") == []
    view.use("net1")


def test_traffic_goes_on_through_many_recoveries(view: Running) -> None:
    for _ in range(5):
        mark = view.mark()
        view.dom0("touch", NIC)
        view.use("net1")
        assert view.outcome(mark, NIC) == "recovered"
    view.use("net1")


def test_a_correctable_error_is_cleared_counted_and_logged_and_nobody_is_asked(view: Running) -> None:
    before, clean = counters(view), view.config(NIC)
    mark = view.mark()
    view.dom0("inject", NIC, RECEIVER_ERROR | BAD_TLP, 0)
    view.wait(mark, "aer.error", NIC, severity="CORRECTABLE")
    view.use("net1")
    after = counters(view)
    assert {name: after[name] - before[name] for name in after if after[name] != before[name]} == COUNTED
    assert view.config(NIC) == clean
    log = view.log(mark, "dom0")
    assert f"pcieport {PORT}: AER: Correctable error message received from {NIC}" in log
    assert any("severity=Correctable" in line for line in log)
    assert [line.split("]")[1].split()[0] for line in log if "    [ " in line] == ["RxErr", "BadTLP"]
    assert view.find(mark, "pciback.ask") == view.find(mark, "driver.callback") == []


COUNTED = {"RxErr": 1, "BadTLP": 1, "TOTAL_ERR_COR": 1}  # each bit, and one message


def counters(view: Running) -> dict[str, int]:
    """``aer_dev_correctable`` in sysfs: name and count in turn."""
    words = view.dom0("stats", NIC)["aer_dev_correctable"].split()
    return {name: int(count) for name, count in zip(words[::2], words[1::2], strict=True)}
