"""run_folder, run_options, timing: a run's directory, and what one can find in its place."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.campaign.rig import options
from tests.campaign.test_store import row
from xenaer.campaign.run.run_folder import RunFolder, RunFolderError
from xenaer.campaign.run.timing import Sitting


@pytest.fixture(name="run")
def fixture_run(tmp_path: Path) -> Path:
    with RunFolder.create(options(name="my campaign", begun="2026-11-20T16:00:09Z"), tmp_path / "runs") as folder:
        folder.add([row(1)])
    return folder.path


def test_a_run_has_a_directory_of_its_own(run: Path) -> None:
    assert run.name == "my-campaign-20261120T160009Z"
    assert sorted(path.name for path in run.iterdir()) == ["journals", "lock", "options.json", "results.sqlite"]
    data = json.loads((run / "options.json").read_text())
    assert data["campaign"] == "name: rig\n"
    assert data["versions"].keys() == {"xenaer", "python", "sqlite", "platform"}
    with RunFolder.create(options(name="my campaign", begun="2026-11-20T16:00:09Z"), run.parent) as other:
        assert other.path.name == "my-campaign-20261120T160009Z-2"


@pytest.mark.parametrize("name", ["../..", "a/b", ".", "-", "x" * 300, "ü"])
def test_no_name_of_a_campaign_leaves_the_parent(name: str, tmp_path: Path) -> None:
    with RunFolder.create(options(name=name), tmp_path) as folder:
        assert folder.path.parent == tmp_path


def test_latest_names_the_newest(run: Path) -> None:
    latest = run.parent / "latest"
    assert latest.is_symlink()
    assert latest.resolve() == run
    with RunFolder.create(options(), run.parent) as other:
        assert latest.resolve() == other.path
    with RunFolder.resume(latest) as same:
        assert same.path == other.path
    assert [path.name for path in run.parent.iterdir() if path.name.startswith(".")] == []


def test_latest_is_not_forced_upon_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "latest").mkdir()
    with pytest.raises(RunFolderError, match="latest: is a directory"):
        RunFolder.create(options(), tmp_path)


def test_a_run_goes_on_where_it_was(run: Path) -> None:
    with RunFolder.resume(run) as folder:
        assert folder.options == options(name="my campaign", begun="2026-11-20T16:00:09Z")
        folder.add([row(2)])
    with RunFolder.read(run) as folder:
        assert folder.store.count() == 2


def test_only_one_runner_works_in_a_directory_and_anybody_reads(run: Path) -> None:
    with RunFolder.resume(run) as folder:
        with pytest.raises(RunFolderError, match="another runner is working in this directory"):
            RunFolder.resume(run)
        folder.add([row(2)])
        with RunFolder.read(run) as reader:
            assert reader.store.count() == 2
    RunFolder.resume(run).close()


def change(**values: object) -> Callable[[Path], None]:
    """Something happens to the options."""

    def apply(run: Path) -> None:
        file = run / "options.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | values))

    return apply


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda run: (run / "options.json").unlink(), "no options.json: no run ever began here; start a new one"),
        (lambda run: (run / "options.json").write_text("{"), "options.json: not the options of a run"),
        (lambda run: (run / "options.json").write_text("[1]"), "options.json: not the options of a run"),
        (lambda run: (run / "options.json").write_bytes(b"\xff\x00"), "options.json: not the options of a run"),
        (change(format=2), "a run of format 2; this xenaer reads and writes format 1"),
        (change(seed="x"), "options.json: seed: input should be a valid integer"),
        (change(colour="x"), "options.json: colour: extra inputs are not permitted"),
        (lambda run: (run / "results.sqlite").unlink(), "results.sqlite: unable to open database file"),
        (lambda run: (run / "results.sqlite").write_text("no database" * 99), "results.sqlite: file is not a database"),
        (lambda run: (run / "results.sqlite").write_text(""), "results.sqlite: format 0; this xenaer reads"),
    ],
)
@pytest.mark.parametrize("opened", [RunFolder.resume, RunFolder.read])
def test_damage_is_said_in_one_line(
    opened: Callable[[Path], RunFolder], damage: Callable[[Path], None], said: str, run: Path
) -> None:
    damage(run)
    with pytest.raises(RunFolderError) as caught:
        opened(run)
    assert said in str(caught.value)
    assert str(run) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_directory_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(RunFolderError, match="there is no such run directory"):
        RunFolder.resume(tmp_path / "nowhere")
    (tmp_path / "file").write_text("")
    with pytest.raises(RunFolderError, match=r"file: (not a directory|file exists)"):
        RunFolder.create(options(), tmp_path / "file")


def test_a_lock_is_given_back_when_opening_fails(run: Path) -> None:
    (run / "results.sqlite").rename(run / "elsewhere")
    with pytest.raises(RunFolderError):
        RunFolder.resume(run)
    (run / "elsewhere").rename(run / "results.sqlite")
    RunFolder.resume(run).close()


def test_a_file_is_written_whole_or_not_at_all(run: Path) -> None:
    with RunFolder.resume(run) as folder:
        folder.write_json("results.json", {"b": 1, "a": "ü"})
        assert (run / "results.json").read_text() == '{\n  "a": "ü",\n  "b": 1\n}\n'
        with pytest.raises(TypeError):
            folder.write_json("results.json", {"a": object()})
        with pytest.raises(UnicodeEncodeError):
            folder.write_text("results.json", "\ud800")
    assert len(list(run.glob("*.json"))) == 2
    assert not list(run.glob(".*"))


def test_sittings_are_told_apart(run: Path) -> None:
    with RunFolder.resume(run) as folder:
        with Sitting(folder) as sitting:
            sitting.cases = 3
        (killed := Sitting(folder)).__enter__()
        with Sitting(folder):
            pass
    found = json.loads((run / "timing.json").read_text())["sittings"]
    assert [entry["cases"] for entry in found] == [3, None, 0]
    assert killed.cases == 0


def test_a_damaged_timing_is_no_trouble(run: Path) -> None:
    (run / "timing.json").write_text("x")
    with RunFolder.resume(run) as folder, Sitting(folder):
        pass
    assert len(json.loads((run / "timing.json").read_text())["sittings"]) == 1


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_directory_without_permission(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(RunFolderError, match="permission denied"):
        RunFolder.create(options(), tmp_path / "runs")
