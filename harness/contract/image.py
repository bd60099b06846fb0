"""The table `image` of a contract: what runs, and what it is given besides its sockets."""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from harness.contract.types import Argument, ContainerPath, File, Label, Octal, Reference, Size, Table, allowed, twice
from harness.core.transports import FIRST_DESCRIPTOR

#: Variables that systemd, podman or the container's own start set.
_TAKEN = re.compile(r"LISTEN_.*|NOTIFY_SOCKET|container|HOSTNAME")

_VARIABLE = r"[A-Za-z_][A-Za-z0-9_]{0,63}"


class Ready(StrEnum):
    """Who says that the service is up."""

    #: conmon, as soon as the container runs.
    CONMON = "conmon"
    #: The program in the container, by sd_notify(3).
    CONTAINER = "container"
    #: Nobody: `Type=exec` of systemd.service(5).
    EXEC = "exec"


def _free_variable(name: str) -> str:
    if not re.fullmatch(_VARIABLE, name):
        raise ValueError(f"allowed is the name of an environment variable, not {name[:80]!r}")
    if _TAKEN.fullmatch(name):
        raise ValueError(f"the variable '{name}' is set by systemd or podman")
    return name


def _free_variables(table: dict[str, str]) -> dict[str, str]:
    wrong = []
    for name in table:
        try:
            _free_variable(name)
        except ValueError as error:
            wrong.append(str(error))
    if wrong:
        raise ValueError("; ".join(wrong))
    return table


def _relative_files(table: dict[str, str]) -> dict[str, str]:
    part = r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,60}"
    wrong = [name for name in table if not re.fullmatch(rf"{part}(/{part}){{0,7}}", name)]
    if wrong:
        raise ValueError(f"allowed are relative file names without '..', not {', '.join(repr(n[:80]) for n in wrong)}")
    inside = [name for name in table if any(other.startswith(f"{name}/") for other in table)]
    if inside:
        raise ValueError(f"a file can't be a folder as well: {', '.join(repr(name) for name in inside)}")
    return table


Variable = Annotated[str, AfterValidator(_free_variable)]

_Absolute = Annotated[str, allowed(r"(/[A-Za-z0-9_.+-]{1,100}){1,16}", "an absolute path")]

#: What stands between or behind the numbers of descriptors.
_Mark = Annotated[str, allowed(r"[,:;+ ]?", "one of ',', ':', ';', '+', a blank, or nothing")]


class Handover(Table):
    """A variable that tells the program the numbers of its descriptors, such as nginx's `NGINX=3:4;`."""

    variable: Variable
    separator: Annotated[str, allowed(r"[,:;+ ]", "one of ',', ':', ';', '+' or a blank")] = ":"
    end: _Mark = ""

    def value(self, sockets: int) -> str:
        """Return the text for a number of sockets, from SD_LISTEN_FDS_START on."""
        return self.separator.join(str(FIRST_DESCRIPTOR + number) for number in range(sockets)) + self.end


class BackendTable(Table):
    """Where a program that takes no sockets listens by itself: a proxy before it takes them, and passes clients on."""

    #: A port in the container's own network.
    port: Annotated[int, Field(ge=1, le=65535)] | None = None
    #: A Unix socket, in a folder that the container shares with the proxy.
    path: _Absolute | None = None

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        if (self.port is None) == (self.path is None):
            raise ValueError("either 'port' or 'path' says where the program listens")
        if self.path is not None and "/" not in self.path[1:]:
            raise ValueError(f"the socket '{self.path}' has no folder that a container could share")
        return self


class VolumeTable(Table):
    """A volume made for a test, kept over all starts of its service."""

    name: Label
    path: ContainerPath
    read_only: bool = False
    files: Annotated[dict[str, Annotated[str, Field(max_length=16384)]], AfterValidator(_relative_files)] = {}  # noqa: RUF012 - pydantic copies it


class TmpfsTable(Table):
    """A file system in memory."""

    path: ContainerPath
    mode: Octal = "1777"
    size: Size = "64m"


class SecretTable(Table):
    """A random text made for a test; a file below /run/secrets, or a variable."""

    name: Label
    variable: Variable | None = None


