"""Script files: every mistake is named; steps do what they say and judge by what they find."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.xenaer.fakes import FakeSystem
from xenaer.boot import data_dir
from xenaer.campaign.file import load_script
from xenaer.campaign.steps.judge import config_state, describe, list_state
from xenaer.campaign.steps.play import Runner
from xenaer.campaign.steps.script import Script, ScriptError
from xenaer.control import ControlError
from xenaer.yaml_lines import InputError

LETTER = data_dir("hosts") / "letter.yaml"
HEAD = f"name: x\nhost: {LETTER}\nsteps:\n"
NIC0, NIC1 = "0000:01:00.0", "0000:02:00.0"

# label, steps from line 4 on, line, field, words that the message must have
MISTAKES = [
    ("unknown action", "  - injekt: {device: nic0}\n", 4, "steps[0].injekt", ["'inject'"]),
    ("two actions", "  - {sleep: {ms: 1}, touch: {device: nic0}}\n", 4, "steps[0]", ["exactly one of", "touch, sleep"]),
    ("no action", "  - name: a\n", 4, "steps[0]", ["has none"]),
    ("unknown key", "  - touch: {devize: nic0}\n", 4, "steps[0].touch.devize", ["'device'", "allowed: device,"]),
    ("missing key", "  - attach: {guest: fresh}\n", 4, "steps[0].attach", ["'device' is missing"]),
    ("unknown device", "  - touch: {device: nic9}\n", 4, "steps[0].touch.device", ["'nic9'", "allowed: nic0, nic1"]),
    ("not an address", "  - touch: {device: '01:00'}\n", 4, "steps[0].touch.device", ["BB:DD.F"]),
    ("unknown guest", "  - pause: {guest: goood}\n", 4, "steps[0].pause.guest", ["'good'"]),
    ("unknown guest in wait", "  - wait: {connected: nobody}\n", 4, "steps[0].wait.connected", ["allowed: good, bad"]),
    ("nothing to wait for", "  - wait: {within_s: 1}\n", 4, "steps[0].wait", ["for, connected, gone"]),
    ("unknown error", "  - inject: {device: nic0, errors: [BOGUS]}\n", 4, "steps[0].inject.errors", ["BOGUS", "UNSUP"]),
    ("no error", "  - inject: {device: nic0, errors: []}\n", 4, "steps[0].inject.errors", ["at least 1"]),
    ("short header", "  - inject: {device: nic0, errors: [DLP], header: [1]}\n", 4,
     "steps[0].inject.header", ["at least 4"]),
    ("unknown label", "  - wait: {for: {label: aer.eror}}\n", 4, "steps[0].wait.for.label", ["'aer.error'"]),
    ("bad expression", "  - expect: {log: {line: '('}}\n", 4, "steps[0].expect.log.line", ["regular expression"]),
    ("missing file", "  - aer-inject: {file: nix.aer}\n", 4, "steps[0].aer-inject.file", ["no such file", "nix.aer"]),
    ("bad outcome", "  - expect: {verdict: {device: nic0, outcome: fine}}\n", 4,
     "steps[0].expect.verdict.outcome", ["recovered"]),
    ("no steps", "  []\n", 3, "steps", ["at least 1"]),
]  # fmt: skip


def write(tmp_path: Path, steps: str, head: str = HEAD) -> Path:
    path = tmp_path / "script.yaml"
    path.write_text(head + steps)
    return path


@pytest.mark.parametrize(("steps", "line", "where", "words"), [m[1:] for m in MISTAKES], ids=[m[0] for m in MISTAKES])
def test_mistake_is_named(tmp_path: Path, steps: str, line: int, where: str, words: list[str]) -> None:
    path = write(tmp_path, steps)
    with pytest.raises(ScriptError) as caught:
        load_script(path)
    begin = re.compile(rf"{re.escape(str(path))}:{line}:\d+: {re.escape(where)}: ")
    found = caught.value.problems
    assert any(begin.match(item) and all(word in item for word in words) for item in found), found


def test_a_script_needs_a_host(tmp_path: Path) -> None:
    path = write(tmp_path, "  - sleep: {ms: 1}\n", "name: x\nsteps:\n")
    with pytest.raises(InputError, match="--host"):
        load_script(path)
    assert load_script(path, LETTER).host.name == "letter"


def test_mistakes_of_the_host_are_reported(tmp_path: Path) -> None:
    path = write(tmp_path, "  - sleep: {ms: 1}\n", "name: x\nhost: nix.yaml\nsteps:\n")
    with pytest.raises(ScriptError, match=r"nix\.yaml: no such file"):
        load_script(path)


def test_the_campaign_of_the_letter() -> None:
    """Seven steps of the letter: workload, error, recovery; error, kill, reset; attach, workload, recovery."""
    script = load_script(data_dir("campaigns") / "2008-letter.yaml")
    actions = [step.action for step in script.steps if step.action not in ("wait", "expect")]
    assert actions == [
        "workload", "touch", "workload", "touch", "workload", "attach", "workload", "touch", "workload"
    ]  # fmt: skip


# -- running ---------------------------------------------------------------------------------------
def clean_config() -> bytearray:
    """Configuration space with an Express capability at 0x40 and AER at 0x100, nothing recorded."""
    data = bytearray(4096)
    data[0x34], data[0x40], data[0x41] = 0x40, 0x10, 0
    data[0x100:0x104] = (0x0001 | 2 << 16).to_bytes(4, "little")
    return data


class Machine:
    """What the fake system answers; tests change it."""

    def __init__(self) -> None:
        self.config = clean_config()
        self.drivers = {"0000:00:00.0": "xnic"}
        self.states = {"good": 4, "bad": 4, "fresh": 0}
        self.letters = {"good": "-b----", "bad": "-b----", "fresh": "-b----"}
        self.devices: dict[str, list[dict[str, str]]] = {}
        self.verified = 16
        self.xl_status = 0

    def __call__(self, target: str, verb: str, args: list[Any]) -> Any:
        if verb == "xl":
            return self.xl(args)
        if target == "hypervisor":
            devices = self.devices
            found = [
                {"name": name, "be": s, "fe": s, "devices": devices.get(name, [])} for name, s in self.states.items()
            ]
            return {"domains": found}
        return {"config": bytes(self.config), "status": self.drivers, "workload": {"nic": self.verified}}.get(verb)

    def xl(self, argv: list[Any]) -> tuple[int, str, str]:
        if argv[0] == "list":
            letters = self.letters.get(argv[1])
            row = f"{argv[1]:<40} {7:5} {64:5} {1:5}     {letters}  {0.1:8.1f}\n"
            return (0, "Name ID Mem\n" + row, "") if letters else (1, "", "invalid domain identifier\n")
        return self.xl_status, "", "no such thing\n" if self.xl_status else ""


def play(tmp_path: Path, steps: str, prepare: Callable[[FakeSystem, Machine], None] | None = None) -> Runner:
    machine = Machine()
    system = FakeSystem(machine)
    if prepare is not None:
        prepare(system, machine)
    runner = Runner(system, load_script(write(tmp_path, steps)))
    runner.run()
    return runner


def outcome(runner: Runner) -> list[tuple[bool, str]]:
    return [(result.good, result.text) for result in runner.results]


def asked(runner: Runner) -> list[tuple[str, str, list[Any]]]:
    assert isinstance(runner.system, FakeSystem)
    return runner.system.asked


@pytest.mark.parametrize(
    ("step", "expected"),
    [
        ("touch: {device: nic0, function: 1}", ("dom0", "touch", ["0000:01:00.1"])),
        ("touch: {device: '00:1f.7'}", ("dom0", "touch", ["0000:00:1f.7"])),
        ("inject: {device: nic1, errors: [UNSUP, RxErr]}", ("dom0", "inject", [NIC1, 1, 1 << 20, [0, 0, 0, 0]])),
        ("inject: {device: nic1, errors: [DLP], header: [1, 2, 3, 4]}",
         ("dom0", "inject", [NIC1, 0, 16, [1, 2, 3, 4]])),
        ("aer-inject: {text: 'AER BUS 1 DEV 0 FN 0 COR RCVR'}",
         ("dom0", "aer-inject", ["AER BUS 1 DEV 0 FN 0 COR RCVR", "<text>"])),
        ("attach: {guest: fresh, device: nic1}", ("hypervisor", "xl", ["pci-attach", "fresh", NIC1])),
        ("detach: {guest: fresh, device: '2:0.0'}", ("hypervisor", "xl", ["pci-detach", "fresh", NIC1])),
        ("create: {guest: bad}", ("hypervisor", "xl", ["create", "bad"])),
        ("destroy: {guest: bad}", ("hypervisor", "xl", ["destroy", "bad"])),
        ("kill: {guest: bad}", ("hypervisor", "xl", ["destroy", "-f", "bad"])),
        ("shutdown: {guest: bad}", ("hypervisor", "xl", ["shutdown", "bad"])),
        ("reboot: {guest: bad}", ("hypervisor", "xl", ["reboot", "bad"])),
        ("pause: {guest: bad}", ("hypervisor", "xl", ["pause", "bad"])),
        ("unpause: {guest: bad}", ("hypervisor", "xl", ["unpause", "bad"])),
        ("stop: {guest: good}", ("hypervisor", "stop-guest", ["good"])),
        ("workload: {guest: good, count: 16}", ("good", "workload", [-1, 16])),
    ],
)  # fmt: skip
def test_action_asks_the_right_party(tmp_path: Path, step: str, expected: tuple[str, str, list[Any]]) -> None:
    runner = play(tmp_path, f"  - {step}\n")
    assert asked(runner) == [expected]
    assert runner.results[0].good


def test_file_of_aer_inject(tmp_path: Path) -> None:
    (tmp_path / "one.aer").write_text("AER\nCOR RCVR\n")
    runner = play(tmp_path, "  - aer-inject: {file: one.aer}\n")
    assert asked(runner) == [("dom0", "aer-inject", ["AER\nCOR RCVR\n", "one.aer"])]


def test_workload_of_one_device(tmp_path: Path) -> None:
    def prepare(system: FakeSystem, machine: Machine) -> None:
        machine.devices["good"] = [{"bdf": NIC0, "vdev": "0000:00:01.0"}]

    runner = play(tmp_path, "  - workload: {guest: good, count: 16, device: nic0}\n", prepare)
    assert asked(runner)[-1] == ("good", "workload", [8, 16])


def test_lost_data_fails_and_ends_the_script(tmp_path: Path) -> None:
    def prepare(system: FakeSystem, machine: Machine) -> None:
        machine.verified = 15

    runner = play(tmp_path, "  - workload: {guest: good, count: 16}\n  - sleep: {ms: 1}\n", prepare)
    assert outcome(runner) == [(False, "nic: 15 of 16 verified")]


def test_refused_action_ends_the_script(tmp_path: Path) -> None:
    def prepare(system: FakeSystem, machine: Machine) -> None:
        machine.xl_status = 1

    runner = play(tmp_path, "  - create: {guest: bad}\n  - sleep: {ms: 1}\n", prepare)
    assert outcome(runner) == [(False, "no such thing")]


def test_an_error_of_the_system_is_a_failed_step(tmp_path: Path) -> None:
    def refuse(target: str, verb: str, args: list[Any]) -> Any:
        raise ControlError("dom0 is not running")

    runner = Runner(FakeSystem(refuse), load_script(write(tmp_path, "  - touch: {device: nic0}\n")))
    assert not runner.run()
    assert outcome(runner) == [(False, "dom0 is not running")]


def ask_later(system: FakeSystem, machine: Machine) -> None:
    """After the touch, pciback asks in 200 ms."""
    system.add(0, "dom0", "pciback.ask", NIC0, phase="resume", state=1)  # an old one

    def on_ctl(target: str, verb: str, args: list[Any]) -> None:
        if verb == "touch":
            system.add(0.2, "dom0", "pciback.ask", NIC0, phase="error_detected", state=1)

    system.on_ctl = on_ctl


def test_wait_sees_only_what_came_since_the_action(tmp_path: Path) -> None:
    runner = play(
        tmp_path, "  - touch: {device: nic0}\n  - wait: {for: {label: pciback.ask, subject: nic0}}\n", ask_later
    )
    assert outcome(runner)[1] == (True, f"pciback.ask {NIC0} phase=error_detected state=1")
    assert runner.results[1].end_s - runner.results[1].begin_s == pytest.approx(0.2, abs=0.02)


def test_wait_that_ends_without_result_fails_the_script(tmp_path: Path) -> None:
    steps = "  - wait: {for: {label: aer.error, fields: {severity: FATAL}}, within_s: 2}\n  - sleep: {ms: 1}\n"
    runner = play(tmp_path, steps)
    assert outcome(runner) == [(False, "record aer.error severity=FATAL: not within 2 s")]
    assert runner.results[0].end_s == pytest.approx(2, abs=0.02)


def test_connected_needs_both_ends_and_a_driver(tmp_path: Path) -> None:
    steps = "  - wait: {connected: %s, within_s: 1}\n"
    assert outcome(play(tmp_path, steps % "good")) == [(True, "good: xnic")]
    assert not outcome(play(tmp_path, steps % "fresh"))[0][0]

    def prepare(system: FakeSystem, machine: Machine) -> None:
        machine.drivers = {"0000:00:00.0": ""}

    assert not outcome(play(tmp_path, steps % "good", prepare))[0][0]


def test_gone(tmp_path: Path) -> None:
    def prepare(system: FakeSystem, machine: Machine) -> None:
        del machine.letters["bad"]

    assert outcome(play(tmp_path, "  - wait: {gone: bad}\n", prepare)) == [(True, "bad gone")]
    assert not outcome(play(tmp_path, "  - wait: {gone: bad, within_s: 1}\n"))[0][0]


def two_lines(system: FakeSystem, machine: Machine) -> None:
    """Two lines of dom0's log, a failed and a good recovery."""
    for number in range(2):
        system.add(0, "dom0", "printk", "", level=6, text=f"line {number}")
    system.add(0, "dom0", "recovery.end", "0000:00:1c.0", result="DISCONNECT", verdict="failed")
    system.add(0, "dom0", "recovery.end", NIC1, result="RECOVERED", verdict="successful")


