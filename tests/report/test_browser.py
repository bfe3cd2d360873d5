"""The page in a real browser: no error, every section filled, usable with the keyboard, whatever the data says."""

from __future__ import annotations

import re
import zlib
from pathlib import Path

import pytest

from protocol.ports import Record
from tests.report.rig import EVIL, browser, made_up, opened, played, row
from xenaer.campaign.case import Outcome
from xenaer.campaign.run.run_folder import RunFolder
from xenaer.campaign.verdict.journal_hash import pack_journal
from xenaer.campaign.verdict.statistics import wilson
from xenaer.report.gather import gather, subject_of
from xenaer.report.write import report

pytestmark = pytest.mark.processes

SAID = EVIL.replace("\udc80", "")  # no UTF-8 holds that
SECTIONS = ("outcomes", "matrix", "blast", "cases", "times", "coverage")


@pytest.fixture(name="shown", scope="module")
def fixture_shown(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page that a run has written."""
    browser()
    return played(tmp_path_factory.mktemp("shown")) / "report.html"


def sections(html: str) -> dict[str, str]:
    """Section -> its HTML."""
    return {name: re.split(r"</section>", html.split(f'<section id="{name}"')[1])[0] for name in SECTIONS}


def words(html: str) -> str:
    """What a person reads."""
    return " ".join(re.sub(r"<[^>]*>", " ", html).split())


def test_every_section_is_filled(shown: Path) -> None:
    found = sections(opened(shown))
    assert all('class="empty"' not in html for html in found.values())
    assert "all cases" in words(found["outcomes"])
    assert re.search(r"\d+\.\d\d % to \d+\.\d\d %", words(found["outcomes"]))
    assert found["matrix"].count('role="gridcell"') == 6
    assert "CmpltTO" in found["matrix"]
    assert found["blast"].count('role="button"') == 3
    assert {"left", "right", "far"} <= set(words(found["blast"]).split())
    assert 'class="diagram' in found["cases"]
    assert found["cases"].count("<path") > 5
    assert "pcifront left" in words(found["cases"])
    assert "AER: " in words(found["cases"])  # log lines
    assert found["times"].count('class="hist"') > 5
    assert "error_detected" in words(found["times"])
    assert re.search(r"merge \d+ of \d+", words(found["coverage"]))
    assert "merge/" in found["coverage"]


def test_intervals_are_those_of_the_statistics(shown: Path) -> None:
    html = words(sections(opened(shown))["outcomes"])
    rows = re.findall(r"(\d+) (\d+\.\d\d) % (\d+\.\d\d) % to (\d+\.\d\d) %", html.split("All cases")[1])
    assert rows
    for count_text, share, low_text, high_text in rows:
        total = round(int(count_text) / (float(share) / 100))
        low, high = wilson(int(count_text), total)
        assert (low_text, high_text) == (f"{low * 100:.2f}", f"{high * 100:.2f}")


def test_choosing_with_the_keyboard(shown: Path) -> None:
    script = """
    const press = (element, key) => element.dispatchEvent(new KeyboardEvent("keydown", {key, bubbles: true}));
    const cell = document.querySelector(".grid td[tabindex='0']");
    cell.focus();
    press(cell, "ArrowDown");
    press(document.activeElement, "ArrowRight");
    press(document.activeElement, "Enter");
    press(document.querySelectorAll(".node.source")[2], "Enter");
    document.getElementById("theme").click();
    const box = document.querySelector(".diagram");
    press(box, "+");
    press(box, "+");
    document.querySelectorAll("#cases input[type=checkbox]").forEach((each) => each.click());
    const search = document.querySelector("input[type=search]");
    search.value = "does=panic";
    search.dispatchEvent(new Event("input"));
    """
    html = opened(shown, script)
    found = sections(html)
    assert 'aria-selected="true"' in found["matrix"]
    assert "95 % interval" in words(found["matrix"].split('class="detail"')[1])
    assert found["blast"].count('aria-pressed="true"') == 1
    assert 'data-theme="light"' in html
    assert "nolog" in found["cases"]
    some, every = map(int, re.findall(r"(\d+) of (\d+)", words(found["cases"]))[0])
    assert 0 < some < every


def test_every_axis_against_every_other(shown: Path) -> None:
    script = """
    const selects = () => document.querySelectorAll("#matrix select");
    for (const one of [0, 1, 2, 3]) for (const other of [0, 1, 2, 3]) {
      selects()[0].value = one; selects()[0].dispatchEvent(new Event("change"));
      selects()[1].value = other; selects()[1].dispatchEvent(new Event("change"));
      if (!document.querySelector("#matrix .grid td:not(.none)")) throw new Error(`${one} ${other}`);
    }
    for (const each of document.querySelectorAll("#cases .list button")) {
      each.click();
      if (!document.querySelector("#cases h3").textContent.includes("Case")) throw new Error("no case");
    }
    for (const each of document.querySelectorAll("#blast option, #times option, #outcomes option")) {
      each.parentNode.value = each.value; each.parentNode.dispatchEvent(new Event("change"));
    }
    """
    opened(shown, script)


def test_a_phone_has_no_sideways_scrolling(shown: Path) -> None:
    script = "document.title = `${document.documentElement.scrollWidth} of ${innerWidth}`"
    html = opened(shown, script, width=500)
    wide, room = map(int, re.findall(r"<title>(\d+) of (\d+)</title>", html)[0])
    assert wide <= room


def test_what_a_guest_says_stays_text(tmp_path: Path) -> None:
    browser()
    records: list[tuple[str, Record]] = [("left", (1000 * number, "irq", "printk", "", 6, SAID)) for number in range(3)]
    records.append(("dom0", (5000, "irq", "pciback.ask", SAID, SAID, 1)))
    journal = pack_journal([(party, record) for party, record in records], 0)
    bad = row(0, Outcome.HANG, stratum=SAID, text=SAID, problems=["<b>"], journal=journal)
    page = report(made_up(tmp_path, [bad, row(1, guests={"<i>": "recovered"})]))
    html = opened(page)
    assert "<title>shown: xenaer</title>" in html
    assert "<b>" not in sections(html)["cases"]
    assert "&lt;/script&gt;" in sections(html)["cases"]


def test_a_damaged_journal_and_no_case_at_all(tmp_path: Path) -> None:
    browser()
    (tmp_path / "one").mkdir()
    page = report(made_up(tmp_path / "one", [row(0, Outcome.HANG, journal=zlib.compress(b"x"))]))
    assert "its journal cannot be read" in words(sections(opened(page))["cases"])
    (tmp_path / "none").mkdir()
    found = sections(opened(report(made_up(tmp_path / "none", []))))
    assert all("No case of this run is finished" in words(found[name]) for name in SECTIONS)


def test_the_data_are_those_of_the_page(shown: Path) -> None:
    """What the run wrote at its end is what the command writes later."""
    with RunFolder.read(shown.parent) as folder:
        data = gather(subject_of(folder))
    assert data["about"]["complete"]
    before = shown.read_bytes()
    assert report(shown.parent).read_bytes() == before
