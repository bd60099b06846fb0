"""A `.container` file, of which Podman's generator makes the service; its keys are those that Podman 4.8 knows."""

from __future__ import annotations

from collections.abc import Iterator

from harness.activation.base import Activated, Workload, quote
from harness.activation.units import UnitActivation, unit_section
from harness.contract import Contract, Ready
from harness.core.errors import CapabilityMissing, HarnessError, UnitRejected
from harness.core.hints import hint
from harness.session.manager import NoSuchUnit
from harness.session.session import Session
from harness.session.spec import QUADLET_GENERATORS

#: What Podman's generator makes a service of.
QUADLET = ".container"

#: Podman's option -> the key of a `.container` file, as Podman 4.8 knows them. All else goes to PodmanArgs=: what got
#: a key later would have an older Quadlet refuse the whole file.
_KEYS = {
    "--cap-add": "AddCapability",
    "--cap-drop": "DropCapability",
    "--env": "Environment",
    "--hostname": "HostName",
    "--name": "ContainerName",
    "--network": "Network",
    "--pull": "Pull",
    "--secret": "Secret",
    "--shm-size": "ShmSize",
    "--tmpfs": "Tmpfs",
    "--ulimit": "Ulimit",
    "--user": "User",
    "--userns": "UserNS",
    "--volume": "Volume",
    "--workdir": "WorkingDir",
}

#: A whole option -> its line.
_SWITCHES = {
    "--init": "RunInit=true",
    "--read-only": "ReadOnly=true",
    "--security-opt=label=disable": "SecurityLabelDisable=true",
    "--security-opt=no-new-privileges": "NoNewPrivileges=true",
}

#: What Quadlet says in every command that it writes.
_ALWAYS = frozenset({"--rm", "--replace"})

_NOTIFY = {Ready.CONTAINER: ("Notify=true",)}


def files(workload: Workload) -> dict[str, str]:
    """Return name -> text of the `.container` file."""
    return {f"{workload.name}{QUADLET}": text(workload)}


def text(workload: Workload) -> str:
    """Return the `.container` file of a workload.

    It has no [Install]: the socket is what starts the service.
    """
    lines = [f"Image={workload.image}", *_settings(workload)]
    content = "\n".join(lines)
    return f"""\
{unit_section(workload)}
[Container]
{content}
"""


def _settings(workload: Workload) -> Iterator[str]:
    """Yield the lines of the section [Container] behind the image's."""
    for option in workload.container:
        if option not in _ALWAYS:
            yield _line(option)
    yield from _NOTIFY.get(workload.ready, ())
    if workload.command:
        yield f"Exec={' '.join(quote(argument) for argument in workload.command)}"


def _line(option: str) -> str:
    """Return what says one of podman's options: its key, where it has one, else PodmanArgs=.

    Environment= is a list of quoted words, and so is PodmanArgs=. The others take their value as it stands, so that
    one with a special character in it goes to PodmanArgs=, too.
    """
    if option in _SWITCHES:
        return _SWITCHES[option]
    name, _, value = option.partition("=")
    key = _KEYS.get(name)
    if key == "Environment" or (key and value == quote(value)):
        return f"{key}={quote(value)}"
    return f"PodmanArgs={quote(option)}"


def refusal(contract: Contract) -> str:
    """Return what Quadlet has no words for."""
    image = contract.image
    found = {
        "Quadlet makes no service of Type=exec, see podman-systemd.unit(5)": image.ready is Ready.EXEC,
        "Quadlet takes an empty argument in Exec= for the end of the command": "" in image.command,
        "Quadlet writes the argument ';' without the quotes that tell systemd it is no end of a command": (
            ";" in image.command
        ),
        "Quadlet writes the character U+0080 as a byte that is no text": any(
            "\x80" in text for text in (*image.command, *image.environment.values())
        ),
    }
    return next((why for why, is_so in found.items() if is_so), "")


def generated(activated: Activated) -> dict[str, str]:
    """Return name -> text of the service that Quadlet has made; raise UnitRejected with its own words otherwise."""
    (unit,) = activated.services
    try:
        found = activated.session.manager.properties(unit)
    except NoSuchUnit:
        raise _rejected(activated, f"Quadlet made no service of '{activated.workload.name}{QUADLET}'.") from None
    if found["LoadState"] != "loaded":
        state = f"its state is '{found['LoadState']}'"
        raise _rejected(activated, f"systemd does not load '{unit}', which Quadlet made: {state}.")
    return {unit: activated.session.run(["cat", found["FragmentPath"]]).text}


def generator(session: Session) -> str:
    """Return the path of the generator that systemd runs at every reload, "" where there is none."""
    there = (path for path in QUADLET_GENERATORS if not session.run(["test", "-x", path], check=False).status)
    return next(there, "")


def _rejected(activated: Activated, sentence: str) -> HarnessError:
    """Return the error that shows what the generator says when it runs once more, without writing anything."""
    session, workload = activated.session, activated.workload
    found = generator(session)
    if not found:
        return CapabilityMissing("quadlet", "there is no 'podman-user-generator'", "install Podman 4.4 or newer")
    dry = session.run([found, "-user", "-dryrun"], check=False)
    said = dry.stderr.decode(errors="replace")
    known = hint(said)
    return UnitRejected(
        sentence,
        hint=known.advice or "Correct what the generator complains of; podman-systemd.unit(5) has every key.",
        evidence={
            f"{workload.name}{QUADLET}": text(workload),
            f"{found} -user -dryrun": said,
            "what it would write": dry.text,
            "systemd --user": activated.evidence()["systemd --user"],
        },
        blame=known.blame,
    )


ACTIVATION = UnitActivation(
    "quadlet",
    lambda _session, workload: files(workload),
    files,
    refusal,
    needs=("quadlet",),
    generated=generated,
)
