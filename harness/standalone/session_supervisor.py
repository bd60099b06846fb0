"""The process that owns one session from outside: it makes the session, and ends it when the harness ends.

Run as `python -I -S FOLDER session_supervisor`, with one end of a SOCK_SEQPACKET pair as standard input. It is sent the
spec, a JSON object; it answers with JSON objects, `{"init": PID}`, then `{"ready": true}` with a descriptor, a
connection to the session's manager, or `{"error": ..., "step": ...}`; then it waits. When the harness closes its end,
which the kernel does when the harness is killed, it kills everything in the session and removes what is left of it.
Where it is killed itself, a process outside of its tree does that (`cleaner`).
"""

from __future__ import annotations

import _thread
import contextlib
import json
import os
import resource
import signal
import socket
import stat
import time
from pathlib import Path
from typing import Any, NoReturn, cast

import bounds  # type: ignore[import-not-found,unused-ignore]
import cgroups  # type: ignore[import-not-found,unused-ignore]
import cleaner  # type: ignore[import-not-found,unused-ignore]
import syscalls  # type: ignore[import-not-found,unused-ignore]

#: Longest wait for READY=1, in seconds; the harness gives up a little later.
READY_LIMIT_S = 30.0

#: Signals that must not end a supervisor: its end is the end of the harness.
IGNORED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

#: Devices below /dev that every user's containers take, and their minor numbers; see the kernel's list of devices.
DEVICES = {"fuse": 229, "net/tun": 200}
MISC_MAJOR = 10

Spec = dict[str, Any]


def answer(message: dict[str, Any], *descriptors: int) -> None:
    """Tell the harness; it may have gone."""
    with contextlib.suppress(OSError), socket.socket(fileno=os.dup(0)) as harness:
        socket.send_fds(harness, [json.dumps(message).encode()], descriptors)


def await_ready(listener: socket.socket, manager: int) -> str:
    """Return "" once the manager has said READY=1, or how it ended instead."""
    listener.settimeout(0.05)
    deadline = time.monotonic() + READY_LIMIT_S
    while time.monotonic() < deadline:
        try:
            if b"READY=1" in listener.recv(4096).split(b"\n"):
                return ""
        except TimeoutError:
            pid, status = os.waitpid(manager, os.WNOHANG)
            if pid == manager:
                return f"'systemd --user' ended with status {os.waitstatus_to_exitcode(status)} before it was ready"
    return f"'systemd --user' was not ready after {READY_LIMIT_S:g} s"


def connect_to_manager(spec: Spec) -> socket.socket:
    """Return a D-Bus connection that the manager takes: made in its process namespace, with its own uid.

    The manager looks at the credentials of the process that connected, see SO_PEERCRED in unix(7), and refuses one
    whose process id has no meaning to it.
    """
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    own = os.geteuid()
    os.seteuid(spec["uid"])
    try:
        connection.connect(f"{spec['paths']['runtime']}/systemd/private")
    finally:
        os.seteuid(own)
        syscalls.die_with(spec["supervisor"])
    return connection


def start_manager(spec: Spec, log: str) -> int:
    """Fork and become the session's `systemd --user`; return its process id in the caller's namespace."""
    parent = os.pidfd_open(os.getpid())
    pid = os.fork()
    if pid:
        os.close(parent)
        return pid
    try:
        if os.getuid() == 0:
            os.setgroups([])
            os.setresgid(spec["gid"], spec["gid"], spec["gid"])
            os.setresuid(spec["uid"], spec["uid"], spec["uid"])
        syscalls.die_with(parent)
        os.chdir(spec["paths"]["home"])
        output = os.open(log, os.O_WRONLY | os.O_APPEND)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(output, 1)
        os.dup2(output, 2)
        os.closerange(3, 256)
        # What is ignored here, by us or by Python, would be ignored in every service.
        descriptors = spec["bounds"]["descriptors"]
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if "pids" not in spec["bounded"] and os.getuid() == 0:
            # All of the account's, in its user namespaces as well, see RLIMIT_NPROC in getrlimit(2).
            resource.setrlimit(resource.RLIMIT_NPROC, (spec["bounds"]["pids"], spec["bounds"]["pids"]))
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, descriptors), min(hard, descriptors)))
        for number in (*IGNORED, signal.SIGPIPE, signal.SIGXFSZ):
            signal.signal(number, signal.SIG_DFL)
        os.execve(spec["manager"][0], spec["manager"], {**spec["env"], "NOTIFY_SOCKET": notify_socket(spec)})
    except BaseException as error:  # the forked child must never return into the parent's code
        os.write(2, f"{error}\n".encode())
    os._exit(127)


