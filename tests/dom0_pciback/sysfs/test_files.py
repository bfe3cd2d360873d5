"""The tree as files: whole, atomic, in nobody else's directory; and what a writer's file means."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from dom0_pciback.sysfs_files import OURS, TreeError, TreeFiles
from dom0_pciback.sysfs_mount import file_writes
from dom0_pciback.sysfs_watch import Watch

FILE, LINK = 0o100444, 0o120777
ENTRIES = [
    ("devices/a/vendor", FILE, b"0x1af4\n"),
    ("devices/a/b/reset", 0o100200, b""),
    ("bus/pci/devices/a", LINK, b"../../../devices/a"),
]


@pytest.fixture
def files(tmp_path: Path) -> TreeFiles:
    tree = TreeFiles(tmp_path / "sys")
    tree.update(ENTRIES)
    return tree


def test_files_links_and_modes(files: TreeFiles) -> None:
    assert (files.root / "bus/pci/devices/a/vendor").read_bytes() == b"0x1af4\n"
    assert (files.root / "devices/a/vendor").stat().st_mode == FILE
    assert (files.root / "devices/a/b/reset").stat().st_mode == 0o100200
    assert (files.root / "bus/pci/devices/a").resolve() == files.root.resolve() / "devices/a"


def test_only_what_differs_is_written_and_as_a_new_file(files: TreeFiles) -> None:
    place = files.root / "devices/a/vendor"
    before = place.stat().st_ino
    assert files.update(ENTRIES) == []
    assert place.stat().st_ino == before
    with place.open("rb") as reader:
        assert files.update([("devices/a/vendor", FILE, b"0x8086\n")]) == ["devices/a/vendor"]
        assert reader.read() == b"0x1af4\n", "who reads it reads the old one to its end"
    assert place.read_bytes() == b"0x8086\n"
    assert os.listdir(files.root / OURS) == ["lock"]


def test_a_link_may_lead_elsewhere_later(files: TreeFiles) -> None:
    files.update([("bus/pci/devices/a", LINK, b"../../../devices/a/b")])
    assert os.readlink(files.root / "bus/pci/devices/a") == "../../../devices/a/b"


def test_removing_takes_empty_directories_away(files: TreeFiles) -> None:
    files.remove(["devices/a/b/reset"])
    assert not (files.root / "devices/a/b").exists()
    assert (files.root / "devices/a/vendor").exists()
    files.remove(["devices/a/vendor", "bus/pci/devices/a"])
    assert sorted(os.listdir(files.root)) == [OURS]
    files.update(ENTRIES)
    assert (files.root / "bus/pci/devices/a/b/reset").exists()


def test_what_was_written_is_read_also_from_a_file_that_may_only_be_written(files: TreeFiles) -> None:
    place = files.root / "devices/a/b/reset"
    place.write_bytes(b"1\n")
    assert files.content("devices/a/b/reset") == b"1\n"
    assert place.stat().st_mode == 0o100200


def test_an_earlier_tree_is_replaced(files: TreeFiles) -> None:
    files.close()
    fresh = TreeFiles(files.root)
    assert sorted(os.listdir(files.root)) == [OURS]
    fresh.close()


def test_directories_that_cannot_be_used(files: TreeFiles, tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "letter").write_text("precious")
    (tmp_path / "file").write_text("")
    for name, text in (("home", "not empty"), ("file", "file exists"), ("file/x", "not a directory"), ("sys", "kept")):
        with pytest.raises(TreeError, match=text):
            TreeFiles(tmp_path / name)
    assert (tmp_path / "home" / "letter").read_text() == "precious"
    assert (files.root / "devices/a/vendor").exists()


# -- what somebody wrote -------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("path", "before", "after", "writes"),
    [
        ("d/reset", b"", b"1\n", [(0, b"1\n")]),
        ("d/aer/x", b"10\n", b"3\n", [(0, b"3\n")]),
        ("d/aer/x", b"10\n", b"10\n", []),
        ("d/config", b"abcdef", b"abcdef", []),
        ("d/config", b"abcdef", b"aBCdeF", [(1, b"BC"), (5, b"F")]),
        ("d/config", b"abcdef", b"X", [(0, b"X")]),
        ("d/config", b"ab", b"", []),
    ],
)
def test_writes_that_a_file_tells_of(path: str, before: bytes, after: bytes, writes: list[tuple[int, bytes]]) -> None:
    assert file_writes(path, before, after) == writes


def test_the_watch_tells_of_writers_only(files: TreeFiles) -> None:
    told: list[str] = []
    watch = Watch(files.root, told.append)
    try:
        watch.add(["devices/a", "devices/a/b"])
        (files.root / "devices/a/vendor").read_bytes()
        files.update([("devices/a/vendor", FILE, b"new\n")])
        (files.root / "devices/a/b/reset").write_bytes(b"1")
        watch.read()
        assert told == ["devices/a/b/reset"]
        files.remove(["devices/a/b/reset"])
        files.update(ENTRIES)
        watch.add(["devices/a/b"])
        (files.root / "devices/a/b/reset").write_bytes(b"1")
        watch.read()
        assert told == ["devices/a/b/reset"] * 2, "a directory that went and came back"
        with pytest.raises(OSError, match="No such file"):
            watch.add(["nowhere"])
    finally:
        watch.close()
