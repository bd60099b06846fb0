"""Kernels of User-mode Linux: the one that the machine's package brings, and a newer one from Debian in the cache.

Kernels before 6.13, such as those of Debian 12 and 13, write floating-point registers in a size of their own. Newer
processors, those with AMX say, have more of them, and the first program that such a kernel starts is killed. Whether a
kernel works is found out by starting it.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from harness.core import cache
from harness.core.errors import CapabilityMissing, CommandError
from harness.core.locking import locked
from harness.core.machine import Machine
from harness.core.process import SYSTEM_PATH, base_environment, network_environment, run_with_progress
from harness.core.progress import Progress
from harness.images import bases

#: Debian's release that the newer kernel is taken from.
_SUITE = "forky"

#: Where Debian's package has the modules, in a folder named by the release.
_MODULES = Path("usr/lib/uml/modules")

#: The folder of the newer kernel, and that of what is known of starts, below the cache folder.
_FOLDER, _STARTS = "uml", "uml-starts"

#: What the newer kernel has in place of the machine's C library, which may be older than the one it was built with.
_LIBRARIES = ("ld-linux-x86-64.so.2", "libc.so.6")
_LOADER, _OWN_LOADER = b"/lib64/ld-linux-x86-64.so.2\0", b"./ld-linux-x86-64.so.2\0"

#: Longest answer of `linux.uml --version`, longest start of a kernel, longest download of one, in seconds. They take
#: 5 ms, 1.2 s and 17 s.
_VERSION_LIMIT_S, _START_LIMIT_S, _FETCH_LIMIT_S = 5.0, 20.0, 600.0

#: What a kernel says whose first program, true(1), has ended by itself.
_STARTED = b"Attempted to kill init! exitcode=0x00000000"


@dataclass(frozen=True, slots=True)
class UmlKernel:
    """A kernel that is a program, and its modules."""

    program: tuple[str, ...]
    release: str
    modules: Path

    def problem(self, machine: Machine) -> str:
        """Return why it can't be used, or ""; what a start on this processor has shown is remembered in the cache."""
        if not machine.file(f"{self.modules}/modules.dep").exists():
            return f"there are no modules in '{self.modules}'"
        known = machine.file(f"{cache.default_folder()}/{_STARTS}/{self._identity(machine)}")
        with contextlib.suppress(OSError):
            return known.read_text(encoding="utf-8")
        problem = self._start(machine)
        with contextlib.suppress(OSError):
            known.parent.mkdir(parents=True, exist_ok=True)
            known.write_text(problem, encoding="utf-8")
        return problem

    def _identity(self, machine: Machine) -> str:
        """Return what stands for this kernel on this processor and on the machine's kernel."""
        lines = (machine.read("/proc/cpuinfo") or "").splitlines()
        processor = sorted({line for line in lines if line.startswith(("model name", "flags"))})
        parts = (*self.program, self.release, machine.kernel(), *processor)
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]

    def _start(self, machine: Machine) -> str:
        with tempfile.TemporaryDirectory(prefix="harness-uml-") as folder:
            command = (
                *(*self.program, "mem=64M", "root=/dev/root", "rootfstype=hostfs", "rootflags=/", "ro"),
                *("con0=null,fd:1", "con=null", "ssl=null", "panic=-1", "loglevel=1", "init=/bin/true"),
                f"uml_dir={folder}/",
            )
            env = {"PATH": SYSTEM_PATH, "HOME": folder, "TMPDIR": "/dev/shm"}  # noqa: S108
            try:
                ended = machine.run(command, timeout_s=_START_LIMIT_S * machine.patience, env=env, check=False)
            except CommandError as error:
                return f"the kernel {self.release} does not start: {error.sentence}"
        if _STARTED in ended.stdout:
            return ""
        return f"the kernel {self.release} can't start a program on this processor"


def kernels(machine: Machine) -> Iterator[UmlKernel]:
    """Yield the kernel that the machine has, then the one in the cache."""
    own = machine.program("linux.uml")
    if own:
        yield from _kernel(machine, (own,), Path("/", _MODULES))
    folder = cache.default_folder() / _FOLDER
    if machine.file(f"{folder}/linux.uml").exists():
        # Its loader is found from where it is started, see _OWN_LOADER.
        program = ("/usr/bin/env", f"--chdir={folder}", "LD_LIBRARY_PATH=.", "./linux.uml")
        yield from _kernel(machine, program, folder / "modules")


def _kernel(machine: Machine, program: tuple[str, ...], modules: Path) -> Iterator[UmlKernel]:
    release = machine.run([*program, "--version"], timeout_s=_VERSION_LIMIT_S, check=False).text.strip()
    if release:
        yield UmlKernel(program, release, modules / release)


def fetch(progress: Progress) -> None:
    """Put the newer kernel of Debian's package into the cache.

    Raises CapabilityMissing where mmdebstrap(1) is not there or gets no such package.
    """
    folder = cache.default_folder() / _FOLDER
    with cache.writing(folder.parent):
        folder.parent.mkdir(parents=True, exist_ok=True)
    with (
        cache.writing(folder.parent),
        locked(folder.with_suffix(".lock")),
        tempfile.TemporaryDirectory(prefix=f"{_FOLDER}-", dir=folder.parent) as staging,
    ):
        unpacked = Path(staging, "unpacked")
        _unpack(unpacked, progress)
        shutil.rmtree(folder, ignore_errors=True)
        _shape(unpacked, Path(staging, "shaped")).rename(folder)


def _unpack(folder: Path, progress: Progress) -> None:
    """Unpack the package and what it depends on; nothing of it is run."""
    try:
        sources = bases.in_suite(bases.debian_sources()[:1], _SUITE)
    except CapabilityMissing:
        sources = ()
    settings = (*bases.mirror_settings(), 'Acquire::Check-Valid-Until "false";')
    command = (
        *("mmdebstrap", "--mode=chrootless", "--variant=extract", "--format=directory", "--include=user-mode-linux"),
        *(f"--aptopt={line}" for line in settings),
        *(_SUITE, os.fspath(folder), *sources),
    )
    try:
        run_with_progress(
            command,
            timeout_s=_FETCH_LIMIT_S,
            title="a newer kernel for guests",
            progress=progress,
            env=base_environment() | network_environment(),
        )
    except CommandError as error:
        raise CapabilityMissing(
            "uml",
            f"no newer kernel for guests could be had: {error.sentence}",
            "see what mmdebstrap says of the mirror",
        ) from None


def _shape(unpacked: Path, folder: Path) -> Path:
    """Make a folder with the kernel, its modules and libraries, and a program that finds them there."""
    folder.mkdir(mode=0o755)
    program = folder / "linux.uml"
    program.write_bytes(
        (unpacked / "usr/bin/linux.uml").read_bytes().replace(_LOADER, _OWN_LOADER.ljust(len(_LOADER), b"\0"))
    )
    for name in _LIBRARIES:
        shutil.copyfile(unpacked / f"usr/lib/x86_64-linux-gnu/{name}", folder / name)
    (unpacked / _MODULES).rename(folder / "modules")
    # The guest's account may be another one than this process's.
    for file in (program, *(folder / name for name in _LIBRARIES)):
        file.chmod(0o755)
    return folder
