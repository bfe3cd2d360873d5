"""The rig as a fixture."""

import pytest

from tests.dom0_pciback.pcie.rig import Rig


@pytest.fixture
def rig() -> Rig:
    return Rig()
