"""Nodes, paths, permissions: XS-2 to XS-7, XS-16."""

from __future__ import annotations

import pytest

from hypervisor_stub.xenstore import ERROR_NAMES, PAYLOAD_MAX, XenStoreError
from tests.hypervisor_stub.xenstore.support import Client, refused


@pytest.mark.parametrize("path", ["", "//", "/a//b", "/a/", "a/", "/a b", "/a:0", "/a\n", "/ä", "@foo", "@foo/bar"])
def test_xs2_malformed_path_is_einval(dom0: Client, path: str) -> None:
    assert refused(dom0.xs.read, 0, path) == "EINVAL"
    assert refused(dom0.xs.write, 0, path, b"") == "EINVAL"


def test_xs2_limits_of_absolute_and_relative_paths(dom0: Client) -> None:
    dom0.xs.write(0, "/" + "a" * 3071, b"")
    assert refused(dom0.xs.write, 0, "/" + "a" * 3072, b"") == "EINVAL"
    dom0.xs.write(0, "a" * 2048, b"")
    assert refused(dom0.xs.write, 0, "a" * 2049, b"") == "EINVAL"


def test_xs2_relative_path_starts_in_own_domain_directory(dom0: Client, guest: Client) -> None:
    guest.xs.write(0, "data/x", b"mine")
    assert dom0.xs.read(0, "/local/domain/7/data/x") == b"mine"
    dom0.xs.write(0, "backend/pci", b"b")
    assert dom0.xs.read(0, "/local/domain/0/backend/pci") == b"b"


@pytest.mark.parametrize("path", ["@introduceDomain", "@releaseDomain"])
def test_xs3_special_paths_only_for_watches_and_permissions(dom0: Client, path: str) -> None:
    xs = dom0.xs
    for call, *rest in ((xs.read,), (xs.write, b""), (xs.mkdir,), (xs.rm,), (xs.directory,), (xs.directory_part, 0)):
        assert refused(call, 0, path, *rest) == "EINVAL"
    assert xs.get_perms(0, path) == ["n0"]
    xs.set_perms(0, path, ["n0", "r7"])
    assert xs.get_perms(0, path) == ["n0", "r7"]
    xs.watch(path, "t")
    xs.unwatch(path, "t")


def test_xs3_special_paths_are_no_children_of_the_root(dom0: Client) -> None:
    assert dom0.xs.directory(0, "/") == []


def test_xs4_write_creates_parents_with_empty_values(dom0: Client) -> None:
    dom0.xs.write(0, "/a/b/c", b"v")
    assert (dom0.xs.read(0, "/a"), dom0.xs.read(0, "/a/b"), dom0.xs.read(0, "/a/b/c")) == (b"", b"", b"v")


def test_xs4_children_in_order_of_creation(dom0: Client) -> None:
    for name in ("zz", "a", "m"):
        dom0.xs.write(0, f"/d/{name}", b"")
    dom0.xs.write(0, "/d/zz", b"again")
    assert dom0.xs.directory(0, "/d") == ["zz", "a", "m"]
    dom0.xs.rm(0, "/d/zz")
    dom0.xs.mkdir(0, "/d/zz")
    assert dom0.xs.directory(0, "/d") == ["a", "m", "zz"]


def test_xs4_permissions_from_the_nearest_existing_parent(dom0: Client) -> None:
    dom0.xs.mkdir(0, "/d")
    dom0.xs.set_perms(0, "/d", ["n0", "r7"])
    dom0.xs.write(0, "/d/e/f", b"")
    assert dom0.xs.get_perms(0, "/d/e") == dom0.xs.get_perms(0, "/d/e/f") == ["n0", "r7"]
    dom0.xs.set_perms(0, "/d", ["n0"])
    assert dom0.xs.get_perms(0, "/d/e") == ["n0", "r7"]


def test_xs4_unprivileged_creator_becomes_owner(dom0: Client, guest: Client) -> None:
    dom0.xs.mkdir(0, "/shared")
    dom0.xs.set_perms(0, "/shared", ["b0", "r3"])
    guest.xs.write(0, "/shared/x/y", b"")
    assert dom0.xs.get_perms(0, "/shared/x") == dom0.xs.get_perms(0, "/shared/x/y") == ["b7", "r3"]


def test_xs5_rm(dom0: Client) -> None:
    dom0.xs.write(0, "/d/a/b", b"")
    dom0.xs.rm(0, "/d/missing")
    assert refused(dom0.xs.rm, 0, "/d/missing/x") == "ENOENT"
    assert refused(dom0.xs.rm, 0, "/") == "EINVAL"
    dom0.xs.rm(0, "/d/a")
    assert refused(dom0.xs.read, 0, "/d/a/b") == "ENOENT"
    assert dom0.xs.directory(0, "/d") == []


def test_xs5_rm_of_a_very_deep_tree(dom0: Client) -> None:
    dom0.xs.write(0, "/d" + "/x" * 1500, b"")
    dom0.xs.rm(0, "/d")
    assert dom0.xs.directory(0, "/") == []


