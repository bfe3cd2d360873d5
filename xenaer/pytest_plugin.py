"""The pytest plug-in: hosts as fixtures, campaigns as tests.

* ``xen_host(...)`` starts a host (``xenaer.testing.XenHost``) that ends with the test.
* ``@pytest.mark.xenaer(campaign="file.yaml")``: the campaign is played before the test, which fails if it does;
  the fixture ``xenaer_results`` has what came of it.
* ``*.campaign.yaml`` is collected: a test for each case, or for each stratum of a large one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from xenaer.boot import activate

activate()

from xenaer.pytest_items import CampaignFile, Played, play_marked  # noqa: E402 - the roles are found only now
from xenaer.testing import XenHost  # noqa: E402

SUFFIX = ".campaign.yaml"
RESULTS: pytest.StashKey[Played] = pytest.StashKey()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Options of campaigns."""
    group = parser.getgroup("xenaer", "fault campaigns")
    group.addoption("--xenaer-size", default=None, help="size of campaigns, one of those that their files name")
    group.addoption("--xenaer-seed", type=int, default=None, help="seed of campaigns instead of their files'")
    group.addoption(
        "--xenaer-cases", type=int, default=200, help="a campaign with more cases has a test per stratum [200]"
    )


def pytest_configure(config: pytest.Config) -> None:
    """Declare the marker."""
    config.addinivalue_line("markers", "xenaer(campaign, size=None): play a campaign file before the test")


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> pytest.Collector | None:
    """``*.campaign.yaml``."""
    return CampaignFile.from_parent(parent, path=file_path) if file_path.name.endswith(SUFFIX) else None


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item: pytest.Item) -> Iterator[None]:
    """Play the campaign of a marked test."""
    marker = item.get_closest_marker("xenaer")
    if marker is not None:
        item.stash[RESULTS] = play_marked(item, marker)
    yield


@pytest.fixture
def xen_host() -> Iterator[Callable[..., XenHost]]:
    """A function that starts a host; arguments are those of ``xenaer.testing.XenHost``."""
    started: list[XenHost] = []

    def start(*args: Any, **keywords: Any) -> XenHost:
        started.append(XenHost(*args, **keywords))
        return started[-1]

    yield start
    for host in reversed(started):
        host.close()


@pytest.fixture
def xenaer_results(request: pytest.FixtureRequest) -> Played:
    """What came of the campaign of a marked test."""
    found: Played | None = request.node.stash.get(RESULTS, None)
    if found is None:
        raise pytest.UsageError('xenaer_results needs @pytest.mark.xenaer(campaign="file.yaml")')
    return found