def notify_socket(spec: Spec) -> str:
    """Return the path on which the manager says that it is ready, see sd_notify(3)."""
    return f"{spec['paths']['state']}/notify"


def journal_socket() -> socket.socket:
    """Return the session's journal, which must be there before the manager starts.

    A user manager writes to no descriptor of its own: without a journal it says nothing at all.
    """
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    os.makedirs("/run/systemd/journal")
    listener.bind("/run/systemd/journal/socket")
    os.chmod("/run/systemd/journal/socket", 0o666)
    return listener


def copy_log(listener: socket.socket, log: str) -> None:
    """Write the messages that arrive to a file, until the process ends; see systemd's JOURNAL_NATIVE_PROTOCOL."""
    with open(log, "ab", buffering=0) as file:
        while True:
            for line in listener.recv(65536).split(b"\n"):
                if line.startswith(b"MESSAGE="):
                    file.write(line.removeprefix(b"MESSAGE=") + b"\n")


def run_manager(spec: Spec) -> NoReturn:
    """Start the manager, tell the harness when it is ready, then reap until it ends."""
    log = f"{spec['paths']['state']}/manager.log"
    os.close(os.open(log, os.O_CREAT | os.O_WRONLY, 0o600))
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(notify_socket(spec))
        if os.getuid() == 0:
            os.chown(log, spec["uid"], spec["gid"])
            os.chown(notify_socket(spec), spec["uid"], spec["gid"])
        journal = journal_socket() if os.getuid() == 0 else None
        manager = start_manager(spec, log)
        if journal:
            _thread.start_new_thread(copy_log, (journal, log))
        _thread.start_new_thread(
            bounds.trim_for_ever, ([f"{spec['paths']['state']}/output", log], spec["bounds"]["output"])
        )
        cgroups.join(spec["cgroup_init"])
        problem = await_ready(listener, manager)
    if problem:
        text = Path(log).read_text(encoding="utf-8", errors="replace")
        answer({"error": problem, "step": "start 'systemd --user'", "log": text})
        os._exit(1)
    with connect_to_manager(spec) as connection:
        answer({"ready": True}, connection.fileno())
    os.close(0)
    while True:
        try:
            pid, _status = os.wait()
        except ChildProcessError:
            os._exit(0)
        if pid == manager:
            os._exit(0)


def isolate(spec: Spec) -> None:
    """As process 1 of new namespaces, make the session's own view of the machine."""
    uid, gid, paths = spec["uid"], spec["gid"], spec["paths"]
    syscalls.mount("", "/", flags=syscalls.MS_REC | syscalls.MS_SLAVE)
    sources = [syscalls.clone_mount(bind["source"]) for bind in spec["binds"]]
    if spec["root"]:
        enter(spec["root"], f"mode=755,size={spec['bounds']['disk']}")
    syscalls.mount("proc", "/proc", "proc", syscalls.MS_NOSUID | syscalls.MS_NODEV)
    syscalls.detach("/sys/fs/cgroup")  # a hybrid machine has version 1 there
    syscalls.mount("cgroup2", "/sys/fs/cgroup", "cgroup2")
    for target, mode in (("/run", 755), ("/home", 755), ("/tmp", 1777), ("/var/tmp", 1777), ("/dev/shm", 1777)):
        if target == "/dev/shm" and not os.path.isdir(target):
            continue  # what is not there needs no hiding, and Podman's locks are in files
        options = f"mode={mode},size={spec['bounds']['disk']}"
        syscalls.mount("tmpfs", target, "tmpfs", syscalls.MS_NOSUID | syscalls.MS_NODEV, options)
    # systemd --user refuses to start where the system was not booted by systemd; see sd_booted(3).
    os.makedirs("/run/systemd/system")
    os.makedirs(f"{paths['state']}/etc")
    open_devices(f"{paths['state']}/dev")
    make_owned_folder(paths["home"], uid, gid)
    os.makedirs(os.path.dirname(paths["runtime"]))
    make_owned_folder(paths["runtime"], uid, gid)
    for folder in spec["disks"]:
        make_owned_folder(folder, uid, gid)
        options = f"mode=700,uid={uid},gid={gid},size={spec['bounds']['disk']}"
        syscalls.mount("tmpfs", folder, "tmpfs", syscalls.MS_NOSUID | syscalls.MS_NODEV, options)
    for name, text in spec["etc"].items():
        file = Path(paths["state"], "etc", name)
        file.write_text(text, encoding="utf-8", errors="surrogateescape")
        syscalls.bind(os.fspath(file), f"/etc/{name}", read_only=True)
    for source, bind in zip(sources, spec["binds"], strict=True):
        make_owned_folder(bind["target"], uid, gid)
        syscalls.attach(source, bind["target"], read_only=bind["read_only"])
    for number, target in enumerate(filter(os.path.exists, spec["own_locks"])):
        file = Path(paths["state"], f"lock-{number}")
        file.write_bytes(bytes(64))
        os.chown(file, uid, gid)
        syscalls.bind(os.fspath(file), target, read_only=False)
    # Podman asks for a shared root; nothing travels back to the machine, whose slave this has become.
    syscalls.mount("", "/", flags=syscalls.MS_REC | syscalls.MS_SHARED)
    if spec["own_network"]:
        syscalls.bring_up_loopback()
        # Ports below 1024 as well: nobody else's network has these.
        Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").write_text("0", encoding="ascii")


