"""Paths of the store: alphabet, lengths, relative paths, special paths (XS-2, XS-3)."""

from __future__ import annotations

import re

from hypervisor_stub.xenstore.errors import XenStoreError

ABSOLUTE_MAX = 3072  # bytes
RELATIVE_MAX = 2048  # bytes
DOMID_MAX = 0x7FFF

INTRODUCE_DOMAIN = "@introduceDomain"
RELEASE_DOMAIN = "@releaseDomain"
SPECIAL_PATHS = (INTRODUCE_DOMAIN, RELEASE_DOMAIN)

_NAMES = r"[A-Za-z0-9_@-]+(?:/[A-Za-z0-9_@-]+)*"
_ABSOLUTE = re.compile(rf"/(?:{_NAMES})?")
_RELATIVE = re.compile(rf"(?!@){_NAMES}")
_DOMAIN_PREFIX = re.compile(r"/local/domain/[0-9]{1,5}/")


def domain_path(domid: int) -> str:
    """``/local/domain/<domid>``; EINVAL if ``domid`` is not 0..0x7fff."""
    if not 0 <= domid <= DOMID_MAX:
        raise XenStoreError("EINVAL", f"domain {domid}")
    return f"/local/domain/{domid}"


def canonical(path: str, home: str) -> str:
    """The absolute form of ``path``; a relative one starts at ``home`` (XS-2). EINVAL if it is not well formed."""
    if _ABSOLUTE.fullmatch(path):
        if len(path) <= ABSOLUTE_MAX:
            return path
    elif len(path) <= RELATIVE_MAX and _RELATIVE.fullmatch(path):
        return f"{home}/{path}"
    raise XenStoreError("EINVAL", f"path {path[:80]!r}")


def canonical_or_special(path: str, home: str) -> str:
    """Like ``canonical``, but the special paths are allowed too (XS-3)."""
    return path if path in SPECIAL_PATHS else canonical(path, home)


def is_relative(path: str) -> bool:
    """Whether ``path`` is to be read from the caller's own directory."""
    return path[0] not in "/@"


def quota_length(path: str) -> int:
    """Length of an absolute path as the quota counts it: without ``/local/domain/<id>/`` (XS-2, XS-13)."""
    match = _DOMAIN_PREFIX.match(path)
    return len(path) - match.end() if match else len(path)


def parent_of(path: str) -> str:
    """Absolute path of the parent; the root is its own parent."""
    return path[: path.rfind("/")] or "/"


def child_of(path: str, name: str) -> str:
    """Absolute path of the child ``name``."""
    return f"/{name}" if path == "/" else f"{path}/{name}"


def name_of(path: str) -> str:
    """Last component of an absolute path."""
    return path[path.rfind("/") + 1 :]
