"""The tables `probe` of a contract: what a client asks, and what it must get."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal, Self, Union, get_args

from pydantic import AfterValidator, Field, GetCoreSchemaHandler, ValidationInfo, field_validator, model_validator
from pydantic_core import CoreSchema

from harness.contract.types import Argument, File, Pattern, Reference, Some, Table
from harness.core.extensions import extended
from harness.core.transports import ROWS, Directive, Transport

#: The group of entry points by which other packages add kinds, each the class of its table under the kind's name.
GROUP = "harness.probes"

#: What an argument of a client program is filled in with -> the transports that have it.
PLACEHOLDERS: dict[str, frozenset[Transport]] = {
    "host": frozenset(Transport) - {Transport.UNIX},
    "port": frozenset(Transport) - {Transport.UNIX},
    "path": frozenset({Transport.UNIX}),
    "address": frozenset(Transport),
}

#: Where curl(1) can go, and where the kernel shows whether a connection has been accepted.
TCP_AND_UNIX = frozenset({Transport.TCP4, Transport.TCP6, Transport.UNIX})

#: A client is a program with arguments; what a shell does with a text is nothing that a contract can promise.
_SHELLS = re.compile(r"(ba|da|z|k|c|tc|a|fi)?sh|busybox|env|sudo|su")

_PROGRAM = r"[A-Za-z0-9_][A-Za-z0-9._+-]{0,63}"

_SECRET = re.compile(r"\{secret:([^{}]*)\}")


class Asks(Table):
    """What all kinds have: the transports or the socket that the probe is for; all of the contract's with neither."""

    transports: Annotated[tuple[Transport, ...], Some] | None = None
    #: The name of a socket.
    socket: str | None = None

    def wrong_transports(self, used: frozenset[Transport]) -> Iterator[str]:
        """Yield what the probe can't do over the transports that it is used for, each a sentence behind its key."""
        yield from ()


class Sends(Asks):
    """What the kinds have in common whose client sends bytes and compares what comes back."""

    send: Annotated[str, Field(max_length=1024)] = ""
    #: Whether the client shuts down its sending side behind that, and the reply ends when the service closes.
    half_close: bool = False

    @property
    def expected(self) -> bytes | None:
        """The whole reply; None where a pattern tells."""
        return None

    @property
    def pattern(self) -> str:
        """What the reply matches where `expected` is None."""
        return ""

    def wrong_transports(self, used: frozenset[Transport]) -> Iterator[str]:
        """Yield that a datagram has no side to shut down."""
        wrong = sorted(name for name in used if ROWS[name].directive is Directive.DATAGRAM)
        if self.half_close and wrong:
            yield (
                f".half_close: only a stream can be half-closed, not {', '.join(wrong)}; "
                "give the datagrams a probe of their own"
            )


class BytesProbe(Sends):
    """A client that sends bytes, or waits for a server that speaks first, and compares what comes back."""

    kind: Literal["bytes"]
    expect: Annotated[str, Field(min_length=1)] | None = None
    expect_pattern: Annotated[Pattern | None, Field(validate_default=True)] = None

    @field_validator("expect_pattern")
    @classmethod
    def _one_expectation(cls, value: str | None, given: ValidationInfo) -> str | None:
        if "expect" in given.data and (given.data["expect"] is None) is (value is None):
            raise ValueError("one of 'expect' and 'expect_pattern' is needed")
        return value

    @property
    def expected(self) -> bytes | None:
        """The bytes of `expect`."""
        return None if self.expect is None else self.expect.encode()

    @property
    def pattern(self) -> str:
        """The pattern of `expect_pattern`."""
        return self.expect_pattern or ""


class EchoProbe(Sends):
    """A client of a service that sends back whatever it gets: RFC 862, over any transport."""

    kind: Literal["echo"]
    send: Annotated[str, Field(min_length=1, max_length=1024)] = "hello\n"
    #: The most bytes of one request that come back over a stream; a datagram has 60,000 at most.
    largest: Annotated[int, Field(ge=1, le=2**24)] = 2**20

    @property
    def expected(self) -> bytes:
        """The bytes of `send`."""
        return self.send.encode()


def _header_names(table: dict[str, str]) -> dict[str, str]:
    # A token of RFC 9110, 5.6.2.
    wrong = [name for name in table if not re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,64}", name)]
    if wrong:
        raise ValueError(f"allowed are names of headers, not {', '.join(repr(name[:80]) for name in wrong)}")
    return table