def open_devices(folder: str) -> None:
    """Let every user open what udev(7) lets them open; where the machine doesn't, /dev becomes the session's own.

    The machine's own is below it, and stays as it is. What is made here is in `folder`.
    """
    if all(map(is_open, DEVICES)):
        return
    try:
        for name, minor in DEVICES.items():
            device = Path(folder, "upper", name)
            device.parent.mkdir(parents=True, exist_ok=True)
            os.mknod(device, stat.S_IFCHR, os.makedev(MISC_MAJOR, minor))
            device.chmod(0o666)
    except PermissionError:
        return  # a container that may not make devices: its sessions have those that are there
    # What is mounted on /dev stays there, but for what hides a device.
    hiding = {name.partition("/")[0] for name in DEVICES}
    mounted = [entry.path for entry in os.scandir("/dev") if os.path.ismount(entry) and entry.name not in hiding]
    sources = [syscalls.clone_mount(path) for path in mounted]
    os.mkdir(f"{folder}/work")
    layers = f"lowerdir=/dev,upperdir={folder}/upper,workdir={folder}/work"
    syscalls.mount("overlay", "/dev", "overlay", syscalls.MS_NOSUID, layers)
    for source, path in zip(sources, mounted, strict=True):
        syscalls.attach(source, path, read_only=False)


def is_open(device: str) -> bool:
    """Whether every user may read and write a device."""
    with contextlib.suppress(FileNotFoundError):
        return os.stat(f"/dev/{device}").st_mode & 0o666 == 0o666
    return False


def enter(root: str, options: str = "mode=755") -> None:
    """Make an unpacked distribution the root of the caller's mount namespace; what is written there is thrown away.

    `options` are those of the file system in memory that takes it.
    """
    lower = os.open(root, os.O_PATH | os.O_DIRECTORY)
    syscalls.mount("tmpfs", "/run", "tmpfs", syscalls.MS_NOSUID | syscalls.MS_NODEV, options)
    for name in ("upper", "work", "merged"):
        os.mkdir(f"/run/{name}", 0o755)
    # By its number, since a path could have the characters that separate options.
    layers = f"lowerdir=/proc/self/fd/{lower},upperdir=/run/upper,workdir=/run/work"
    syscalls.mount("overlay", "/run/merged", "overlay", 0, layers)
    for folder in ("dev", "sys"):
        syscalls.mount(f"/{folder}", f"/run/merged/{folder}", flags=syscalls.MS_BIND | syscalls.MS_REC)
    syscalls.pivot_root("/run/merged")
    os.close(lower)


def make_owned_folder(path: str, uid: int, gid: int) -> None:
    """Make a folder and its missing parents, all owned by the session's account."""
    if not os.path.isdir(path):
        make_owned_folder(os.path.dirname(path), uid, gid)
        os.mkdir(path, 0o700)
        os.chown(path, uid, gid)


def write_files(spec: Spec) -> None:
    """Write the files of the session's account, with the folders above them."""
    for path, text in spec["files"].items():
        make_owned_folder(os.path.dirname(path), spec["uid"], spec["gid"])
        descriptor = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
        os.chown(path, spec["uid"], spec["gid"])


