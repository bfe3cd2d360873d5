"""The second world: a whole system in deterministic virtual time."""

from xenaer.simulation.system import SimError, SimSystem

__all__ = ["SimError", "SimSystem"]