def test_xs6_missing_node_is_enoent_only_with_the_right_on_the_nearest_ancestor(dom0: Client, guest: Client) -> None:
    assert refused(guest.xs.read, 0, "data/none/deeper") == "ENOENT"
    assert refused(guest.xs.read, 0, "/local/domain/7/none") == "ENOENT"
    assert refused(guest.xs.write, 0, "/local/domain/7/none", b"") == "EACCES"
    assert refused(guest.xs.rm, 0, "/local/domain/7/none") == "EACCES"
    assert refused(guest.xs.read, 0, "/local/domain/9/x") == "EACCES"
    assert refused(dom0.xs.read, 0, "/local/domain/9/x") == "ENOENT"


@pytest.mark.parametrize(
    ("perms", "readable", "writable"),
    [
        (["n0"], False, False),
        (["r0"], True, False),
        (["w0"], False, True),
        (["b0"], True, True),
        (["b0", "n7"], False, False),
        (["n0", "r8", "b7"], True, True),
        (["n7"], True, True),
    ],
)
def test_xs7_rights(dom0: Client, guest: Client, perms: list[str], readable: bool, writable: bool) -> None:
    dom0.xs.write(0, "/n", b"v")
    dom0.xs.set_perms(0, "/n", perms)
    if readable:
        assert guest.xs.read(0, "/n") == b"v"
    else:
        assert refused(guest.xs.read, 0, "/n") == "EACCES"
    if writable:
        guest.xs.write(0, "/n", b"w")
    else:
        assert refused(guest.xs.write, 0, "/n", b"w") == "EACCES"
    assert dom0.xs.read(0, "/n") == (b"w" if writable else b"v")


def test_xs7_set_perms_needs_ownership_and_keeps_the_owner(dom0: Client, guest: Client) -> None:
    guest.xs.write(0, "data/x", b"")
    guest.xs.set_perms(0, "data/x", ["b7", "r0"])
    assert guest.xs.get_perms(0, "data/x") == ["b7", "r0"]
    assert refused(guest.xs.set_perms, 0, "data/x", ["n8"]) == "EPERM"
    dom0.xs.set_perms(0, "/local/domain/7/data/x", ["b0", "b7"])
    assert refused(guest.xs.set_perms, 0, "data/x", ["b7"]) == "EACCES"


@pytest.mark.parametrize("perms", [[], ["x9"], ["n"], ["r-1"], ["n0", ""], ["n99999"]])
def test_xs7_malformed_permissions_are_einval(dom0: Client, perms: list[str]) -> None:
    dom0.xs.mkdir(0, "/n")
    assert refused(dom0.xs.set_perms, 0, "/n", perms) == "EINVAL"
    assert dom0.xs.get_perms(0, "/n") == ["n0"]


def test_xs16_parts_add_up_to_the_whole_directory(dom0: Client) -> None:
    names = [f"child-{i}" for i in range(1000)]
    for name in names:
        dom0.xs.write(0, f"/big/{name}", b"")
    got, generations = b"", set()
    while not got.endswith(b"\0\0"):
        generation, chunk = dom0.xs.directory_part(0, "/big", len(got))
        assert len(generation) + 1 + len(chunk) <= PAYLOAD_MAX
        assert chunk.endswith(b"\0")
        generations.add(generation)
        got += chunk
    assert got == "".join(n + "\0" for n in names).encode() + b"\0"
    assert len(generations) == 1
    dom0.xs.rm(0, "/big/child-0")
    assert dom0.xs.directory_part(0, "/big", 0)[0] not in generations


@pytest.mark.parametrize("filler", range(60, 100))
def test_xs16_a_part_never_exceeds_a_message(dom0: Client, filler: int) -> None:
    for number in range(40):
        dom0.xs.mkdir(0, "/d/" + f"{number:02}" * 49 + "x")
    dom0.xs.mkdir(0, "/d/" + "f" * filler)
    generation, chunk = dom0.xs.directory_part(0, "/d", 0)
    assert len(chunk) in (4000, 4000 + filler + 2)
    assert PAYLOAD_MAX - filler <= len(generation) + 1 + len(chunk) + 1 <= PAYLOAD_MAX + 1


def test_xs16_edges(dom0: Client) -> None:
    dom0.xs.mkdir(0, "/empty")
    assert dom0.xs.directory_part(0, "/empty", 0)[1] == b"\0"
    assert dom0.xs.directory_part(0, "/empty", 99)[1] == b"\0"
    assert refused(dom0.xs.directory_part, 0, "/empty", -1) == "EINVAL"


def test_mkdir_of_an_existing_node_keeps_its_value(dom0: Client) -> None:
    dom0.xs.write(0, "/a", b"v")
    dom0.xs.mkdir(0, "/a")
    assert dom0.xs.read(0, "/a") == b"v"


def test_get_domain_path(guest: Client) -> None:
    assert guest.xs.get_domain_path(12) == "/local/domain/12"
    assert refused(guest.xs.get_domain_path, 0x8000) == "EINVAL"


def test_error_names_without_a_place_on_the_wire_become_einval() -> None:
    assert len(ERROR_NAMES) == 16
    assert XenStoreError("ENOTTY").name == "EINVAL"
    assert all(XenStoreError(name).name == name for name in ERROR_NAMES)
