"""T26: the reset of one branch swallows the message of another; hardened looks at everybody who was not reset."""

from __future__ import annotations

import pytest

from tests.simulation.kit import BAD_TLP, COMP_ABORT, MALF_TLP, Rig, endpoint, guest, host, root_port, switch

A, B = "0000:04:00.0", "0000:05:00.0"


def rig(profile: str) -> Rig:
    """A switch with a device of g1 and one of g2 behind it."""
    functions = [root_port("00:04.0", 2, last=5), *switch("02:00.0", "00:04.0", 3, {"03:00.0": 4, "03:01.0": 5})]
    functions += [endpoint("04:00.0", "03:00.0"), endpoint("05:00.0", "03:01.0")]
    return Rig(host(functions, [guest("g1", A), guest("g2", B)], profile=profile))


def during_a_reset_of_a(rig: Rig, uncor: int, cor: int = 0) -> Rig:
    """A has a fatal error; while its link is reset, B has one of its own."""
    rig.inject(A, MALF_TLP).settle(20)
    assert rig.records("aer.root_reset_begin")
    assert not rig.records("aer.root_reset")
    return rig.inject(B, uncor, cor).settle()


@pytest.mark.parametrize("error", [COMP_ABORT, MALF_TLP])
def test_an_error_of_another_branch_is_recovered(error: int) -> None:
    each = during_a_reset_of_a(rig("hardened"), error)
    assert each.verdicts() == ["successful", "successful"]
    assert [e["subject"] for e in each.records("recovery.begin")] == [A, B]
    assert each.same(B)
    each.check()


def test_a_correctable_one_is_logged() -> None:
    each = during_a_reset_of_a(rig("hardened"), 0, BAD_TLP)
    assert [(e["subject"], e["status"]) for e in each.records("aer.error")][1:] == [(B, BAD_TLP)]
    assert each.same(B)
    each.check()


def test_both_kinds_of_one_function() -> None:
    each = during_a_reset_of_a(rig("hardened"), COMP_ABORT, BAD_TLP)
    logged = [(e["subject"], e["severity"]) for e in each.records("aer.error")][1:]
    assert logged == [(B, "CORRECTABLE"), (B, "NONFATAL")]
    assert each.verdicts() == ["successful", "successful"]
    assert each.same(B)


def test_an_error_of_what_is_reset_is_gone_with_the_reset() -> None:
    each = rig("hardened")
    each.inject(A, MALF_TLP).settle(20).inject(A, COMP_ABORT).settle()
    assert each.verdicts() == ["successful"]
    assert each.same(A)


def test_linux_leaves_it() -> None:
    each = during_a_reset_of_a(rig("linux"), COMP_ABORT)
    assert [e["subject"] for e in each.records("recovery.begin")] == [A]
    assert each.registers(B)["status"] == COMP_ABORT
