"""The pytest plug-in, as its users meet it: real runs of pytest in a folder of their own."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from xenaer.boot import PACKAGE, data_dir

pytestmark = pytest.mark.processes

PAIR = data_dir("hosts") / "pair.yaml"
DRIVER = """\
from domu_pcifront.drivers.xnic import XNic
from protocol.ers import ErsResult


class Bad(XNic):
    name = "bad"

    async def slot_reset(self):
        return ErsResult.RECOVERED


class Deadly(XNic):
    name = "deadly"

    async def error_detected(self, state):
        import os
        os._exit(9)
"""
CAMPAIGN = f"""\
name: mine
host: {PAIR}
drivers: [{{guest: left, device: nic0, driver: "drivers_of_mine:Bad"}}]
faults:
  - inject: {{device: nic1, errors: [RxErr]}}
  - inject: {{device: nic0, errors: [$error]}}
explore:
  matrix: {{axes: {{error: [CmpltTO, MalfTLP]}}, strata: [error]}}
sizes: {{tiny: {{cases: 1}}}}
"""


def run_pytest(folder: Path, *words: str, status: int, **environ: str) -> str:
    environment = os.environ | {"PYTHONPATH": str(PACKAGE.parent), "COLUMNS": "160"} | environ
    command = [sys.executable, "-m", "pytest", "-q", *words]
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    shown = done.stdout + done.stderr
    assert done.returncode == status, shown
    return shown


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "drivers_of_mine.py").write_text(DRIVER)
    (tmp_path / "mine.campaign.yaml").write_text(CAMPAIGN)
    return tmp_path


def test_a_case_is_a_test_and_tells_its_story_when_it_fails(folder: Path) -> None:
    shown = run_pytest(folder, "mine.campaign.yaml", status=1)
    assert "1 failed, 1 passed" in shown
    for words in ("recovered-but-dead", "slot_reset → RECOVERED", "the smallest case that fails like this one:"):
        assert words in shown
    assert "Traceback" not in shown
    command = next(line for line in shown.splitlines() if line.startswith("play it again with: "))
    path = Path(command.rpartition(" ")[2])
    assert "without:" in path.read_text()
    again = [sys.executable, "-m", "xenaer", "campaign", "run", str(path)]
    environment = os.environ | {"PYTHONPATH": str(PACKAGE.parent)}
    done = subprocess.run(again, cwd=folder, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, "recovered-but-dead" in done.stdout) == (1, True), done.stdout + done.stderr


def test_a_large_campaign_has_a_test_per_stratum(folder: Path) -> None:
    shown = run_pytest(folder, "mine.campaign.yaml", "--xenaer-cases", "1", "-rA", status=1)
    assert "PASSED mine.campaign.yaml::error=CmpltTO" in shown
    assert "FAILED mine.campaign.yaml::error=MalfTLP" in shown
    assert "1 cases, 0 as expected" in shown


def test_the_processes_of_a_campaign_end_with_its_last_test(folder: Path) -> None:
    """Before the tests of the next file."""
    text = CAMPAIGN.replace("drivers:", "world: processes\ndrivers:").replace("mine:Bad", "mine:Fine")
    (folder / "a.campaign.yaml").write_text(text)
    with (folder / "drivers_of_mine.py").open("a") as file:
        file.write("\n\nclass Fine(XNic):\n    name = 'fine'\n")
    (folder / "test_b.py").write_text(
        "import tempfile\n"
        "from pathlib import Path\n\n\n"
        "def test_nobody_is_left():\n"
        "    assert list(Path(tempfile.gettempdir()).glob('xenaer-*')) == []\n"
    )
    with tempfile.TemporaryDirectory(prefix="xp-") as short:  # sockets cannot have long paths
        shown = run_pytest(folder, "a.campaign.yaml", "test_b.py", status=0, TMPDIR=short)
    assert "3 passed" in shown


def test_fixtures_and_the_marker(folder: Path) -> None:
    (folder / "test_mine.py").write_text(
        "import pytest\n\n"
        "def test_host(xen_host):\n"
        "    host = xen_host('pair', drivers={'nic1': 'silent'})\n"
        "    assert host.inject('nic0', 'CmpltTO') == 'recovered'\n"
        "    assert host.calls('left')[0] == ('error_detected', '2')\n"
        "    assert host.inject('nic1', 'CmpltTO') == 'killed'\n"
        "    assert (host.state('left'), host.state('right')) == ('running', 'absent')\n"
        "    assert 'is killed' in host.story()\n\n"
        "def test_processes(xen_host):\n"
        "    host = xen_host('one-nic', world='processes')\n"
        "    assert host.inject('nic0', 'MalfTLP') == 'recovered'\n"
        "    assert host.workload('net1', 2) == {'0000:00:00.0': 2}\n\n"
        "@pytest.mark.xenaer(campaign='mine.campaign.yaml', size='tiny')\n"
        "def test_marked(xenaer_results):\n"
        "    assert xenaer_results.outcomes == {'recovered': 1}\n\n"
        "@pytest.mark.xenaer(campaign='mine.campaign.yaml')\n"
        "def test_that_cannot_begin():\n"
        "    raise AssertionError('its campaign fails')\n"
    )
    shown = run_pytest(folder, "test_mine.py", status=1)
    assert "3 passed, 1 error" in shown
    assert "its campaign fails" not in shown


@pytest.mark.parametrize(
    ("text", "words", "status"),
    [
        (CAMPAIGN.replace("inject", "injekt", 1), ("mine.campaign.yaml:5:", "unknown key", "did you mean 'inject'"), 2),
        (CAMPAIGN.replace(":Bad", ":Good"), ("has no subclass of PciDriver called 'Good'",), 2),
        (CAMPAIGN, ("no size 'huge'", "allowed: tiny"), 2),
    ],
)
def test_a_file_that_is_wrong_is_told_without_a_traceback(
    folder: Path, text: str, words: tuple[str, ...], status: int
) -> None:
    (folder / "mine.campaign.yaml").write_text(text)
    options = ["--xenaer-size", "huge"] if text == CAMPAIGN else []
    shown = run_pytest(folder, "mine.campaign.yaml", *options, status=status)
    assert all(word in shown for word in words), shown
    assert "Traceback" not in shown


def test_a_worker_of_xdist_that_dies_takes_one_case_with_it(folder: Path) -> None:
    text = CAMPAIGN.replace(":Bad", ":Deadly").replace("[CmpltTO, MalfTLP]", "[RxErr, BadTLP, CmpltTO]")
    (folder / "mine.campaign.yaml").write_text(text)
    shown = run_pytest(folder, "mine.campaign.yaml", "-n", "1", status=1)
    assert "crashed while running" in shown
    assert "1 failed, 2 passed" in shown
