"""What the tables of a contract share: their base, the texts that several of them take, placeholders."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, TypeAdapter
from pydantic_core import SchemaError

from harness.contract.reference import ImageReference

T = TypeVar("T")

#: The placeholder for the session's home folder.
HOME = "{home}"


class Table(BaseModel):
    """A TOML table: unknown keys are refused, values don't change after loading and are never converted."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


def allowed(pattern: str, what: str) -> AfterValidator:
    """Return a validator for texts that match `pattern` as a whole; `what` says what is allowed."""
    compiled = re.compile(pattern)

    def check(value: str) -> str:
        if not compiled.fullmatch(value):
            raise ValueError(f"allowed is {what}, not {shortened(value)}")
        return value

    return AfterValidator(check)


def shortened(value: object, limit: int = 80) -> str:
    """Return what stands in a file, cut where it is long; a number may have too many digits to be written at all."""
    try:
        text = repr(value)
    except ValueError:
        return "a number of too many digits"
    return text if len(text) <= limit else f"{text[:limit]}..."


def _some(value: tuple[T, ...]) -> tuple[T, ...]:
    # Not by `min_length`: pydantic counts what is left of an array after it has dropped the wrong items.
    if not value:
        raise ValueError("at least 1 item is needed")
    return value


def _no_nul(value: str) -> str:
    if "\0" in value:
        raise ValueError("no NUL is allowed, which ends an argument")
    return value


def file_below(value: str) -> str:
    """Check the name of a Containerfile: in the contract's folder, below it, or beside that folder."""
    if not value or value.startswith("/") or ".." in Path(value).parts[1:]:
        raise ValueError("allowed is a file in the contract's folder or beside that folder ('../Containerfile')")
    return value


def image_name(value: str) -> str:
    """Check the name of an image; there may be none."""
    if value:
        ImageReference.parse(value)
    return value


def _compiles(value: str) -> str:
    try:
        _matcher(value)
    except SchemaError as error:
        reason = str(error).rstrip().rpartition("error: ")[2]
        raise ValueError(f"the pattern can't be used: {reason}") from None
    return value


def matches(pattern: str, text: str) -> bool:
    """Whether a pattern of a contract matches anywhere in `text`, in linear time whatever both are."""
    try:
        _matcher(pattern).validate_python(text)
    except ValueError:
        return False
    return True


def _matcher(pattern: str) -> TypeAdapter[str]:
    """Return pydantic's matcher, which is Rust's crate regex: no pattern of a contract can hang a run."""
    return TypeAdapter(Annotated[str, StringConstraints(pattern=pattern)])


def twice(values: Iterable[str]) -> list[str]:
    """Return what stands more than once, in order."""
    seen: set[str] = set()
    return list(dict.fromkeys(value for value in values if value in seen or seen.add(value)))  # type: ignore[func-returns-value]


#: At least one item.
Some = AfterValidator(_some)

#: One argument of a program.
Argument = Annotated[str, Field(max_length=4096), AfterValidator(_no_nul)]

#: A regular expression of Rust's crate regex.
Pattern = Annotated[str, Field(min_length=1, max_length=1024), AfterValidator(_compiles)]

#: Names a thing made for the test, and the file of a secret.
Label = Annotated[str, allowed(r"[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?", "lower-case letters, digits and dashes")]

#: Where a container sees something; `{home}` may stand first.
ContainerPath = Annotated[
    str,
    allowed(
        r"(?=.{2,200}$)(\{home\}|/[A-Za-z0-9_][A-Za-z0-9_.-]*)(/[A-Za-z0-9_][A-Za-z0-9_.-]*)*",
        "an absolute path, such as '/var/lib/data', or one below '{home}'",
    ),
]

#: Permissions as systemd and podman write them.
Octal = Annotated[str, allowed(r"0?[0-7]{3,4}", "octal permissions in quotes, such as '0600'")]

#: A size as podman writes it.
Size = Annotated[str, allowed(r"[1-9][0-9]{0,8}[kmg]", "a number with 'k', 'm' or 'g', such as '64m'")]

#: A Containerfile's name.
File = Annotated[str, AfterValidator(file_below), AfterValidator(_no_nul)]

#: An image's name.
Reference = Annotated[str, AfterValidator(image_name)]
