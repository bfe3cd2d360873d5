"""The command: what it asks of the system, what it prints, exit statuses, and one line for every mistake."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from protocol.journal_file import JournalFile
from tests.xenaer.fakes import FakeStub
from xenaer.boot import PACKAGE
from xenaer.cli import main
from xenaer.cli_base import StopError
from xenaer.cli_script import parse_options
from xenaer.control import ControlError

NIC0 = "0000:01:00.0"


def answer(target: str, verb: str, args: list[Any]) -> Any:
    if verb == "xl" and args[:1] == ["destroy"]:
        return [1, "", "nobody is an invalid domain identifier (rc=-6)\n"]
    if verb == "xl":
        return [0, f"xl got {' '.join(args)}\n", ""]
    if verb == "xenstore-ls":
        return f"tree of {args[0]}\n"
    if verb == "aer-inject" and "BOGUS" in args[0]:
        raise ControlError(f"{args[1]}:0: syntax error")
    return None


@pytest.fixture
def stub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeStub]:
    """A running system in a run directory, as far as the command can see."""
    fake = FakeStub(f"ipc://{tmp_path}/c", answer)
    journal = JournalFile(tmp_path / "journal" / "dom0.mpk")
    journal.append((1_500_000_000, "aer", "printk", "", 6, "AER: hello"))
    journal.append((1_600_000_000, "aer", "pciback.ask", NIC0, "resume", 1))
    journal.flush()
    files = [str(tmp_path / "journal" / "dom0.mpk")]
    system = {"address": fake.address, "pid": 1, "host": "one-nic", "journals": files}
    (tmp_path / "system.json").write_text(json.dumps(system))
    monkeypatch.setenv("XENAER_RUN", str(tmp_path))
    yield fake
    fake.close()


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (["touch", "1:0.1"], ("dom0", "touch", ["0000:01:00.1"])),
        (["inject", "01:00.0", "UNSUP"], ("dom0", "inject", [NIC0, 0, 1 << 20, [0, 0, 0, 0]])),
        (["inject", "01:00.0", "rxerr", "DLP", "--header", "1 0x2,3 4"],
         ("dom0", "inject", [NIC0, 1, 16, [1, 2, 3, 4]])),
        (["dpc-trigger", "0:1c.0"], ("dom0", "dpc-trigger", ["0000:00:1c.0"])),
        (["rp-pio", "00:1c.0", "0x10000", "--header", "1 2 3 4"],
         ("dom0", "rp-pio", ["0000:00:1c.0", 0x10000, [1, 2, 3, 4]])),
        (["xl", "list"], ("hypervisor", "xl", ["list"])),
        (["xl", "pci-attach", "g", "01:00.0,permissive=1"],
         ("hypervisor", "xl", ["pci-attach", "g", "01:00.0,permissive=1"])),
        (["xl", "pci-assignable-add", "-n", "x", "01:00.0"],
         ("hypervisor", "xl", ["pci-assignable-add", "-n", "x", "01:00.0"])),
        (["xl", "--help"], ("hypervisor", "xl", ["--help"])),
        (["xenstore-ls"], ("hypervisor", "xenstore-ls", ["/"])),
        (["xenstore-ls", "/local"], ("hypervisor", "xenstore-ls", ["/local"])),
    ],
)  # fmt: skip
def test_command_asks_the_right_party(stub: FakeStub, argv: list[str], expected: tuple[str, str, list[Any]]) -> None:
    assert main(argv) == 0
    assert stub.asked == [expected]


def test_xl_passes_output_and_status_through(stub: FakeStub, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["xl", "list", "g"]) == 0
    assert main(["xl", "destroy", "-f", "nobody"]) == 1
    assert stub.asked[1] == ("hypervisor", "xl", ["destroy", "-f", "nobody"])
    shown = capsys.readouterr()
    assert (shown.out, shown.err) == ("xl got list g\n", "nobody is an invalid domain identifier (rc=-6)\n")


def test_aer_inject_files_and_standard_input(
    stub: FakeStub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    good, bad = tmp_path / "good.aer", tmp_path / "bad.aer"
    good.write_text("AER BUS 1 DEV 0 FN 0 COR RCVR\n")
    bad.write_text("AER BOGUS\n")
    assert main(["aer-inject", str(good)]) == 0
    monkeypatch.setattr(sys, "stdin", io.StringIO("AER\n"))
    assert main(["aer-inject"]) == 0
    assert main(["aer-inject", str(good), str(bad)]) == 2
    assert capsys.readouterr().err == f"xenaer: {bad}:0: syntax error\n"
    assert stub.asked[:2] == [
        ("dom0", "aer-inject", [good.read_text(), str(good), False]),
        ("dom0", "aer-inject", ["AER\n", "<stdin>", False]),
    ]


def test_dmesg_and_trace(stub: FakeStub, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["dmesg"]) == 0
    assert main(["dmesg", "-x", "dom0"]) == 0
    assert main(["trace", "--json"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == ["[    1.500000] AER: hello", "kern  :info  : [    1.500000] AER: hello"]
    assert [json.loads(line)["label"] for line in lines[2:]] == ["printk", "pciback.ask"]
    assert main(["trace"]) == 0
    assert "phase=resume" in capsys.readouterr().out


def test_status(stub: FakeStub, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status"]) == 0
    out = capsys.readouterr().out
    assert "host one-nic" in out
    assert "xl got list" in out


def test_check_and_schema(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "switch"]) == 0
    assert "5 ports, 4 devices, 3 guests" in capsys.readouterr().out
    assert main(["schema", "campaign"]) == 0
    assert json.loads(capsys.readouterr().out)["title"] == "xenaer campaign file"


MISTAKES = [
    ([], "Missing command"),
    (["bogus"], "No such command 'bogus'"),
    (["touch"], "Missing argument"),
    (["touch", "--bogus", "1:0.0"], "No such option"),
    (["touch", "eth0"], "'eth0' is not a PCI address"),
    (["rp-pio", "00:1c.0", "many"], "'many' is not a number of 32 bits"),
    (["rp-pio", "00:1c.0", "010"], "'010' is not a number of 32 bits"),
    (["rp-pio", "00:1c.0", "0x100000000"], "is not a number of 32 bits"),
    (["inject", "01:00.0", "BOGUS"], "'BOGUS' is not an AER error; known: RCVR"),
    (["inject", "01:00.0", "DLP", "--header", "1 2 3"], "expected four 32-bit numbers"),
    (["inject", "01:00.0", "DLP", "--header", "1 2 3 0x100000000"], "expected four 32-bit numbers"),
    (["aer-inject", "nix.aer"], "nix.aer: no such file"),
    (["aer-inject", "."], ".: is a directory"),
    (["dmesg", "nobody"], "no domain 'nobody' in this system; allowed: dom0"),
    (["up", "nix"], "no file 'nix' and no shipped one of that name in hosts; allowed: contained, large, letter"),
    (["up", "nix.yaml"], "nix.yaml: no such file"),
    (["up", "--transport", "udp"], "allowed: ipc, tcp"),
    (["check", "leter"], "did you mean 'letter'?"),
    (["run", "nix"], "no shipped one of that name in campaigns; allowed: 2008-letter"),
    (["run", "2008-letter", "--host", "nix"], "in hosts; allowed"),
    (["run", "2008-letter", "--world", "mars"], "'mars' is not one of"),
    (["schema", "hosts"], "did you mean 'host'?"),
    (["process", "domu"], "no process role 'domu'; did you mean 'dom0'? allowed: hypervisor, dom0, guest"),
    (["process", "dom0", "x"], "'x' is not an option"),
]


@pytest.mark.parametrize(("argv", "words"), MISTAKES, ids=[" ".join(item[0]) or "nothing" for item in MISTAKES])
def test_a_mistake_is_one_line_and_status_2(
    stub: FakeStub, capsys: pytest.CaptureFixture[str], argv: list[str], words: str
) -> None:
    assert main(argv) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith("xenaer: ")
    assert shown.err.count("\n") == 1
    assert words in shown.err


@pytest.mark.parametrize("argv", [["status"], ["down"], ["touch", "1:0.0"], ["xl", "list"], ["dmesg"], ["trace"]])
def test_without_a_system(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], argv: list[str]
) -> None:
    monkeypatch.setenv("XENAER_RUN", str(tmp_path))
    assert main(argv) == 2
    assert capsys.readouterr().err == f"xenaer: no system is running in {tmp_path}; start one with: xenaer up\n"


def test_every_mistake_of_a_file_has_its_place(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "host.yaml"
    path.write_text("name: x\nhierarchy: []\nseed: a\ntiming: {aer_budget_ms: 5, kill_deadline_ms: b}\n")
    assert main(["check", str(path)]) == 2
    found = sorted(line.split(": ")[1] for line in capsys.readouterr().err.splitlines())
    assert found == [f"{path}:3:1", f"{path}:4:28"]


def test_options_of_processes() -> None:
    assert parse_options(["--connect", "tcp://a:1", "--run-dir=x"]) == {"connect": "tcp://a:1", "run_dir": "x"}
    with pytest.raises(StopError, match="needs a value"):
        parse_options(["--connect"])


def test_module_and_status_of_a_real_process(tmp_path: Path) -> None:
    """``python -m xenaer`` from anywhere finds its packages; the status is the process's."""
    command = [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(PACKAGE.parent)!r}); "
               "sys.argv = ['xenaer', 'check', 'nix']; import xenaer.__main__"]  # fmt: skip
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("xenaer: no file 'nix'")
