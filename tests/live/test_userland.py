"""The store of userlands: what is found by its name, tars good and bad, two makers at once; nothing is half made."""

from __future__ import annotations

import contextlib
import os
import signal
import stat
import subprocess
import sys
import tarfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from harness.core.deadline import Deadline, wait_until
from harness.core.errors import CapabilityMissing, UsageError
from harness.core.userland import HOST, Userland
from harness.session import factory
from harness.userlands.recipes import RECIPES
from harness.userlands.store import UserlandStore
from tests.helpers.probing import as_root
from tests.helpers.processes import shell
from tests.helpers.userlands import distribution, entry, link, packed


@pytest.fixture
def said() -> list[str]:
    """What the store below has told."""
    return []


@pytest.fixture
def userlands(tmp_path: Path, said: list[str]) -> UserlandStore:
    """A store of the test's own."""
    return UserlandStore(tmp_path / "cache", said.append)


def left(userlands: UserlandStore) -> list[str]:
    """Return what is in the folder of a store beside its lock."""
    return sorted(path.name for path in userlands.folder.glob("*") if path.name != "build.lock")


# -- names -------------------------------------------------------------------------------------------------------------


def test_the_machines_own_is_always_there(userlands: UserlandStore) -> None:
    """It is no folder, and asking for it makes none."""
    assert userlands.get("host") is HOST
    assert not userlands.folder.exists()


@as_root
@pytest.mark.parametrize("action", ["get", "build", "remove"])
def test_an_unknown_name(userlands: UserlandStore, tmp_path: Path, action: str) -> None:
    """The error lists every name there is, those that were given, too."""
    userlands.from_tar("small", packed(tmp_path / "small.tar", distribution()))
    with pytest.raises(UsageError) as caught:
        getattr(userlands, action)("nix")

    assert caught.value.sentence == ("There is no userland 'nix'; there are: host, bookworm, trixie, fedora, small.")
    assert "--from-image" in caught.value.hint


@pytest.mark.parametrize("name", ["", "-x", "../x", "a/b", "Small", "a" * 41, "x\n"])
def test_a_name_that_is_none(userlands: UserlandStore, tmp_path: Path, name: str) -> None:
    """No name leads out of the store."""
    with pytest.raises(UsageError, match="can't be called"):
        userlands.from_tar(name, packed(tmp_path / "small.tar", distribution()))


@pytest.mark.parametrize("name", ["host", *RECIPES])
def test_a_name_that_is_taken(userlands: UserlandStore, tmp_path: Path, name: str) -> None:
    """What a recipe's name means is for the recipe to say."""
    with pytest.raises(UsageError, match="harness's own"):
        userlands.from_tar(name, packed(tmp_path / "small.tar", distribution()))


def test_an_ordinary_user(userlands: UserlandStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who can't make files of other users is told so before anything is made."""
    monkeypatch.setattr(factory, "is_isolated", lambda: False)
    for make in (
        lambda: userlands.build("trixie"),
        lambda: userlands.from_tar("small", packed(tmp_path / "small.tar", distribution())),
        lambda: userlands.remove("trixie"),
    ):
        with pytest.raises(CapabilityMissing, match=r"'userlands'.*root alone"):
            make()
    assert not userlands.folder.exists()


# -- links -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("/etc/passwd", "etc/passwd"),
        ("/etc/absolute", "usr/there"),
        ("/etc/out", "usr/there"),
        ("/up/there", "usr/there"),
        ("/etc/../../../usr//./there", "usr/there"),
        ("/nothing/there", "nothing/there"),
        ("/etc/dangling/x", "nothing/x"),
        ("/", ""),
    ],
)
def test_links_stay_inside(tmp_path: Path, path: str, found: str) -> None:
    """A link of somebody else's is never followed to the machine's own files."""
    (tmp_path / "etc").mkdir()
    for name, target in (
        *(("etc/absolute", "/usr/there"), ("etc/out", "../../../../../usr/there")),
        *(("up", "//usr"), ("etc/dangling", "/nothing")),
    ):
        (tmp_path / name).symlink_to(target)

    assert Userland("small", tmp_path).file(path) == tmp_path / found


