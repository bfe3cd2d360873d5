"""Which xenaer this is."""

from __future__ import annotations

from importlib import metadata

CHECKOUT = "a checkout"  # that was never installed


def version() -> str:
    """The version of the installed package."""
    try:
        return metadata.version("xenaer")
    except metadata.PackageNotFoundError:
        return CHECKOUT