EXPECTATIONS = [
    ("record: {label: printk, fields: {level: 6}}", True, "line 1"),
    ("record: {label: printk}, count: 2", True, "line 1"),
    ("record: {label: printk}, count: 3", False, "2 instead of 3"),
    ("record: {label: 'aer.*'}", False, "0 instead of one or more: aer.*"),
    ("absent: {label: aer.error}", True, "no aer.error"),
    ("absent: {label: printk}", False, "there is printk"),
    ("log: {line: 'line [0-9]'}, count: 2", True, "line 1"),
    ("log: {line: 'line 7'}", False, "0 instead of one or more: line /line 7/ of dom0"),
    ("log: {line: line, party: good}", False, "of good"),
    ("guest: {guest: good, state: running}", True, "good is running"),
    ("guest: {guest: good, state: paused}", False, "good is running"),
    ("device: {device: nic0, state: clean}", True, "is clean"),
    ("device: {device: nic0, state: absent}", False, "is clean"),
    ("verdict: {device: nic1, outcome: recovered}", True, "recovered"),
    ("verdict: {device: nic0, outcome: failed}", True, "failed"),
    ("verdict: {device: nic0, outcome: recovered}", False, "failed"),
]


@pytest.mark.parametrize(("text", "good", "words"), EXPECTATIONS, ids=[item[0] for item in EXPECTATIONS])
def test_expectation(tmp_path: Path, text: str, good: bool, words: str) -> None:
    runner = play(tmp_path, f"  - expect: {{{text}, since: start, within_s: 1}}\n", two_lines)
    assert runner.results[0].good is good
    assert words in runner.results[0].text