def test_a_link_that_leads_to_itself(tmp_path: Path) -> None:
    """It ends with an error that names it."""
    (tmp_path / "a").symlink_to("/b")
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(UsageError, match="The link '/a/x' of the userland 'small' leads to itself"):
        Userland("small", tmp_path).file("/a/x")


# -- tars --------------------------------------------------------------------------------------------------------------


@as_root
@pytest.mark.parametrize("mode", ["w", "w:gz", "w:xz"])
def test_a_tar(userlands: UserlandStore, said: list[str], tmp_path: Path, mode: str) -> None:
    """Owners, modes, devices and extended attributes are as they were packed; a second time costs nothing."""
    file = packed(
        tmp_path / "a:small.tar",  # a colon would be another machine's name for tar(1)
        distribution(
            entry("./var/owned", 0o2750, uid=4321, gid=1234, uname="root", type=tarfile.DIRTYPE),
            entry("./dev/zero", 0o666, type=tarfile.CHRTYPE, devmajor=1, devminor=5),
            entry("./usr/bin/ping", pax_headers={"SCHILY.xattr.user.label": "a b"}),
        ),
        mode,
    )
    made = userlands.from_tar("small", file)

    owned, zero = (made.file(name).stat() for name in ("/var/owned", "/dev/zero"))
    assert (owned.st_uid, owned.st_gid, stat.S_IMODE(owned.st_mode)) == (4321, 1234, 0o2750)
    assert stat.S_ISCHR(zero.st_mode)
    assert zero.st_rdev == os.makedev(1, 5)
    assert made.file("/usr/bin/newuidmap").stat().st_mode & stat.S_ISUID
    assert os.getxattr(made.file("/usr/bin/ping"), "user.label") == b"a b"
    assert stat.S_IMODE(made.root.stat().st_mode) == 0o755
    assert stat.S_IMODE(made.root.parent.stat().st_mode) == stat.S_IMODE(userlands.folder.stat().st_mode) == 0o700
    (one,) = userlands.unpacked()
    assert (one.name, one.system, one.how) == ("small", "A Small One 1", "tar a:small.tar")
    assert userlands.root(one) == made.root
    assert said[-1].startswith("the userland 'small' is ready: A Small One 1 (")

    said.clear()
    assert userlands.from_tar("small", file) == userlands.get("small") == made
    assert said == []


@as_root
def test_file_capabilities_stand_in_for_a_bit(userlands: UserlandStore, tmp_path: Path) -> None:
    """Fedora's newuidmap has no set-user-ID bit; its file capabilities survive tar(1) in a GNU tar."""
    root = tmp_path / "root"
    root.mkdir()
    plain = packed(tmp_path / "plain.tar", distribution(without="newuidmap"))
    subprocess.run(["tar", "--extract", f"--file={plain}", f"--directory={root}"], check=True)
    program = root / "usr/bin/newuidmap"
    program.touch(0o755)
    file = tmp_path / "small.tar"
    pack = ["tar", "--create", "--xattrs", "--xattrs-include=*", f"--file={file}", f"--directory={root}", "."]
    subprocess.run(pack, check=True)
    with pytest.raises(UsageError, match="lacks") as caught:
        userlands.from_tar("small", file)
    assert caught.value.evidence["missing"] == "the set-user-ID bit or the file capabilities of newuidmap"

    # cap_setuid=ep, see struct vfs_cap_data of linux/capability.h
    os.setxattr(program, "security.capability", bytes.fromhex("0100000280000000000000000000000000000000"))
    subprocess.run(pack, check=True)
    made = userlands.from_tar("small", file)
    assert os.getxattr(made.file("/usr/bin/newuidmap"), "security.capability")