class HttpProbe(Asks):
    """A client that fetches a page, and looks at its status, its headers and its body."""

    kind: Literal["http"]
    path: Annotated[str, Field(pattern=r"^/[\x21-\x7e]*$", max_length=1024)] = "/"
    status: Annotated[tuple[Annotated[int, Field(ge=100, le=599)], ...], Some] = (200,)
    header: Annotated[dict[str, Pattern], AfterValidator(_header_names)] = {}  # noqa: RUF012 - pydantic copies it
    contains: Annotated[str, Field(min_length=1)] | None = None
    pattern: Pattern | None = None

    def wrong_transports(self, used: frozenset[Transport]) -> Iterator[str]:
        """Yield that curl has no way there."""
        if wrong := sorted(used - TCP_AND_UNIX):
            yield f".kind: 'http' goes over tcp4, tcp6 and unix, not over {', '.join(wrong)}"


class ConnectProbe(Asks):
    """A client that says nothing: the service must accept its connection."""

    kind: Literal["connect"]

    def wrong_transports(self, used: frozenset[Transport]) -> Iterator[str]:
        """Yield where nobody can see that."""
        if wrong := sorted(used - TCP_AND_UNIX):
            yield f".kind: 'connect' is for tcp4, tcp6 and unix, not for {', '.join(wrong)}"


class ClientImage(Table):
    """The image that a client program runs in."""

    containerfile: File = ""
    reference: Reference = ""

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if bool(self.containerfile) is bool(self.reference):
            raise ValueError("one of 'containerfile' and 'reference' is needed")
        return self


class ExecProbe(Asks):
    """A client program, in the session or in a container of its own."""

    kind: Literal["exec"]
    command: Annotated[tuple[Argument, ...], Some]
    image: ClientImage | None = None
    stdin: Annotated[str, Field(max_length=16384)] = ""
    status: Annotated[tuple[Annotated[int, Field(ge=0, le=255)], ...], Some] = (0,)
    contains: Annotated[str, Field(min_length=1)] | None = None
    pattern: Pattern | None = None

    @model_validator(mode="after")
    def _program(self) -> Self:
        program, folders = self.command[0], r"(/[A-Za-z0-9_.+-]{1,60}){0,8}/"
        allowed = rf"({folders})?{_PROGRAM}" if self.image else _PROGRAM
        if not re.fullmatch(allowed, program):
            where = "or its absolute path in the image" if self.image else "found by PATH in the session"
            raise ValueError(f"command[0]: allowed is the name of a program, {where}, not {program[:80]!r}")
        if _SHELLS.fullmatch(program.rpartition("/")[2]):
            raise ValueError(f"command[0]: a client is a program of its own, not one that runs others: '{program}'")
        return self

    @property
    def secrets(self) -> tuple[str, ...]:
        """Names of the secrets that `stdin` is filled in with."""
        return tuple(_SECRET.findall(self.stdin))

    def input(self, secrets: Mapping[str, str]) -> bytes:
        """Return what the program reads, with the secrets in it."""
        return _SECRET.sub(lambda found: secrets[found[1]], self.stdin).encode()

    def arguments(self, values: Mapping[str, str]) -> tuple[str, ...]:
        """Return the command with its placeholders filled in; other braces stay as they are."""
        return tuple(
            re.sub(r"\{(host|port|path|address)\}", lambda found: values[found[1]], argument)
            for argument in self.command
        )

    def wrong_transports(self, used: frozenset[Transport]) -> Iterator[str]:
        """Yield the placeholders that a transport has nothing for."""
        for name, having in PLACEHOLDERS.items():
            wrong = sorted(used - having)
            if wrong and any(f"{{{name}}}" in argument for argument in self.command):
                yield f".command: '{{{name}}}' stands for nothing over {', '.join(wrong)}"


_KINDS: dict[str, type[Asks]] = {
    "bytes": BytesProbe,
    "connect": ConnectProbe,
    "echo": EchoProbe,
    "exec": ExecProbe,
    "http": HttpProbe,
}


@functools.cache
def kinds() -> dict[str, type[Asks]]:
    """Return kind -> table, in alphabetical order; raise UsageError for one of another package that can't be."""
    return extended(GROUP, _KINDS, _refusal)


def _refusal(kind: str, table: object) -> str:
    if not (isinstance(table, type) and issubclass(table, Asks)):
        return f"it is no class derived from harness.probes.CustomProbe, but {table!r:.80}"
    field = table.model_fields.get("kind")
    return "" if field and get_args(field.annotation) == (kind,) else f"its field 'kind' is not Literal[{kind!r}]"


class _ByKind:
    """Takes the table of the kind that a table names."""

    def __get_pydantic_core_schema__(self, _source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return handler.generate_schema(Annotated[Union[tuple(kinds().values())], Field(discriminator="kind")])  # noqa: UP007


Probe = Annotated[Asks, _ByKind()]
