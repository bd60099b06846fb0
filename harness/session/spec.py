"""What a session is made of: its paths, its environment, the files it starts with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from harness.core.account import Account
from harness.core.process import SYSTEM_PATH
from harness.session.bounds import TESTS, Bounds

#: systemd as a user manager; Fedora has only the second.
MANAGER_PATHS = (Path("/lib/systemd/systemd"), Path("/usr/lib/systemd/systemd"))

#: Where systemd looks for Podman's generator of user units, see systemd.generator(7); it runs the first.
QUADLET_GENERATORS = tuple(
    f"{folder}/systemd/user-generators/podman-user-generator"
    for folder in ("/etc", "/usr/local/lib", "/usr/lib", "/lib")
)

#: Every service of a session writes to a file: without a journal systemd would drop the output.
#: A `service.d` folder holds drop-ins for all units of the type, see systemd.unit(5).
_OUTPUT_DROP_IN = """\
[Service]
StandardOutput=append:{output}/%n.log
StandardError=append:{output}/%n.log
"""

#: Podman's settings for containers that have no output of their unit's to hand on, beside those of the session.
OWN_OUTPUT_CONF = "containers-own-output.conf"

#: `passthrough` gives the container the service's own output, which outlives the container. Locks in files belong to
#: one session; those in shared memory to all of a user's.
_CONTAINERS_CONF = """\
[containers]
pids_limit = 0
log_driver = "{driver}"

[engine]
runtime = "{runtime}"
cgroup_manager = "{manager}"
events_logger = "file"
events_logfile_path = "{events}"
lock_type = "file"
"""


#: OCI runtime -> who makes the cgroups of its containers; runc does not get one from a session's manager.
RUNTIMES = {"crun": "systemd", "runc": "cgroupfs"}


#: Quadlet's services (Podman 5.3 and newer) want this and come after it. It asks the system's manager, of which a
#: session has none, for network-online.target until its 90 s are over. An empty file masks it, see systemd.unit(5):
#: the `.container` files stay those of a machine that is online.
_NETWORK_WAIT = "podman-user-wait-network-online.service"


@dataclass(frozen=True, slots=True)
class Bind:
    """A folder of the machine that a session sees."""

    source: str
    target: str
    read_only: bool = True


@dataclass(frozen=True, slots=True)
class Paths:
    """Where a session's things are, as its own processes see them."""

    home: str
    runtime: str
    #: For the harness: the manager's log, the units' output.
    state: str

    @property
    def units(self) -> str:
        """The folder of the user's unit files."""
        return f"{self.home}/.config/systemd/user"

    @property
    def quadlets(self) -> str:
        """The folder of the user's Quadlet files, see podman-systemd.unit(5)."""
        return f"{self.home}/.config/containers/systemd"

    @property
    def disks(self) -> tuple[str, ...]:
        """The folders that containers write to: their layers and their volumes, see containers-storage.conf(5)."""
        storage = f"{self.home}/.local/share/containers/storage"
        return f"{storage}/overlay", f"{storage}/volumes"

    @property
    def output(self) -> str:
        """The folder with one file of output per service."""
        return f"{self.state}/output"

    @property
    def events(self) -> str:
        """What podman notes of its containers, see podman-events(1); the account's own, unlike the folder `state`."""
        return f"{self.runtime}/podman-events.log"

    @property
    def manager_log(self) -> str:
        """What `systemd --user` itself says."""
        return f"{self.state}/manager.log"


@dataclass(frozen=True, slots=True)
class Spec:
    """All that the supervisor needs to make a session; sent to it as JSON."""

    uid: int
    gid: int
    paths: Paths
    env: Mapping[str, str]
    #: Path -> text of files that belong to the session's account.
    files: Mapping[str, str]
    #: Name -> text of files that stand over those of the same name below /etc.
    etc: Mapping[str, str] = field(default_factory=dict)
    binds: Sequence[Bind] = ()
    #: Locks of podman's in whose place the session has its own, where they are there.
    own_locks: Sequence[str] = ()
    #: Whether the session has a network namespace with nothing but `lo`.
    own_network: bool = True
    #: The cgroup below which the session makes its own; empty for the supervisor's.
    cgroup_parent: str = ""
    manager: Sequence[str] = ()
    #: Folder of the userland that is the session's root; empty for the machine's own.
    root: str = ""
    bounds: Bounds = TESTS
    #: Folders that containers write to, each a file system of its own: a full one leaves podman room for its notes.
    disks: Sequence[str] = ()


def environment(account: Account, paths: Paths) -> dict[str, str]:
    """Return the whole environment of a session's processes, as a login would set it."""
    return {
        "HOME": paths.home,
        "LANG": "C.UTF-8",
        "LOGNAME": account.name,
        "PATH": SYSTEM_PATH,
        "SHELL": "/bin/sh",
        "USER": account.name,
        "XDG_RUNTIME_DIR": paths.runtime,
        "DBUS_SESSION_BUS_ADDRESS": f"unix:path={paths.runtime}/bus",
    }


def config_files(paths: Paths, storage: str, runtime: str) -> dict[str, str]:
    """Return path -> text of what a session's account finds in its home; `storage` is for storage.conf.

    `runtime` is one of RUNTIMES.
    """
    config = f"{paths.home}/.config"
    given = {"events": paths.events, "runtime": runtime, "manager": RUNTIMES[runtime]}
    return {
        f"{config}/containers/storage.conf": storage,
        f"{config}/containers/containers.conf": _CONTAINERS_CONF.format(driver="passthrough", **given),
        f"{config}/containers/{OWN_OUTPUT_CONF}": _CONTAINERS_CONF.format(driver="k8s-file", **given),
        f"{paths.units}/service.d/10-output.conf": _OUTPUT_DROP_IN.format(output=paths.output),
        f"{paths.units}/{_NETWORK_WAIT}": "",
        f"{paths.output}/.keep": "",
    }


def storage_reading(store: str) -> str:
    """Return a storage.conf for containers of the session's own over the images of a shared read-only store."""
    return f'[storage]\ndriver = "overlay"\n\n[storage.options]\nadditionalimagestores = ["{store}"]\n'


def store_locks(store: str) -> tuple[str, ...]:
    """Return podman's locks of an image store.

    A session that shares them with a build can wait for ever: `podman create` of 4.3 takes the one of images first, the
    build that of layers. Readers need none: podman writes beside a file that is there, and renames.
    Each has to name a last writer, in 64 bytes: by an empty one podman reads all layers again and again.
    """
    return (f"{store}/overlay-layers/layers.lock", f"{store}/overlay-images/images.lock")


def storage_writing(store: str) -> str:
    """Return a storage.conf that builds into a store."""
    return f'[storage]\ndriver = "overlay"\ngraphroot = "{store}"\n'