@as_root
def test_the_same_name_for_another_tar(userlands: UserlandStore, tmp_path: Path) -> None:
    """A name that a run has used means the same until somebody removes it."""
    first = userlands.from_tar("small", packed(tmp_path / "one.tar", distribution()))
    other = packed(tmp_path / "two.tar", distribution(entry("./etc/other")))
    with pytest.raises(UsageError, match=r"another userland 'small' already, made of the tar one\.tar"):
        userlands.from_tar("small", other)
    assert userlands.get("small") == first

    userlands.remove("small")
    assert left(userlands) == []
    assert userlands.from_tar("small", other).root != first.root


BAD: dict[str, tuple[Callable[[Path], object], str]] = {
    # what is wrong: the file's maker, what the error says
    "no tar": (lambda file: file.write_text("hello\n"), "does not look like a tar archive"),
    "an empty file": (lambda file: file.touch(), "does not look like a tar archive"),
    "half a tar": (
        lambda file: os.truncate(packed(file, distribution(entry("./x", content=bytes(9999)))), 16000),
        "Unexpected EOF",
    ),
    "no podman": (lambda file: packed(file, distribution(without="podman")), "podman"),
    "a name with ..": (lambda file: packed(file, [*distribution(), entry("./../escaped")]), "'..'"),
    "a hard link out": (
        lambda file: packed(file, distribution(entry("./x", type=tarfile.LNKTYPE, linkname="../../../escaped"))),
        "x: Cannot hard link",
    ),
    "a folder": (lambda file: file.mkdir(), "not a regular file"),
    "a FIFO": (lambda file: os.mkfifo(file), "not a regular file"),
    "nothing": (lambda file: None, "can't be read: No such file"),
}


@as_root
@pytest.mark.parametrize("what", BAD)
def test_a_bad_tar(userlands: UserlandStore, tmp_path: Path, what: str) -> None:
    """The error names the file and shows tar's own words; nothing is left of it, inside or outside."""
    make, shown = BAD[what]
    file = tmp_path / "given.tar"
    make(file)
    before = sorted(tmp_path.glob("*"))
    with pytest.raises(UsageError) as caught:
        userlands.from_tar("small", file)

    assert shown in str(caught.value)
    assert left(userlands) == []
    assert sorted(path for path in tmp_path.glob("*") if path.name != "cache") == before


@as_root
def test_all_that_is_missing_is_told_at_once(userlands: UserlandStore, tmp_path: Path) -> None:
    """A tar of something else, a container image without systemd, say."""
    with pytest.raises(UsageError) as caught:
        userlands.from_tar("small", packed(tmp_path / "small.tar", [entry("./bin/sh")]))

    missing = caught.value.evidence["missing"].splitlines()
    assert missing[0] == "systemd (/lib/systemd/systemd or /usr/lib/systemd/systemd)"
    assert {"podman", "socat", "curl", "newuidmap", "newgidmap"} <= set(missing)
    assert "sh" not in missing


@as_root
def test_absolute_names(userlands: UserlandStore, tmp_path: Path) -> None:
    """They land below the root."""
    outside = tmp_path / "outside"
    file = packed(tmp_path / "small.tar", distribution(entry(f"{outside}/absolute")))
    made = userlands.from_tar("small", file)

    assert made.file(f"{outside}/absolute").exists()
    assert not outside.exists()


@as_root
def test_a_file_behind_a_link(userlands: UserlandStore, tmp_path: Path) -> None:
    """Nothing is written through a link that leads out."""
    outside = tmp_path / "outside"
    outside.mkdir()
    entries = distribution(link("./through", os.fspath(outside)), entry("./through/written"))
    with pytest.raises(UsageError, match="through/written"):
        userlands.from_tar("small", packed(tmp_path / "small.tar", entries))

    assert list(outside.iterdir()) == []


# -- ends in the middle ------------------------------------------------------------------------------------------------

#: Unpacks a tar below a cache; `slow` in its first argument makes the look at the files last.
MAKER = """
import sys, time
from pathlib import Path
from harness.userlands import store
if sys.argv[1] == "slow":
    store.lacking = lambda userland: print("filled", flush=True) or time.sleep(60)
print(store.UserlandStore(Path(sys.argv[2])).from_tar("small", Path(sys.argv[3])).root, flush=True)
"""


