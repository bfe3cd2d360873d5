"""Every numbered rule of the split driver has a test named after it: ``BE-10`` is ``test_be_10_...``."""

from __future__ import annotations

import ast
import re

import pytest

from tests.tidy.sources import modules, tree

# Numbers per family, as the specification of the split driver gives them.
RULES: dict[str, tuple[range, ...]] = {
    "WIRE": (range(1, 8),),
    "BUS": (range(1, 17), range(20, 26), range(30, 32)),
    "FE": (range(1, 6), range(10, 13), range(20, 26)),
    "BE": (range(1, 5), range(10, 15), range(20, 24)),
    "KILL": (range(1, 11),),
    "CFG": (range(1, 8),),
}


def rules() -> list[str]:
    """Names of all rules."""
    return [f"{family}-{number}" for family, ranges in RULES.items() for numbers in ranges for number in numbers]


def names_of_tests() -> list[str]:
    """Every test function, in small letters."""
    nodes = (node for name in modules(("tests",)) for node in ast.walk(tree(name)))
    return [n.name.lower() for n in nodes if isinstance(n, ast.FunctionDef) and n.name.startswith("test_")]


TESTS = names_of_tests()


@pytest.mark.parametrize("rule", rules())
def test_a_rule_has_a_test_named_after_it(rule: str) -> None:
    """The rule stands at the beginning, after other such labels at most (``test_x9_be_4_...``)."""
    named = re.compile(rf"test_(?:[a-z]+_?\d+_)*{rule.lower().replace('-', '_')}(?:_|$)")
    assert any(named.match(name) for name in TESTS), f"no test is named after {rule}"
