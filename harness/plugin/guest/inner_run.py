"""What a guest is booted for: the run inside, with its command, its environment and the machine that it runs on."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from harness.core import cache
from harness.core.process import SYSTEM_PATH
from harness.core.progress import Progress
from harness.core.userland import HOST
from harness.guest import system, wheels
from harness.guest.engines.base import FOLDER_VARIABLE, USERLAND_VARIABLE, Boot, Mode
from harness.guest.system import CACHE, PACKAGES, SOURCE, System
from harness.plugin.guest.thread import Wanted
from harness.plugin.settings import SETTINGS, Keep
from harness.runtime.runtime import Runtime

#: The guest's own memory: the machine's /tmp is read-only there.
_TEMPORARY = "/run/tmp"


@dataclass(frozen=True, slots=True)
class GuestJob:
    """One run of pytest outside, as it is repeated inside."""

    config: pytest.Config
    runtime: Runtime
    mode: Mode
    #: Factor for the time limits inside.
    time_scale: float
    progress: Progress

    @property
    def boots_userland(self) -> bool:
        """Whether the guest is a machine of the userland's, and not this machine's files on another kernel."""
        return self.mode is Mode.ALWAYS and self.runtime.name != HOST.name

    def check(self) -> None:
        """Raise UsageError for a userland that can't be booted."""
        if self.boots_userland:
            system.check(self.runtime.userland)
            wheels.python_of(self.runtime.userland)

    def boot(self, wanted: Wanted, folder: Path) -> Boot:
        """Return what to boot, with `folder` for the exchange folder."""
        machine = self._system(wanted, folder) if self.boots_userland else None
        variables = _variables_on(machine, folder) if machine else _variables(folder)
        command = tuple(self._command(wanted, folder))
        return Boot(folder, command, os.fspath(self.config.rootpath), variables, system=machine)

    def _command(self, wanted: Wanted, folder: Path) -> list[str]:
        """Return the same options, but for what belongs to the run outside."""
        config, given, options = self.config, self.config.option, self.config.stash[SETTINGS]
        ini = ("-c", os.fspath(config.inipath)) if config.inipath else ()
        xdist = ("-n", "0") if config.pluginmanager.hasplugin("xdist") else ()
        plugins = [argument for name in given.plugins or [] for argument in ("-p", name)]
        # Another Python finds the entry points of what was installed for it alone, and the harness is not. The package
        # comes before its module: what is imported already, pytest can't rewrite, and warns.
        plugins += ["-p", "harness.plugin"] if self.boots_userland else []
        # The first wants to write below the root folder, which can't be written to inside.
        plugins += ["-p", "no:hypothesispytest", "-p", "harness.plugin.guest.worker"]
        # The cache belongs to the run outside; without its plugin, an ini file that sets its folder would be wrong.
        cached = config.pluginmanager.hasplugin("cacheprovider")
        return [
            *("python3" if self.boots_userland else sys.executable, "-m", "pytest", *wanted.files, *plugins),
            *(*xdist, *ini, f"--rootdir={config.rootpath}", f"--tb={given.tbstyle}", f"--verbosity={given.verbose}"),
            *(f"--capture={given.capture}", *(["--showlocals"] if given.showlocals else [])),
            *(f"--override-ini={line}" for line in given.override_ini or []),
            *([f"--override-ini=cache_dir={_TEMPORARY}/cache"] if cached else []),
            *(f"--harness-contract={path}" for path in options.contracts),
            *(f"--harness-units={path}" for path in options.units),
            *(f"--harness-instance={name}" for name in options.instances),
            f"--harness-session-memory={options.bounds.memory >> 10}k",
            f"--harness-session-processes={options.bounds.pids}",
            f"--harness-session-descriptors={options.bounds.descriptors}",
            f"--harness-session-disk={options.bounds.disk >> 10}k",
            f"--harness-session-output={options.bounds.output >> 9}k",
            *(f"--harness-image={name}={image}" for name, image in options.images.items()),
            f"--harness-transports={','.join(options.transports)}",
            f"--harness-activation={','.join(options.activations)}",
            *(f"--harness-userland={name}" for name in options.userlands),
            f"--harness-base={self.runtime.base}",
            "--harness-strict" if options.strict or self.mode is Mode.AUTO else "--no-harness-strict",
            f"--harness-artifacts-dir={folder / 'artifacts'}",
            f"--harness-timeout-scale={self.time_scale:g}",
            f"--harness-keep={Keep.NEVER}",
            f"--harness-guest={Mode.NEVER}",
        ]

    def _system(self, wanted: Wanted, folder: Path) -> System:
        """Return the machine that the guest is to be, with all that the tests are made of."""
        config, runtime = self.config, self.runtime
        plugins = [found.name for _plugin, found in config.pluginmanager.list_plugin_distinfo()]
        packages = wheels.packages(runtime.userland, plugins, cache.default_folder() / "guest-packages", self.progress)
        folders = [config.rootpath, *(Path(path).parent for path in wanted.files)]
        given = (*runtime.settings.contracts, *runtime.settings.units)
        folders += [path if path.is_dir() else path.parent for path in given]
        folders += [config.inipath.parent] if config.inipath else []
        return system.describe(runtime.userland, packages, folders, system.show_images(runtime.store, folder))


def _variables(folder: Path) -> Mapping[str, str]:
    """Return the environment of the run on this machine's files."""
    package = os.fspath(Path(__file__).resolve().parents[3])
    given = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
    return {
        "HOME": os.environ.get("HOME", "/root"),
        "PATH": f"{os.environ.get('PATH', '')}:{SYSTEM_PATH}".lstrip(":"),
        "PYTHONPATH": os.pathsep.join([*given, package]),
        cache.FOLDER_VARIABLE: os.fspath(cache.default_folder()),
        **_variables_anywhere(folder),
    }


def _variables_on(machine: System, folder: Path) -> Mapping[str, str]:
    """Return the environment of the run on a machine of its own, but for what its login sets."""
    return {
        "HOME": machine.account.home,
        "LOGNAME": machine.account.name,
        "PATH": SYSTEM_PATH,
        "PYTHONPATH": os.pathsep.join([PACKAGES, SOURCE]),
        "SHELL": "/bin/sh",
        "USER": machine.account.name,
        USERLAND_VARIABLE: machine.userland.name,
        cache.FOLDER_VARIABLE: f"{folder}/{CACHE}",
        **_variables_anywhere(folder),
    }


def _variables_anywhere(folder: Path) -> Mapping[str, str]:
    return {
        "LANG": "C.UTF-8",
        "PYTHONDONTWRITEBYTECODE": "1",
        "TMPDIR": _TEMPORARY,
        FOLDER_VARIABLE: os.fspath(folder),
    }
