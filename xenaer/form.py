"""What the forms of all files that people write have in common: strictness, addresses, names, exclusive keys."""

from __future__ import annotations

from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from protocol.ids import Sbdf

BDF_PATTERN = r"^([0-9a-fA-F]{1,4}:)?[0-9a-fA-F]{1,2}:[0-9a-fA-F]{1,2}\.[0-7]$"
NAME_PATTERN = r"^[A-Za-z][A-Za-z0-9_.+-]{0,62}$"
DAY_MS = 86_400_000

Bdf = Annotated[
    str, AfterValidator(lambda text: str(Sbdf.parse(text))), Field(json_schema_extra={"pattern": BDF_PATTERN})
]
Name = Annotated[str, Field(pattern=NAME_PATTERN)]
Id16 = Annotated[int, Field(ge=0, le=0xFFFF)]
Milliseconds = Annotated[int, Field(ge=1, le=DAY_MS)]


class Form(BaseModel):
    """Base of everything that people write: no unknown key, no silent conversion."""

    model_config = ConfigDict(extra="forbid", strict=True, populate_by_name=True)


def exactly_one(names: tuple[str, ...]) -> dict[str, Any]:
    """JSON Schema for "one of these keys, not two"."""
    return {"oneOf": [{"required": [name]} for name in names]}


Written = TypeVar("Written", bound=Form)


def require_one(form: Written, names: tuple[str, ...]) -> Written:
    """``form``, if exactly one of the fields ``names`` is set. Raises ValueError."""
    shown = {name: name.rstrip("_").replace("_", "-") for name in names}
    given = [text for name, text in shown.items() if getattr(form, name) is not None]
    if len(given) != 1:
        raise ValueError(f"needs exactly one of: {', '.join(shown.values())}; has {', '.join(given) or 'none'}")
    return form


def given_one(form: Form, names: tuple[str, ...]) -> str:
    """Which one of the fields ``names`` is set. Raises ValueError unless it is exactly one."""
    given = [name for name in names if getattr(form, name) is not None]
    if len(given) != 1:
        raise ValueError(f"needs exactly one of {', '.join(names)}; has {', '.join(given) or 'none'}")
    return given[0]
