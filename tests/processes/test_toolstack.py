"""The operator acts while a recovery is under way: attach, detach, shutdown, reboot, destroy, a second error."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from protocol.topology import HostSpec
from tests.processes.hosts import flat, guest, nic
from tests.processes.running import TRANSPORTS, Running, running

pytestmark = pytest.mark.processes

COMPLETER_ABORT, COMPLETION_TIMEOUT = 1 << 15, 1 << 14
SLOW_MS = 300  # long enough for a command, short enough for the budget
PHASES = ("error_detected", "mmio_enabled", "slot_reset", "resume")
OPTIONS: dict[str, dict[str, object]] = {
    "error_detected": {"ed_ms": SLOW_MS},
    "mmio_enabled": {"mmio_ms": SLOW_MS},
    "slot_reset": {"ed": "NEED_RESET", "slot_reset_ms": SLOW_MS},
    "resume": {"resume_ms": SLOW_MS},
}
SPARE = len(PHASES)  # number of the device that nobody has at first
BOUND = {"0000:00:00.0": "scripted"}


def name_of(phase: str) -> str:
    """The guest whose driver takes its time in ``phase``."""
    return f"slow-in-{phase.replace('_', '-')}"


def host() -> HostSpec:
    """One guest per phase, one that waits for devices."""
    guests = [
        guest(name_of(phase), nic(number), "scripted", options=OPTIONS[phase], autostart=False)
        for number, phase in enumerate(PHASES)
    ]
    return flat([*guests, guest("fresh")], SPARE + 1)


@pytest.fixture(scope="module", params=TRANSPORTS)
def view(request: pytest.FixtureRequest) -> Iterator[Running]:
    with running(host(), request.param) as view:
        yield view


def begin(view: Running, phase: str) -> tuple[str, str, float]:
    """A guest that is just being asked in ``phase``: its name, its device, when it began."""
    name, bdf = name_of(phase), nic(PHASES.index(phase))
    if view.status(name) is None:
        view.xl_good("create", name)
    view.wait_up(name)
    mark = view.mark()
    view.dom0("inject", bdf, 0, COMPLETER_ABORT)
    view.wait(mark, "pciback.ask", bdf, phase=phase)
    return name, bdf, mark


def serve(view: Running, bdf: str) -> None:
    """The device is clean: a fresh guest can use it."""
    view.xl_good("pci-attach", "fresh", bdf)
    view.wait_up("fresh")
    view.use("fresh")
    view.xl_good("pci-detach", "fresh", bdf)


def assert_nothing_hangs(view: Running, mark: float, bdf: str) -> None:
    """The recovery has ended, pciback has the device back, and dom0 alone recovers its next error."""
    view.wait(mark, "recovery.end", bdf)
    view.wait(mark, "pciback.unexport", bdf)
    again = view.mark()
    view.dom0("inject", bdf, 0, COMPLETER_ABORT)
    assert view.outcome(again, bdf) == "unassigned-ok"


@pytest.mark.parametrize("phase", PHASES)
def test_a_detach_ends_the_question_and_gives_the_device_back_clean(view: Running, phase: str) -> None:
    name, bdf, mark = begin(view, phase)
    seized_bars = view.config(bdf)[:4]
    view.xl_good("pci-detach", name, bdf)
    assert view.outcome(mark, bdf) == "detached"
    assert view.find(mark, "pciback.kill") == []
    assert view.asked(mark, bdf)[-1] == phase
    assert view.config(bdf)[:4] == seized_bars
    assert_nothing_hangs(view, mark, bdf)
    serve(view, bdf)
    view.xl_good("pci-attach", name, bdf)  # the guest lives and gets it again
    view.until(lambda: view.system.ctl(name, "status", []) == BOUND, "driver bound")


@pytest.mark.parametrize("phase", PHASES)
def test_an_attach_of_a_second_device_does_not_disturb_the_recovery(view: Running, phase: str) -> None:
    name, bdf, mark = begin(view, phase)
    view.xl_good("pci-attach", name, nic(SPARE))
    assert view.outcome(mark, bdf) == "recovered"
    wanted = BOUND | {"0000:00:01.0": "xnic"}
    view.until(lambda: view.system.ctl(name, "status", []) == wanted, "both drivers bound")
    view.use(name)
    view.xl_good("pci-detach", name, nic(SPARE))


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("phase", PHASES)
def test_a_second_error_during_a_recovery_means_another_round(phase: str, transport: str) -> None:
    with running(host(), transport) as view:
        name, bdf, mark = begin(view, phase)
        view.dom0("inject", bdf, 0, COMPLETION_TIMEOUT)

        def ends() -> list[str]:
            return [item["verdict"] for item in view.find(mark, "recovery.end", bdf)]

        view.until(lambda: len(ends()) >= 2 or bool(view.find(mark, "pciback.kill")), "two rounds")
        assert ends() == ["successful"] * 2
        assert view.system.ctl(name, "status", []) == BOUND


@pytest.mark.parametrize("phase", PHASES)
def test_a_shutdown_during_a_recovery_ends_guest_and_recovery(view: Running, phase: str) -> None:
    name, bdf, mark = begin(view, phase)
    view.xl_good("shutdown", name)
    view.wait(mark, "domain.destroy", name)
    assert view.wait(mark, "domain.shutdown", name)["reason"] == 0
    assert_nothing_hangs(view, mark, bdf)
    serve(view, bdf)


@pytest.mark.parametrize("phase", PHASES)
def test_a_destroy_during_a_recovery_is_no_kill_and_the_device_counts_as_detached(view: Running, phase: str) -> None:
    name, bdf, mark = begin(view, phase)
    view.xl_good("destroy", name)
    assert view.outcome(mark, bdf) == "detached"
    assert view.find(mark, "pciback.kill") == []
    assert view.steps(mark, name, bdf)["check"] == "ok"
    assert_nothing_hangs(view, mark, bdf)
    serve(view, bdf)


# -- what follows the end of a domain --------------------------------------------------------------
@pytest.mark.parametrize("transport", TRANSPORTS)
def test_on_crash_and_on_reboot_restart_make_a_new_domain_that_works(transport: str) -> None:
    guests = [guest("net1", nic(0), on_crash="restart"), guest("mute", nic(1), "silent", on_crash="restart")]
    with running(flat(guests), transport) as view:
        first = view.wait_up("net1")
        view.xl_good("reboot", "net1")
        second = view.wait_up("net1", first)
        view.use("net1")
        mark = view.mark()
        view.dom0("inject", nic(0), 0, COMPLETER_ABORT)
        assert view.outcome(mark, nic(0)) == "recovered"
        assert view.status("net1") == view.status("net1") | {"domid": second}  # type: ignore[operator]
        for _ in range(3):  # a guest that cannot recover comes back as a new domain each time
            before = view.wait_up("mute")
            mark = view.mark()
            view.dom0("inject", nic(1), 0, COMPLETER_ABORT)
            assert view.outcome(mark, nic(1)) == "killed"
            assert view.wait_up("mute", before) > before
            assert view.find(mark, "domain.restart", "mute")
        view.use("net1")


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_on_crash_destroy_and_preserve(transport: str) -> None:
    guests = [
        guest("gone", nic(0), "scripted", options={"fail": {"error_detected": "panic"}}),
        guest("kept", nic(1), "silent", on_crash="preserve"),
    ]
    with running(flat(guests), transport) as view:
        mark = view.mark()
        view.dom0("inject", nic(0), 0, COMPLETER_ABORT)
        view.wait(mark, "domain.destroy", "gone")
        assert view.wait(mark, "domain.shutdown", "gone")["reason"] == 3
        view.dom0("inject", nic(1), 0, COMPLETER_ABORT)
        view.wait(mark, "kill.step", "kept", step="remove_nodes")
        status = view.status("kept")
        assert status is not None
        assert status["state"][3:5] == "sc"
        assert nic(1)[5:] in view.xl_good("pci-assignable-list")
