"""Axes: values written out, named or drawn; how they get into templates."""

from __future__ import annotations

import random

import pytest

from xenaer.boot import data_dir
from xenaer.campaign.axes import Axis, circles, fill, make_axis, mentioned
from xenaer.campaign.form import AxisForm
from xenaer.host import load_host

HOST = load_host(data_dir("hosts") / "switch.yaml")


@pytest.mark.parametrize(
    ("given", "values"),
    [
        ({"devices": "assigned"}, ("nic0", "disk0", "nic1", "card1")),
        ({"devices": "ports"}, ("root", "upstream", "0000:02:00.0", "0000:02:01.0", "0000:02:02.0")),
        ({"guests": "all"}, ("net1", "win1", "lab1")),
        ({"votes": "all"}, ("NONE", "CAN_RECOVER", "NEED_RESET", "DISCONNECT", "RECOVERED", "NO_AER_DRIVER")),
        ({"range": [1, 7, 3]}, (1, 4, 7)),
        ({"range": [2, 4]}, (2, 3, 4)),
    ],
)
def test_values_by_name(given: dict[str, object], values: tuple[object, ...]) -> None:
    assert make_axis("x", AxisForm.model_validate(given), HOST).values == values


def test_errors_are_those_of_the_table() -> None:
    every, cor = (make_axis("x", AxisForm.model_validate({"errors": kind}), HOST) for kind in ("all", "correctable"))
    assert set(cor.values) < set(every.values)
    assert {"RCVR", "BAD_TLP"} <= set(cor.values)
    assert "MALF_TLP" in every.values


@pytest.mark.parametrize(
    ("given", "words"),
    [({"range": [3, 1]}, "0 values"), ({"range": [1, 9, 0]}, "0 values"), ({"draw": [2.0, 1.0]}, "not below")],
)
def test_values_that_make_no_sense(given: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        make_axis("x", AxisForm.model_validate(given), HOST)


def test_drawn_values_stay_in_their_bounds_and_depend_on_the_seed() -> None:
    axis = make_axis("x", AxisForm.model_validate({"draw_whole": [3, 5]}), HOST)
    first = [axis.draw(random.Random(seed)) for seed in range(50)]
    assert set(first) == {3, 4, 5}
    assert first == [axis.draw(random.Random(seed)) for seed in range(50)]
    assert axis.value(first[0]) == first[0]


def test_templates_are_filled() -> None:
    values = {"a": 7, "b": {"ms": "$a", "text": "x${a}"}, "none": None}
    template = {"one": "$a", "list": ["$none", "$b", "n${a}${a}"], "cost": "5$"}
    assert fill(template, values) == {"one": 7, "list": [{"ms": 7, "text": "x7"}, "n77"], "cost": "5$"}


def test_an_axis_may_mention_others_but_not_itself() -> None:
    axes = {"a": Axis("a", ({"x": "$b"},)), "b": Axis("b", (1,)), "c": Axis("c", ("$d",)), "d": Axis("d", (["$c"],))}
    assert mentioned(["$a"]) == {"a"}
    assert mentioned(["$a"], axes) == {"a", "b"}
    assert circles(axes) == ["c", "d"]
