"""Device models: what an endpoint does besides having a configuration space."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from dom0_pciback.pcie.devices.base import BusMaster, DeviceModel
from dom0_pciback.pcie.devices.block import BlockModel
from dom0_pciback.pcie.devices.nic import NicModel
from dom0_pciback.pcie.devices.plain import PlainModel
from kernel_stub.kernel import Kernel

__all__ = ["MODELS", "BusMaster", "DeviceModel", "make_model"]

# name of FunctionSpec.model -> (constructor, options it takes)
MODELS: dict[str, tuple[Callable[..., DeviceModel], tuple[str, ...]]] = {
    "nic": (NicModel, ("wire_ns",)),
    "block": (BlockModel, ("access_ns",)),
    "plain": (PlainModel, ()),
}


def make_model(name: str, kernel: Kernel, bus: BusMaster, *, label: str = "", **options: Any) -> DeviceModel:
    """Build the model ``name``. ``label`` names its tasks (default: the model's name).

    Options: ``nic`` takes ``wire_ns`` (time per frame), ``block`` takes ``access_ns`` (time per command).
    Raises ValueError that lists what is allowed.
    """
    if name not in MODELS:
        raise ValueError(f"no device model {name!r}; allowed: {', '.join(sorted(MODELS))}")
    build, allowed = MODELS[name]
    unknown = sorted(options.keys() - set(allowed))
    if unknown:
        raise ValueError(f"device model {name} has no option {unknown[0]!r}; allowed: {', '.join(allowed) or 'none'}")
    return build(kernel, bus, label or f"{name} dma", **options)