def test_failed_expectation_lets_the_script_go_on(tmp_path: Path) -> None:
    runner = play(tmp_path, "  - expect: {record: {label: aer.irq}, within_s: 1}\n  - sleep: {ms: 500}\n")
    assert [result.good for result in runner.results] == [False, True]
    assert "FAIL" in runner.results[0].line()


def test_outcome_of_the_hardened_recovery_counts(tmp_path: Path) -> None:
    """H14: each function has an outcome of its own, whatever the end of the whole recovery says."""

    def prepare(system: FakeSystem, machine: Machine) -> None:
        system.add(0, "dom0", "recovery.outcome", NIC0, outcome="killed")
        system.add(0, "dom0", "recovery.end", NIC0, result="RECOVERED", verdict="successful")

    steps = "  - expect: {verdict: {device: nic0, outcome: killed}, since: start}\n"
    assert outcome(play(tmp_path, steps, prepare))[0][0]


# -- judging ---------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("offset", "value", "state", "text"),
    [
        (0x4A, 0x08, "dirty", "DEVSTA 0x8"),
        (0x4A, 0x20, "clean", ""),  # transactions pending: no error
        (0x106, 0x10, "dirty", "UNCOR_STATUS 0x100000"),
        (0x110, 0x01, "dirty", "COR_STATUS 0x1"),
    ],
)
def test_error_bits_make_a_device_dirty(offset: int, value: int, state: str, text: str) -> None:
    data = clean_config()
    data[offset] = value
    assert config_state(bytes(data)) == (state, text)


def test_absent_device_reads_all_ones() -> None:
    assert config_state(b"\xff" * 4096)[0] == "absent"


def test_capability_lists_that_go_round_end() -> None:
    data = clean_config()
    data[0x40], data[0x41] = 0x99, 0x40
    data[0x100:0x104] = (0x1234 | 0x100 << 20).to_bytes(4, "little")
    assert config_state(bytes(data)) == ("clean", "")


@pytest.mark.parametrize(
    ("letters", "state"),
    [
        ("r-----", "running"),
        ("-b----", "running"),
        ("--p---", "paused"),
        ("---sc-", "shutdown"),
        ("-----d", "shutdown"),
    ],
)
def test_states_of_xl_list(letters: str, state: str) -> None:
    """xen-pci.md 9.3."""
    assert list_state(f"Name ID\ng1   7  64  1  {letters}  0.1\n", "g1") == state
    assert list_state("Name ID\n", "g1") == "absent"


def test_every_step_has_a_name() -> None:
    script: Script = load_script(data_dir("campaigns") / "2008-letter.yaml")
    step = script.steps[2].model_copy(update={"name": None})
    assert describe(step) == "touch nic0 1"