_Capability = Annotated[str, allowed(r"(CAP_)?[A-Z][A-Z_]{2,30}", "a capability, such as 'CAP_CHOWN'")]
_Dropped = Annotated[str, allowed(r"all|(CAP_)?[A-Z][A-Z_]{2,30}", "'all' or a capability, such as 'CAP_CHOWN'")]
_Group = Annotated[str, allowed(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,31}", "the name or number of a group, 'keep-groups'")]
_Ulimit = Annotated[str, allowed(r"[a-z]{2,12}=-?[0-9]{1,12}(:-?[0-9]{1,12})?", "such as 'nofile=1024:2048'")]
_HostName = Annotated[str, allowed(r"[a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?", "a host name")]
_Signal = Annotated[str, allowed(r"SIG[A-Z][A-Z0-9+-]{1,12}", "the name of a signal, such as 'SIGQUIT'")]


class OptionsTable(Table):
    """Options of podman-run(1) that a contract may use: those that concern the container alone."""

    cap_add: Annotated[tuple[_Capability, ...], Field(alias="cap-add")] = ()
    cap_drop: Annotated[tuple[_Dropped, ...], Field(alias="cap-drop")] = ()
    entrypoint: _Absolute | None = None
    group_add: Annotated[tuple[_Group, ...], Field(alias="group-add")] = ()
    hostname: _HostName | None = None
    memory: Size | None = None
    pid: Literal["host"] | None = None
    pids_limit: Annotated[Annotated[int, Field(ge=1, le=65536)] | None, Field(alias="pids-limit")] = None
    security_opt: Annotated[tuple[Literal["no-new-privileges", "label=disable"], ...], Field(alias="security-opt")] = ()
    shm_size: Annotated[Size | None, Field(alias="shm-size")] = None
    stop_signal: Annotated[_Signal | None, Field(alias="stop-signal")] = None
    ulimit: tuple[_Ulimit, ...] = ()
    umask: Octal | None = None
    userns: Literal["keep-id"] | None = None
    workdir: _Absolute | None = None

    @property
    def arguments(self) -> tuple[str, ...]:
        """The options for podman's command line."""
        found = []
        for field, info in type(self).model_fields.items():
            value = getattr(self, field)
            values = value if isinstance(value, tuple) else () if value is None else (value,)
            found += [f"--{info.alias or field}={item}" for item in values]
        return tuple(found)


class ImageTable(Table):
    """What runs: a Containerfile below the contract's folder, or the name of an existing image; and how."""

    #: File name; `Containerfile.BASE` is preferred where it exists.
    containerfile: File = "Containerfile"
    #: Name of an image that exists already or can be pulled; the Containerfile is then not used.
    reference: Reference = ""
    #: What the container runs instead of the image's own CMD.
    command: tuple[Argument, ...] = ()
    environment: Annotated[dict[str, Argument], AfterValidator(_free_variables)] = {}  # noqa: RUF012
    user: (
        Annotated[
            str,
            allowed(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,31}(:[A-Za-z0-9_][A-Za-z0-9_-]{0,31})?", "'USER' or 'USER:GROUP'"),
        ]
        | None
    ) = None
    read_only: bool = False
    init: bool = False
    backend: BackendTable | None = None
    network: Literal["none", "private", "host"] | None = None
    ready: Ready = Ready.CONMON
    handover: Handover | None = None
    volumes: tuple[VolumeTable, ...] = ()
    tmpfs: tuple[TmpfsTable, ...] = ()
    secrets: tuple[SecretTable, ...] = ()
    options: OptionsTable = OptionsTable()

    @property
    def texts(self) -> dict[str, str]:
        """Key -> text of what may have placeholders for sockets."""
        command = {f"image.command[{number}]": text for number, text in enumerate(self.command)}
        return command | {f"image.environment.{name}": text for name, text in self.environment.items()}

    @property
    def podman_network(self) -> str:
        """The container's network; by default none, or one of its own where a port of it is published."""
        return self.network or ("private" if self.backend and self.backend.port else "none")

    @model_validator(mode="after")
    def _each_once(self) -> Self:
        variables = [*self.environment, *(secret.variable for secret in self.secrets if secret.variable)]
        if self.handover:
            variables.append(self.handover.variable)
        checked = {
            "variable": variables,
            "name of a volume": [volume.name for volume in self.volumes],
            "name of a secret": [secret.name for secret in self.secrets],
            "path": [*(volume.path for volume in self.volumes), *(mount.path for mount in self.tmpfs)],
        }
        wrong = [f"the {what} '{value}' stands twice" for what, values in checked.items() for value in twice(values)]
        wrong += _beside_a_backend(self) if self.backend else []
        if wrong:
            raise ValueError("; ".join(wrong))
        return self


def _beside_a_backend(image: ImageTable) -> list[str]:
    """Return what a program that takes no sockets can't have."""
    found = {
        "'handover' is for a program that takes its sockets, and 'backend' for one that takes none": image.handover,
        "a proxy waits for its backend, and 'ready = \"exec\"' is for a service that nobody waits for": (
            image.ready is Ready.EXEC
        ),
        "'backend.port' is published, which takes 'network = \"private\"'": (
            image.backend and image.backend.port and image.podman_network != "private"
        ),
    }
    return [text for text, is_so in found.items() if is_so]