def session_init(spec: Spec) -> NoReturn:
    """Be the first process of the session: make it, run the manager, reap."""
    step = "make the session's view of the machine"
    try:
        syscalls.die_with(spec["supervisor"])
        syscalls.adopt_orphans()
        for group in set(spec["bounded"].values()) - {spec["cgroup"], cgroups.own()}:
            cgroups.join(group)
        cgroups.join(spec["cgroup_user"])
        # The manager is started in the cgroup that the account owns; this process then leaves it, since systemd
        # needs the root of its own tree empty. The descriptor still works once /sys/fs/cgroup is another mount.
        spec["cgroup_init"] = f"/proc/self/fd/{os.open(spec['cgroup_init'], os.O_PATH)}"
        if os.getuid() == 0:
            flags = syscalls.CLONE_NEWNS | syscalls.CLONE_NEWIPC | syscalls.CLONE_NEWCGROUP
            syscalls.unshare(flags | (syscalls.CLONE_NEWNET if spec["own_network"] else 0))
            isolate(spec)
        step = "write the session's files"
        write_files(spec)
        step = "start 'systemd --user'"
        run_manager(spec)
    except BaseException as error:  # said to the harness, whatever it is
        answer({"error": f"{type(error).__name__}: {error}", "step": step})
    os._exit(1)


def name_cgroups(spec: Spec) -> None:
    """Name the session's cgroups so that `sweep` can tell whose they are and whether the owner still lives."""
    parent = spec["cgroup_parent"] or cgroups.own()
    spec["cgroup"] = f"{parent}/{cgroups.name_of(os.getpid())}"
    spec["cgroup_init"], spec["cgroup_user"] = f"{spec['cgroup']}/init", f"{spec['cgroup']}/user"
    spec["bounded"] = {}


def make_cgroups(spec: Spec) -> None:
    """Make the session's cgroups."""
    for folder in (spec["cgroup"], spec["cgroup_init"], spec["cgroup_user"], f"{spec['cgroup_user']}/clients"):
        os.mkdir(folder, 0o755)
        if folder == spec["cgroup"]:
            spec["bounded"] |= bounds.bound(folder, spec["bounds"])
    if os.getuid() == 0:
        for name in ("", "cgroup.procs", "cgroup.subtree_control", "cgroup.threads"):
            os.chown(os.path.join(spec["cgroup_user"], name), spec["uid"], spec["gid"])


def start(spec: Spec) -> int:
    """Make cgroups and, as root, namespaces; fork the session's first process, return its id."""
    make_cgroups(spec)
    if os.getuid() == 0:
        syscalls.unshare(syscalls.CLONE_NEWPID)  # for the child; this process stays where it can clean up
    spec["supervisor"] = os.pidfd_open(os.getpid())
    pid = os.fork()
    if pid == 0:
        session_init(spec)
    return pid


def remove_files(spec: Spec) -> None:
    """Remove what an ordinary user's session has written; files of containers belong to the user's subordinate ids."""
    folder = os.path.dirname(spec["paths"]["state"])
    if os.getuid() != 0 and os.path.isdir(folder):
        command = ["unshare", "--user", "--map-auto", "--map-root-user", "--", "rm", "-rf", "--", folder]
        os.waitpid(os.posix_spawnp(command[0], command, {"PATH": spec["env"]["PATH"]}), 0)


def remove(spec: Spec) -> None:
    """Remove what there is of a session from outside."""
    cgroups.kill(spec["cgroup"])
    bounds.remove(spec["cgroup"])
    cgroups.remove(spec["cgroup"])  # the last, since its name is the session's
    remove_files(spec)


def main() -> int:
    """Make the session that the harness asks for, keep it until the harness has gone, remove it."""
    os.setsid()
    os.umask(0o022)  # the session's account must get to what is made here
    for number in IGNORED:
        signal.signal(number, signal.SIG_IGN)
    spec = cast("Spec", json.loads(os.read(0, 1 << 20)))
    child = 0
    call_off = None
    try:
        name_cgroups(spec)
        call_off = cleaner.clean_after(lambda: remove(spec))
        child = start(spec)
        answer({"init": child, "cgroup": spec["cgroup"], "bounded": spec["bounded"]})
        kept = False
        while os.read(0, 4096) == b"keep":
            os.mkdir(f"{spec['cgroup']}/{cgroups.KEPT}")
            kept = True
        if kept:
            os.waitpid(child, 0)
            child = 0
    except OSError as error:
        answer({"error": str(error), "step": "make the session's cgroups and namespaces"})
    finally:
        if child:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
        if call_off:
            remove(spec)
            call_off()
    return 0
