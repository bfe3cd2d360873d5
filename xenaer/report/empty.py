"""Sentences for sections that have nothing to show: what is missing, why, and what to do about it."""

from __future__ import annotations

from typing import Any

NO_CASE = "No case of this run is finished, so there is nothing to count yet."


def empty(found: dict[str, Any], reason: str, scenarios: bool) -> dict[str, str]:
    """Section -> sentence, for sections that stay without a picture. ``reason``: why there is no campaign."""
    sections = {
        "strata": "" if found["strata"] else NO_CASE,
        "matrix": _matrix(found, reason),
        "blast": _blast(found, reason, scenarios),
        "times": "" if any(entry["phases"] for entry in found["times"]) else _times(found),
        "coverage": _coverage(found, reason),
        "failing": "" if found["failing"] else _failing(found),
        "cases": "" if found["cases"] else _cases(found),
    }
    return {name: text for name, text in sections.items() if text}


def _without_campaign(what: str, reason: str) -> str:
    return f"The campaign of this run cannot be read any more, so {what}. The reason: {reason}"


def _matrix(found: dict[str, Any], reason: str) -> str:
    if reason:
        return _without_campaign("nobody knows what the axes of its cases mean", reason)
    if not found["strata"]:
        return NO_CASE
    if len(found["matrix"]["axes"]) < 2:
        return "This campaign has fewer than two axes, so there is nothing to lay out against one another."
    return ""


def _blast(found: dict[str, Any], reason: str, scenarios: bool) -> str:
    if reason:
        return _without_campaign("its host is not known and cannot be drawn", reason)
    if scenarios:
        return "Each case of this campaign has a host of its own, so there is no one picture of who is below whom."
    if not found["strata"]:
        return NO_CASE
    if not found["blast"]:
        return (
            "No step of this campaign names a device in which an error arises (inject, storm, touch, gone), "
            "so there is no source to choose."
        )
    return ""


def _times(found: dict[str, Any]) -> str:
    return (
        "No case of this run had a recovery, a reset or a kill, so there are no times." if found["strata"] else NO_CASE
    )


def _coverage(found: dict[str, Any], reason: str) -> str:
    if not found["strata"]:
        return NO_CASE
    if found["coverage"]["sections"]:
        return ""
    count = len(found["coverage"]["reached"])
    return _without_campaign(f"it is not known what can be reached; {count} points were", reason)


def _failing(found: dict[str, Any]) -> str:
    return "No case failed: every expectation held, and no invariant broke." if found["strata"] else NO_CASE


def _cases(found: dict[str, Any]) -> str:
    if not found["strata"]:
        return NO_CASE
    return (
        "No journal of this run was kept: no case failed, and of the others one in a thousand is kept. "
        "Play one again with: xenaer campaign replay CASE --trace"
    )
