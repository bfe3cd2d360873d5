"""program, program_talk, program_verbs, program_process: the wire, with real child processes on the other end."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from domu_pcifront.driver import ProbeError, WorkloadError, call_handler, check_options
from domu_pcifront.program_verbs import VERBS, serve, usage
from domu_pcifront.program_wire import ProgramError
from kernel_stub.kernel import MS
from protocol.ers import ChannelState, Phase
from protocol.limits import PROGRAM_DMA, PROGRAM_LINE
from tests.domu_pcifront.drivers.programs import Bench, held, script
from tests.tidy.sources import ROOT

pytestmark = pytest.mark.processes

MANUAL = (ROOT / "docs" / "DRIVERS.md").read_text()


@pytest.fixture(name="bench")
def fixture_bench(tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(tmp_path)
    yield bench
    bench.close()


def call(bench: Bench, driver: Any, phase: Phase, *args: Any) -> int:
    return int(bench.world.do(call_handler(driver, phase, *args)))


def said(bench: Bench, request: str) -> str:
    """What a program is answered to a request."""
    driver = bench.bound(f'read -r call; echo "{request}"; read -r answer; echo "FAIL $answer"')
    with pytest.raises(WorkloadError) as caught:
        bench.world.do(driver.transfer(1))
    return str(caught.value)


# -- greeting ----------------------------------------------------------------------------------------
def test_the_greeting_names_version_device_and_options(bench: Bench) -> None:
    keys = {"lanes": 4, "fast": True, "ratio": 0.5, "text": "two words, 100%"}
    bench.script('read -r hello; echo "$hello" >got; echo "OK name=x"; read -r probe; echo OK', **keys)
    given = "lanes=4 fast=true ratio=0.5 text=two%20words,%20100%25"
    assert (bench.folder / "got").read_text() == f"hello 1 device=0000:00:00.0 {given}\n"


def test_the_answer_names_the_driver_and_its_handlers(bench: Bench) -> None:
    driver = bench.bound("cat >/dev/null")
    assert driver.name == "mine"
    assert [phase.value for phase in Phase if driver.handler(phase)] == ["error_detected", "slot_reset", "resume"]
    assert bench.world.labels("driver.probe") == [("mine",)]


def test_a_program_without_handlers_has_none(bench: Bench) -> None:
    driver = bench.script("read -r hello; echo 'OK name=x'; read -r probe; echo OK; cat >/dev/null")
    assert not driver.has_error_handlers


@pytest.mark.parametrize(
    "answer", ["OK", "OK name=x handlers=error_detcted", "OK name=x/y", "OK name=x colour=blue", "OK x", "maybe"]
)
def test_another_answer_to_the_greeting_is_told_with_what_is_allowed(bench: Bench, answer: str) -> None:
    with pytest.raises(ProbeError, match=r"./driver.sh, called with 'hello 1 .*wrote.*; allowed: OK") as caught:
        bench.script(f"read -r hello; echo '{answer}'; cat >/dev/null")
    assert answer in str(caught.value)
    assert bench.rig.machine.programs[0].pid == 0, "it is gone"


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"a": [1]}, r"option a: \[1\] is not a text, a number, true or false"),
        ({"a": None}, "option a: None is not"),
        ({"a b": 1}, "option 'a b' cannot be given"),
        ({"device": 1}, "option 'device' cannot be given"),
        ({"a": "x" * PROGRAM_LINE}, "longer than a line may be"),
    ],
)
def test_options_that_fit_no_line_are_told_beforehand(tmp_path: Path, options: dict[str, Any], text: str) -> None:
    script(tmp_path, "")
    (problem,) = check_options("program:./driver.sh", options, str(tmp_path))
    with pytest.raises(AssertionError, match=text):
        raise AssertionError(problem)


@pytest.mark.parametrize(
    ("command", "text"),
    [
        ("./nothing", "there is no file"),
        ("./plain.txt", "is not executable"),
        (".", r"program:\.'.* on PATH"),
        ("no-such-program-at-all", "there is no program 'no-such-program-at-all' on PATH"),
        ("", "names no program"),
        ("'oh", "no closing quotation"),
    ],
)
def test_a_program_that_cannot_be_started_is_told_beforehand(tmp_path: Path, command: str, text: str) -> None:
    (tmp_path / "plain.txt").write_text("")
    (problem,) = check_options(f"program:{command}", {}, str(tmp_path))
    with pytest.raises(AssertionError, match=text):
        raise AssertionError(problem)
    assert "allowed: program:./FILE" in problem


def test_words_of_a_command_are_split_as_a_shell_does(bench: Bench) -> None:
    (bench.folder / "my dir").mkdir()
    script(bench.folder / "my dir", 'printf "%s|" "$@" >got; read -r h; echo "OK name=x"; read -r p; echo OK')
    bench.bind("'./my dir/driver.sh' --flag 'two words' 3")
    assert (bench.folder / "got").read_text() == "--flag|two words|3|", "it runs in the folder of the file"


def test_what_the_kernel_cannot_run_does_not_probe(bench: Bench) -> None:
    (bench.folder / "driver.sh").write_text("#!/no/such/interpreter\n")
    (bench.folder / "driver.sh").chmod(0o755)
    with pytest.raises(ProbeError, match=r"./driver.sh cannot be started: no such file or directory"):
        bench.bind("./driver.sh")


# -- calls -------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("answer", "vote"),
    [("NEED_RESET", 3), ("3", 3), ("0x5", 5), ("99", 99), ("-7", -7), ("0", 0), (str(1 << 40), 0)],
)
def test_a_vote_is_a_name_or_any_number(bench: Bench, answer: str, vote: int) -> None:
    driver = bench.bound(f'read -r call; echo "$call" >got; echo "OK {answer}"')
    assert call(bench, driver, Phase.ERROR_DETECTED, ChannelState.FROZEN) == vote
    assert (bench.folder / "got").read_text() == "error_detected frozen 2\n"


@pytest.mark.parametrize("answer", ["OK", "OK maybe", "OK 3 3", "OK need_reset"])
def test_a_word_that_is_no_vote_is_told(bench: Bench, answer: str) -> None:
    driver = bench.bound(f"read -r call; echo '{answer}'; cat >/dev/null")
    with pytest.raises(
        ProgramError, match=f"called with 'slot_reset', wrote '{answer}'; allowed: OK VOTE, a number or"
    ):
        call(bench, driver, Phase.SLOT_RESET)


def test_fail_is_an_exception_of_the_call_and_the_program_lives_on(bench: Bench) -> None:
    driver = bench.bound("for n in 1 2 3; do read -r call; echo FAIL I cannot $call; done; read -r call; echo OK 1")
    with pytest.raises(ProgramError, match=r"^I cannot slot_reset$"):
        call(bench, driver, Phase.SLOT_RESET)
    with pytest.raises(ProgramError, match=r"^I cannot resume$"):
        call(bench, driver, Phase.RESUME)
    with pytest.raises(WorkloadError, match=r"^I cannot transfer 4$"):
        bench.world.do(driver.transfer(4))
    assert bench.world.do(driver.transfer(4)) == 1


def test_fail_in_probe_is_a_probe_error(bench: Bench) -> None:
    with pytest.raises(ProbeError, match=r"^wrong chip$"):
        bench.script("read -r hello; echo OK name=x; read -r probe; echo FAIL wrong chip; cat >/dev/null")


@pytest.mark.parametrize(("answer", "count"), [("OK 3", 3), ("OK 0x2", 2), ("OK", 0)])
def test_transfer_answers_how_many_were_verified(bench: Bench, answer: str, count: int) -> None:
    assert bench.world.do(bench.bound(f"read -r call; echo '{answer}'").transfer(3)) == count


@pytest.mark.parametrize("answer", ["OK 4", "OK -1", "OK many"])
def test_more_than_was_asked_is_told(bench: Bench, answer: str) -> None:
    with pytest.raises(WorkloadError, match="allowed: OK COUNT, from 0 to 3, or FAIL TEXT"):
        bench.world.do(bench.bound(f"read -r call; echo '{answer}'").transfer(3))


def test_remove_lets_the_program_end_by_itself(bench: Bench) -> None:
    driver = bench.bound("read -r call; echo OK; cat; echo bye >got")
    bench.world.do(driver.remove())
    assert (bench.folder / "got").read_text() == "bye\n"
    assert bench.rig.machine.programs[0].pid == 0
    assert bench.world.labels("driver.remove") == [("mine",)]


# -- requests ----------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("request_line", "answer"),
    [
        ("config_readl 0", "OK 0x10411af4"),
        ("config_readw 0x2", "OK 0x1041"),
        ("config_readb 0x34", "OK 0x40"),
        ("find_capability 5", "OK 0x60"),
        ("find_capability 1", "OK 0x0"),
        ("enable_device", "OK"),
        ("readl 0 0", "OK 0x"),
        ("readq 0 0x10", "OK 0x"),
        ("writel 0 4 0xffffffff", "OK"),
        ("dma_alloc 4096", "OK 0x1000"),
        ("dma_alloc 0x100000", "OK 0x1000"),
        ("dma_free 0x1000", "FAIL EINVAL: 0x1000 is not allocated"),
        ("dma_read 0x1000 4", "OK 00000000"),
        ("dma_read 0 4", "FAIL EFAULT: 0x0+0x4 is outside of 0x1000+0x100000"),
        ("dma_write 0 ff", "FAIL EFAULT"),
        ("enable_msi", "OK 55"),
        ("msi_active", "OK 0"),
        ("wait_msi 5.5", "OK 0"),
        ("msleep 0", "OK"),
        ("printk 6 a  b", "OK"),
        ("now", "OK "),
    ],
)
def test_the_guest_answers(bench: Bench, request_line: str, answer: str) -> None:
    assert said(bench, request_line).startswith(answer)


def test_no_memory_and_no_interrupts_are_refused(bench: Bench) -> None:
    bench.rig.memory.alloc(1 << 20)
    bench.rig.config.vector = -22
    assert said(bench, "dma_alloc 4096").startswith("FAIL ENOMEM: no 4096 bytes")
    assert said(bench, "enable_msi").startswith("FAIL EINVAL")
    bench.rig.config.present = False
    assert said(bench, "config_readl 0") == "OK 0xffffffff"


@pytest.mark.parametrize(
    ("request_line", "allowed"),
    [
        ("hello world", "'hello world'; allowed: OK, FAIL, config_readb, "),
        ("readl 0", "'readl 0'; allowed: readl BAR OFFSET$"),
        ("readl 0 2", "where OFFSET is '2'; allowed: a whole number from 0x0 to 0xfffffffc, a multiple of 4$"),
        ("readl six 0", "where BAR is 'six'; allowed: a whole number from 0x0 to 0x5$"),
        ("config_writeb 0 256", "where VALUE is '256'; allowed: a whole number from 0x0 to 0xff$"),
        ("dma_write 0x1000 abc", "where HEX is 'abc'; allowed: pairs of hex digits"),
        (f"dma_read 0x1000 {PROGRAM_DMA + 1}", "where LENGTH is"),
        ("msleep forever", "where MS is 'forever'; allowed: milliseconds from 0 to 3600000"),
        ("printk 8 x", "where LEVEL is '8'"),
        ("printk 6", "allowed: printk LEVEL TEXT$"),
        ("", "''; allowed: OK, FAIL, "),
    ],
)
def test_a_request_that_fits_no_row_is_told_with_what_is_allowed(bench: Bench, request_line: str, allowed: str) -> None:
    driver = bench.bound(f'read -r call; echo "{request_line}"; cat >/dev/null')
    with pytest.raises(WorkloadError, match=allowed) as caught:
        bench.world.do(driver.transfer(1))
    assert str(caught.value).startswith("./driver.sh, called with 'transfer 1', wrote ")
    assert bench.rig.machine.programs[0].pid == 0


def test_printk_is_a_line_of_the_guests_log(bench: Bench) -> None:
    said(bench, "printk 4 link  is down")
    assert "mine 0000:00:00.0: link  is down" in bench.world.log


def test_waiting_takes_virtual_time_and_thinking_none(bench: Bench) -> None:
    driver = bench.bound("read -r call; sleep 0.05; echo msleep 250; read -r answer; echo OK 1")
    before = bench.world.clock.time
    bench.world.do(driver.transfer(1))
    assert bench.world.clock.time - before == 250 * MS


TIMELESS = ("write", "dma_", "printk", "now")  # what the manual says takes no time
ARGUMENTS = {"BAR": "0", "OFFSET": "0", "VALUE": "0", "SIZE": "16", "ADDRESS": "0x1000", "LENGTH": "4", "HEX": "00",
             "LEVEL": "6", "TEXT": "text"}  # fmt: skip


@pytest.mark.parametrize("name", [name for name in VERBS if name.startswith(TIMELESS)])
def test_between_some_requests_and_their_answers_there_is_never_a_call(bench: Bench, name: str) -> None:
    line = " ".join([name, *(ARGUMENTS[arg.name] for arg in VERBS[name].args)])
    with pytest.raises(StopIteration):  # without having waited
        serve(bench.rig.dev, line).__await__().__next__()


@pytest.mark.parametrize("name", VERBS)
def test_the_manual_has_every_request_with_its_value(name: str) -> None:
    (row,) = [line for line in MANUAL.splitlines() if line.startswith("| ") and f"`{usage(name)}`" in line]
    assert row.split(" | ")[-1].removesuffix(" |").strip("| ") == VERBS[name].answer


def test_the_manual_says_the_bounds() -> None:
    assert f"at most {PROGRAM_LINE:,} bytes" in MANUAL
    assert MANUAL.count(f"up to {PROGRAM_DMA:,} bytes") == 2


# -- nesting -----------------------------------------------------------------------------------------
NESTED = """
read -r transfer; echo "wait_msi 20"
read -r line; echo "$line" >>got; echo "msleep 100"     # error_detected, in place of the answer
read -r line; echo "$line" >>got; echo "OK NEED_RESET"  # its own answer
read -r line; echo "$line" >>got; echo "OK 1"           # that of wait_msi, which was due 90 ms ago
"""


def test_a_call_in_place_of_an_answer_is_ended_first(bench: Bench) -> None:
    driver = bench.bound(NESTED)
    transfer = bench.world.kernel.spawn(driver.transfer(1), "transfer")
    bench.world.run(10)
    assert call(bench, driver, Phase.ERROR_DETECTED, ChannelState.FROZEN) == 3
    bench.world.run(1)
    assert transfer.result == 1
    assert (bench.folder / "got").read_text() == "error_detected frozen 2\nOK\nOK 0\n"


def test_a_transfer_waits_until_no_other_call_is_under_way(bench: Bench) -> None:
    driver = bench.bound(
        'read -r c; echo "$c" >>got; echo msleep 10; read -r a; echo "$a" >>got; echo OK 5\n'
        'read -r c; echo "$c" >>got; echo OK 2'
    )
    handler = bench.world.kernel.spawn(call_handler(driver, Phase.SLOT_RESET), "aer")
    bench.world.run(1)
    assert bench.world.do(driver.transfer(2)) == 2
    assert handler.result == 5
    assert (bench.folder / "got").read_text() == "slot_reset\nOK\ntransfer 2\n"


def test_who_breaks_the_rules_in_a_nested_call_fails_in_the_outer_one_too(bench: Bench) -> None:
    driver = bench.bound("read -r c; echo msleep 10; read -r c; echo nonsense; cat >/dev/null")
    transfer = bench.world.kernel.spawn(driver.workload(1), "transfer")
    bench.world.run(1)
    with pytest.raises(ProgramError, match="called with 'resume', wrote 'nonsense'"):
        call(bench, driver, Phase.RESUME)
    bench.world.run(20)
    assert "called with 'resume', wrote 'nonsense'" in str(transfer.error)


# -- programs that end, or say too much --------------------------------------------------------------
@pytest.mark.parametrize(
    ("body", "how"),
    [
        ("read -r call; exit 3", "ended with exit status 3"),
        ("read -r call; kill -SEGV $$", r"was killed by signal 11 \(Segmentation fault\)"),
        ("read -r call; printf 'OK 3'; exit 0", "ended with exit status 0"),
        ("exit 7", "ended with exit status 7"),
        ("sleep 1000 & exit 5", "ended with exit status 5"),
        ("exec 1>&-; exec sleep 1000", "has closed its standard output"),
    ],
)
def test_a_program_that_ends_is_an_exception_of_the_guests_driver(bench: Bench, body: str, how: str) -> None:
    driver = bench.bound(body)
    task = bench.world.kernel.spawn(call_handler(driver, Phase.SLOT_RESET), "aer")
    bench.world.run(1)
    assert isinstance(task.error, ProgramError)
    with pytest.raises(AssertionError, match=rf"^./driver.sh, called with 'slot_reset', {how}$"):
        raise AssertionError(str(task.error))
    assert "RIP: slot_reset (./driver.sh)" in bench.world.log
    with pytest.raises(ProgramError, match=how):
        call(bench, driver, Phase.RESUME)
    bench.world.do(driver.remove())


@pytest.mark.parametrize(
    "body", ["read -r call; exec cat /dev/zero", f"read -r c; head -c {PROGRAM_LINE + 1} /dev/zero; echo; exec cat"]
)
def test_a_line_without_end_ends_the_program(bench: Bench, body: str) -> None:
    driver = bench.bound(body)
    with pytest.raises(WorkloadError, match=f"wrote a line of more than {PROGRAM_LINE} bytes, .*; allowed: "):
        bench.world.do(driver.transfer(1))
    assert bench.rig.machine.programs[0].pid == 0


def test_the_longest_line_is_read(bench: Bench) -> None:
    driver = bench.bound(f"read -r c; printf 'FAIL '; head -c {PROGRAM_LINE - 5} /dev/zero | tr '\\0' x; echo")
    with pytest.raises(WorkloadError, match=r"^x+$"):
        bench.world.do(driver.transfer(1))


def test_bytes_that_are_no_text_are_shown(bench: Bench) -> None:
    driver = bench.bound(r"read -r call; printf '\377\033[2J\n'; cat >/dev/null")
    with pytest.raises(WorkloadError, match=r"wrote '\\\\xff\\x1b\[2J'; allowed"):
        bench.world.do(driver.transfer(1))


def test_a_program_takes_what_it_has_started_with_it(bench: Bench) -> None:
    driver = bench.bound("sleep 1000 & echo $! >got; read -r call; echo OK; exec sleep 1000")
    bench.world.do(driver.remove())
    pid = int((bench.folder / "got").read_text())
    assert not Path(f"/proc/{pid}").exists() or "Z" in Path(f"/proc/{pid}/stat").read_text().split()[2]


# -- nothing is left ---------------------------------------------------------------------------------
def test_hundreds_of_programs_leave_nothing(bench: Bench) -> None:
    script(bench.folder, "read -r hello; echo OK name=x; read -r probe; echo OK; read -r end")
    before = held()
    for _ in range(300):
        bench.bind("./driver.sh")
        bench.rig.machine.programs.pop().close()
    assert held() == before
