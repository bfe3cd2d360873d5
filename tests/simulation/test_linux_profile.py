"""The profile ``linux`` where no recording shows it: kill policies, and the timing defects of xen-pci.md 7.3.

Each defect is switched off by itself beside it: then the same interleaving ends another way.
"""

from __future__ import annotations

from typing import Any

import pytest

from protocol.sharedinfo import PCIB_AERHANDLER
from protocol.topology import HostSpec
from tests.simulation.kit import BUDGET_MS, COMP_ABORT, MALF_TLP, Rig, endpoint, guest, host, one_port, root_port

A, B = "01:00.0", "02:00.0"
LONG_MS = 420_000.0  # a handler that sleeps longer than a phase lasts
MUTE = "pcifront aer process not responding!"
OOPS = "BUG: unable to handle page fault: the page of guest 1 is not mapped"


def linux(*switched: str, spec: dict[str, Any] | None = None, driver: str = "aerprobe", **options: Any) -> Rig:
    """One guest with one function; ``switched`` are defects that are off."""
    options_of_host: dict[str, Any] = {"profile": "linux", "defects": list(switched), "hardware": "qemu-11.1"}
    return Rig(one_port(guest("g1", A, driver=driver, spec=spec or {"policy": "ignore"}, **options), **options_of_host))


def texts(rig: Rig, *parts: str) -> list[str]:
    """Parts of dom0's log that occur, in order."""
    return [part for line in rig.log() for part in parts if part in line]


# -- the policy of the stub is one setting ---------------------------------------------------------
def failed(policy: str) -> Rig:
    return linux(spec={"policy": policy}, ed_frozen=4).inject(A, MALF_TLP)


def test_ignore_the_guest_lives_on_with_a_broken_device_as_on_todays_xl() -> None:
    rig = failed("ignore").settle()
    assert (rig.verdicts(), rig.alive("g1"), len(rig.aerfail)) == (["failed"], True, 1)
    assert (rig.registers(A)["BAR0"], rig.registers(A)["Command"]) == (0, 0)


def test_destroy_the_guest_goes_once_nobody_waits_for_it_any_more() -> None:
    """Dom0's last question to the dead guest runs to its end, and libxl's reset behind it (KILL-4.4, finding 18)."""
    rig = failed("destroy").settle()
    assert "c" in rig.xl("list", "g1")[1].splitlines()[1].split()[4]
    assert not rig.verdicts()
    rig.settle(BUDGET_MS)
    assert (rig.verdicts(), rig.alive("g1"), rig.clean(A)) == (["failed"], False, True)


def test_poweroff_the_guest_is_asked_first() -> None:
    rig = failed("poweroff").settle(BUDGET_MS + 60_000)
    assert (rig.verdicts(), rig.alive("g1")) == (["failed"], False)
    assert any("shutdown request: poweroff" in line for line in rig.log("g1"))


def test_preserve_the_guest_stays_paused_without_its_device() -> None:
    rig = failed("preserve").settle(BUDGET_MS + 60_000)
    assert "--p---" in rig.xl("list", "g1")[1]
    assert rig.xl("pci-list", "g1")[1] == ""
    assert rig.clean(A)


def test_a_device_that_was_reset_while_nobody_had_it_is_mute_for_its_next_guest() -> None:
    """Finding 5: xl's own reset saves and restores the dead state.

    The guest's kernel brings the base addresses back when it sizes them (6.4), Device Control nobody does.
    """
    rig = linux(spec={"policy": "ignore", "autostart": False}).inject(A, MALF_TLP).settle()
    assert rig.verdicts() == ["successful"]
    assert rig.xl("create", "g1")[0] == 0
    rig.settle(1_000)
    assert rig.registers(A)["DEVCTL"] == 0
    before = len(rig.verdicts())
    rig.inject(A, MALF_TLP).settle()
    assert len(rig.verdicts()) == before


# -- D2: a disconnect under a waiting recovery -------------------------------------------------------
def destroyed_while_asked(*switched: str) -> Rig:
    """The guest's process ends in its handler; the toolstack takes its nodes away while dom0 still waits (I11)."""
    rig = linux(*switched, spec={"policy": "ignore"}, driver="scripted", fail={"error_detected": "exit"})
    return rig.inject(A, COMP_ABORT).settle(5 * BUDGET_MS)


def test_d2_i11_dom0_waits_to_the_end_and_then_touches_a_page_that_is_not_there() -> None:
    rig = destroyed_while_asked()
    found = texts(rig, "aer_op 6", "aer_op 8", "aer_op 7", MUTE, "frontend is gone", OOPS, "recovery successful")
    assert found == ["aer_op 6", MUTE, "aer_op 8", MUTE, "aer_op 7", "frontend is gone", OOPS]
    assert [str(task) for task in rig.system.dom0.kernel.tasks if "it has died" in str(task)]


def test_d2_what_the_dead_thread_has_locked_stays_locked() -> None:
    """The put back waits for ever, and with it all of xenbus (BUS-4)."""
    tasks = [str(task) for task in destroyed_while_asked().system.dom0.kernel.tasks]
    assert any("xenwatch waiting for device_lock of 0000:01:00.0" in task for task in tasks)


def test_without_d2_the_death_of_the_guest_ends_the_wait_at_once() -> None:
    """No page is no vote in this profile (3.1), so that the recovery ends well all the same."""
    rig = destroyed_while_asked("D2")
    assert not texts(rig, MUTE, OOPS)
    assert rig.verdicts() == ["successful"]
    assert rig.records("recovery.end")[0]["t"] - rig.records("recovery.begin")[0]["t"] < 5