def maker(how: str, userlands: UserlandStore, file: Path) -> subprocess.Popen[str]:
    """Start a process that unpacks a tar into the store."""
    # A shell lets what runs in its background ignore SIGINT, and so do its children.
    python = ["env", "--default-signal=INT", sys.executable]
    command = [*python, "-c", MAKER, how, os.fspath(userlands.folder.parent), os.fspath(file)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@as_root
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL], ids=lambda number: number.name)
def test_an_interrupted_making(userlands: UserlandStore, tmp_path: Path, number: signal.Signals) -> None:
    """What is half made counts as nothing, and is gone at the latest when the next is made."""
    file = packed(tmp_path / "small.tar", distribution())
    with maker("slow", userlands, file) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "filled\n"
        process.send_signal(number)
        process.communicate(timeout=20)

    assert userlands.unpacked() == ()
    assert [name.endswith(".new") for name in left(userlands)] == [True] * (number is signal.SIGKILL)
    with pytest.raises(UsageError, match="no userland 'small'"):
        userlands.get("small")

    made = userlands.from_tar("small", file)
    assert left(userlands) == [made.root.parent.name]


@as_root
def test_a_killed_run_leaves_no_process(tmp_path: Path) -> None:
    """The tool that fills the folder, and all that it has started, end with the harness."""
    tool = shell(f"sleep 60 & readlink /proc/self/ns/pid > {tmp_path}/there; sleep 60")
    command = f"from harness.userlands import unpack; unpack._run('a tool', {tool!r}, print)"
    with subprocess.Popen([sys.executable, "-c", command]) as process:
        wait_until(lambda: namespace(tmp_path), bool, Deadline.after(20), "the tool")
        assert len(inside(namespace(tmp_path))) >= 2
        process.kill()

    wait_until(lambda: inside(namespace(tmp_path)), lambda pids: not pids, Deadline.after(20), "the end of all")


def namespace(folder: Path) -> str:
    """Return the process namespace of the tool above, once it is there."""
    file = folder / "there"
    return file.read_text(encoding="ascii").strip() if file.exists() else ""


def inside(name: str) -> list[str]:
    """Return the processes of a process namespace."""
    found = []
    # Not by Path.glob(): it raises an error for a process that ends while it looks.
    for folder in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if folder.name.isdecimal() and os.fspath((folder / "ns/pid").readlink()) == name:
                found.append(folder.name)
    return found


@as_root
def test_two_makers_at_once(userlands: UserlandStore, said: list[str], tmp_path: Path) -> None:
    """The second waits, and takes what the first has made."""
    file = packed(tmp_path / "small.tar", distribution())
    with ThreadPoolExecutor(4) as pool:
        made = [pool.submit(UserlandStore(tmp_path / "cache", said.append).from_tar, "small", file) for _ in range(4)]

    assert len({one.result() for one in made}) == 1
    assert len([line for line in said if line.startswith("unpack")]) == 1
    assert left(userlands) == [made[0].result().root.parent.name]


@as_root
def test_a_second_maker_says_what_it_waits_for(userlands: UserlandStore, said: list[str], tmp_path: Path) -> None:
    """A person is not left to wonder."""
    file = packed(tmp_path / "small.tar", distribution())
    with maker("slow", userlands, file) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "filled\n"

        def tell(line: str) -> None:
            said.append(line)
            process.kill()

        UserlandStore(tmp_path / "cache", tell).from_tar("small", file)

    assert said[0] == "wait for another run that makes userlands (small, 2 s)"


@as_root
def test_a_record_that_can_not_be_read(userlands: UserlandStore, tmp_path: Path) -> None:
    """Such a userland is made anew."""
    file = packed(tmp_path / "small.tar", distribution())
    made = userlands.from_tar("small", file)
    (made.root.parent / "userland.json").write_text("{", encoding="utf-8")
    made.file("/usr/bin/podman").unlink()
    assert userlands.unpacked() == ()

    assert userlands.from_tar("small", file) == made
    assert made.file("/usr/bin/podman").exists()
    assert left(userlands) == [made.root.parent.name]
