"""Filling an empty folder with a distribution: from its packages, from a tar, from an image."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from harness.core import account
from harness.core.errors import Blame, CapabilityMissing, CommandError, UsageError
from harness.core.process import base_environment, network_environment, run_with_progress
from harness.core.progress import Progress
from harness.images.store import Image, ImageStore
from harness.session import factory
from harness.session.spec import Bind
from harness.userlands.recipes import Recipe

#: Longest making of one userland, in seconds.
BUILD_LIMIT_S = 1200.0

#: Where a building session sees the folder that an image is exported to.
_EXPORT = "/run/harness/userland"

#: What a package's script mounts or starts is gone with the command, and the command with the harness.
_CONTAINED = (
    *("setpriv", "--pdeathsig=KILL"),
    *("unshare", "--mount", "--pid", "--ipc", "--fork", "--kill-child", "--mount-proc"),
)

#: Owners by their numbers; set-user-ID bits; file capabilities and SELinux's labels, which are extended attributes. A
#: colon in the name of the file is no other machine's name.
_TAR = (
    *("tar", "--extract", "--force-local", "--numeric-owner", "--same-owner", "--preserve-permissions"),
    *("--xattrs", "--xattrs-include=*"),
)


def install(recipe: Recipe, root: Path, progress: Progress) -> None:
    """Install the packages of a recipe; raise UsageError with the tool's last words where that fails."""
    command = recipe.command(root)
    if not shutil.which(recipe.tool, path=base_environment()["PATH"]):
        raise CapabilityMissing(
            recipe.tool, f"the userland '{recipe.name}' is made with it", f"install the package '{recipe.tool}'"
        )
    progress(f"make the userland '{recipe.name}' with {recipe.tool}")
    try:
        _run(recipe.tool, command, progress)
    except CommandError as error:
        raise UsageError(
            f"The userland '{recipe.name}' can't be made: {error.sentence}",
            hint="See what its last lines say of the mirror, the disk or a package.",
            blame=Blame.MACHINE,
            evidence=error.evidence,
        ) from None


def unpack(file: Path, root: Path, progress: Progress) -> None:
    """Unpack a tar, compressed or not; raise UsageError where it is none, or has names with `..`.

    GNU tar takes the slash from absolute names, and makes links that lead out only when all files are there.
    """
    progress(f"unpack '{file}'")
    try:
        _run(f"unpack '{file.name}'", (*_TAR, f"--directory={root}", f"--file={file}"), progress)
    except CommandError as error:
        raise UsageError(
            f"The file '{file}' can't be unpacked: {error.sentence}",
            hint="Give a whole tar of a root folder, such as 'podman export' writes; no name in it may have '..'.",
            evidence={"tar": error.evidence["stdout"]},
        ) from None


def export(image: Image, images: ImageStore, root: Path, progress: Progress) -> None:
    """Unpack an image of the store as a container finds it."""
    folder = root.with_name("export")
    folder.mkdir(mode=0o700)
    own = account.throwaway()
    os.chown(folder, own.uid, own.gid)
    with factory.open_build_session(images.graph, Bind(os.fspath(folder), _EXPORT, read_only=False)) as session:
        # A killed run leaves its container in the store; this one takes its place.
        session.run(["podman", "create", "--replace", f"--name={image.name}", "--pull=never", image.reference, "true"])
        try:
            session.run_with_progress(
                ["podman", "export", f"--output={_EXPORT}/image.tar", image.name],
                timeout_s=BUILD_LIMIT_S,
                title="podman export",
                progress=progress,
            )
        finally:
            session.run(["podman", "rm", "--force", image.name], check=False)
    unpack(folder / "image.tar", root, progress)
    shutil.rmtree(folder)


def _run(title: str, command: tuple[str, ...], progress: Progress) -> None:
    try:
        run_with_progress(
            [*_CONTAINED, *command],
            timeout_s=BUILD_LIMIT_S,
            title=title,
            progress=progress,
            env=base_environment() | network_environment(),
        )
    except CommandError as error:
        raise CommandError(command, error.status, stdout=error.stdout, timeout_s=error.timeout_s) from None
