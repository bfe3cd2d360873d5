"""Rules for the container files: any engine and any Compose can use them, also without a registry, and no privilege."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml

from tests.tidy.sources import ROOT, text

MAIN, IPC, CI = "docker-compose.yml", "docker-compose.ipc.yml", "docker-compose.ci.yml"


def compose(name: str) -> dict[str, Any]:
    """A compose file as data, anchors resolved."""
    data = yaml.safe_load(text(name))
    assert isinstance(data, dict)
    return data


def services() -> dict[str, dict[str, Any]]:
    """The services of the main file."""
    found = compose(MAIN)["services"]
    assert isinstance(found, dict)
    return found


def option(command: list[str], name: str) -> str:
    """The value that follows an option."""
    return command[command.index(name) + 1]


def is_guest(service: dict[str, Any]) -> bool:
    """Whether a service is a guest with its supervisor."""
    return bool(service["command"][:2] == ["process", "guest"])


@pytest.mark.parametrize("name", [MAIN, IPC, CI])
def test_old_and_new_compose_read_the_files(name: str) -> None:
    """Compose 1 refuses a top-level ``name``; ``version`` is obsolete."""
    assert not {"name", "version"} & compose(name).keys()


def test_old_engines_read_the_main_file() -> None:
    """Engines before 25 refuse ``start_interval``."""
    assert "start_interval" not in text(MAIN)


def test_nothing_needs_a_registry_beyond_the_base_image() -> None:
    """A syntax line, a digest, and a forced pull are all resolved remotely only."""
    dockerfile = text("Dockerfile")
    assert not re.search(r"^# *syntax=", dockerfile, re.MULTILINE)
    assert {line.split()[1] for line in dockerfile.splitlines() if line.startswith("FROM")} == {"python:3.13-slim"}
    for service in services().values():
        assert service["image"] == "xenaer:local"
        assert service["build"] == "."
        assert "pull_policy" not in service


def test_the_image_does_not_run_as_root() -> None:
    users = [line.split()[1] for line in text("Dockerfile").splitlines() if line.startswith("USER")]
    assert users == ["xenaer"]


@pytest.mark.parametrize("name", sorted(services()))
def test_no_service_has_privileges(name: str) -> None:
    """A guest is killed by its own supervisor; nobody needs the engine's socket or another's processes."""
    service = services()[name]
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["read_only"] is True
    assert service["init"] is False
    assert not {"privileged", "pid", "ipc", "cap_add", "devices", "user"} & service.keys()
    assert service["volumes"] == ["run:/run/xenaer"]


def test_the_campaign_starts_only_when_asked_for() -> None:
    assert [name for name, service in services().items() if "profiles" in service] == ["campaign"]


def test_one_service_per_guest_of_the_host() -> None:
    """The names are those of the host file which the hypervisor stub is given."""
    hypervisor = services()["hypervisor"]["command"]
    host = yaml.safe_load((ROOT / option(hypervisor, "--host")).read_text(encoding="utf-8"))
    guests = [option(service["command"], "--name") for service in services().values() if is_guest(service)]
    assert guests == [guest["name"] for guest in host["guests"]]


def test_a_guest_that_fails_is_started_again() -> None:
    restarts = {name: service.get("restart") for name, service in services().items() if is_guest(service)}
    assert set(restarts.values()) == {"on-failure:3"}


def test_without_a_network_every_service_uses_the_volume() -> None:
    """Same commands, other addresses; a socket's path must stay below 108 bytes."""
    overrides = compose(IPC)["services"]
    assert overrides.keys() == services().keys()
    addresses = set()
    for name, override in overrides.items():
        assert override["network_mode"] == "none"
        assert override.get("command", services()[name]["command"])[:2] == services()[name]["command"][:2]
        addresses |= {word for word in override.get("command", []) if "://" in word}
    assert addresses == {"ipc:///run/xenaer/hv"}