# -- D4 and D10: an answer that comes too late --------------------------------------------------------
def late(*switched: str) -> Rig:
    """error_detected answers after 420 s, in the middle of the next phase; that one is answered at once."""
    return linux(*switched, ed_ms=LONG_MS).inject(A, COMP_ABORT).settle(460_000)


def test_d10_i9_a_late_answer_acknowledges_the_next_phase() -> None:
    rig = late()
    assert [(e["phase"], e["situation"]) for e in rig.records("pciback.answer")][:2] == [
        ("error_detected", "timeout"), ("mmio_enabled", "answer-valid"),
    ]  # fmt: skip
    assert rig.callbacks()[:1] == ["ED(1) 2"]  # the guest has never seen mmio_enabled
    assert "MM 5" not in rig.callbacks()


def resume_too_late(*switched: str) -> Rig:
    """The last answer of a recovery comes when nobody waits for it any more (I10)."""
    rig = linux(*switched, rs_ms=BUDGET_MS + 10_000).inject(A, COMP_ABORT).settle(BUDGET_MS + 20_000)
    assert texts(rig, MUTE) == [MUTE]
    return rig


def config_read(rig: Rig) -> int:
    """The guest reads its device's ids; all ones if pciback does not answer within its time."""
    parts = rig.system.parts
    found: list[int] = []
    device = next(iter(guest_of(rig).bus.devices.values()))

    async def read() -> None:
        found.append(await device.read_config(0, 4))

    guest_of(rig).kernel.spawn(read(), "read")
    parts.world.run_until(lambda: bool(found), parts.world.now() + int(1e10))
    return found[0]


def guest_of(rig: Rig) -> Any:
    """The guest's kernel and bus."""
    runner: Any = rig.system.supervisors[0].runner
    return next(iter(runner._guests.values())).domu


def test_d4_i10_the_late_answer_is_never_acknowledged_and_config_operations_time_out() -> None:
    rig = resume_too_late()
    worker = rig.system.dom0.pciback.guests[1].worker
    assert worker is not None
    events = worker.events
    assert (events.op_pending, events.eoi_pending) == (True, True)
    assert config_read(rig) == 0xFFFFFFFF
    assert any("pciback not responding!!!" in line for line in rig.log("g1"))


def test_d4_the_next_aer_request_opens_the_channel_again() -> None:
    rig = resume_too_late()
    rig.inject(A, COMP_ABORT).settle(1_000)
    assert "MM 5" in rig.callbacks()[2:]


def test_without_d4_the_guest_goes_on() -> None:
    rig = resume_too_late("D4")
    assert config_read(rig) != 0xFFFFFFFF


# -- what a real pciback looks at each time -------------------------------------------------------------
def test_i26_the_aer_flag_is_read_at_every_question() -> None:
    rig = linux(mm_ms=1_000.0).inject(A, COMP_ABORT).settle(500)
    channel = guest_of(rig).pcifront.ops.channel
    channel.page.clear_bit(PCIB_AERHANDLER)
    channel.flush()
    rig.settle()
    assert texts(rig, "should have been killed", "recovery successful") == [
        "should have been killed",
        "recovery successful",
    ]
    assert len(rig.aerfail) == 1  # in resume


def test_d22_i13_a_guest_that_is_giving_its_device_back_is_asked_and_says_none() -> None:
    rig = linux()
    rig.start_xl("pci-detach", "g1", A)
    while not any("PCI device 0000:00:00.0 removed" in line for line in rig.log("g1")):
        rig.settle(0.02)
    rig.inject(A, COMP_ABORT).settle()
    assert [(e["phase"], e["answer"]) for e in rig.records("pciback.answer")][:1] == [("error_detected", 1)]
    assert rig.aerfail


# -- D5: seizing a device loses a sleeper -----------------------------------------------------------
def two_ports(*switched: str) -> HostSpec:
    """A guest with 01:00.0; 02:00.0 is no guest's."""
    functions = [root_port("00:04.0", 1), endpoint(A, "00:04.0"), root_port("00:05.0", 2), endpoint(B, "00:05.0")]
    guests = [guest("g1", A, driver="aerprobe", spec={"policy": "ignore"}, ed_ms=2_000.0)]
    return host(functions, guests, profile="linux", defects=list(switched))


def seized_while_asked(*switched: str) -> Rig:
    rig = Rig(two_ports(*switched)).inject(A, COMP_ABORT).settle(1_000)
    assert rig.xl("pci-assignable-remove", B)[0] == 0
    assert rig.xl("pci-assignable-add", B)[0] == 0
    return rig.settle(10_000)


def test_d5_i25_the_answer_is_seen_only_when_the_time_is_over() -> None:
    rig = seized_while_asked()
    assert rig.callbacks() == ["ED(1) 2"]
    rig.settle(BUDGET_MS)
    assert rig.callbacks() == ["ED(1) 2", "MM 5", "RS"]
    assert (rig.verdicts(), texts(rig, MUTE)) == (["successful"], [])


def test_without_d5_nothing_happens() -> None:
    assert seized_while_asked("D5").callbacks() == ["ED(1) 2", "MM 5", "RS"]


# -- D9: one word for the request and the answer ------------------------------------------------------
@pytest.mark.parametrize(("switched", "counted"), [((), 0), (("D9",), 1)])
def test_d9_an_answer_that_equals_its_request_is_taken_and_not_counted(switched: tuple[str, ...], counted: int) -> None:
    rig = linux(*switched, ed=1).inject(A, COMP_ABORT).settle()
    assert len(rig.aerfail) >= 1
    statistics = rig.system.ctl("dom0", "channel-stats", [1])
    assert statistics["aer_reply_equals_request"] == counted
