"""A unit file as lines of sections, see systemd.syntax(7); nothing is expanded, and every setting keeps its line."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from harness.contract import UnitFolder


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting of a file."""

    file: str
    #: Number of its first line, from 1 on.
    line: int
    section: str
    key: str
    value: str


@dataclass(frozen=True, slots=True)
class Unit:
    """A unit with its drop-ins."""

    #: The file's name, such as `web.socket`.
    name: str
    settings: tuple[Setting, ...]

    @property
    def stem(self) -> str:
        """The name without its ending."""
        return self.name.rpartition(".")[0]

    @property
    def kind(self) -> str:
        """The ending, without its dot."""
        return self.name.rpartition(".")[2]

    def all(self, section: str, *keys: str) -> tuple[Setting, ...]:
        """Return the settings of that name, without those that a later empty one takes back."""
        found: list[Setting] = []
        for setting in self.settings:
            if setting.section == section and setting.key in keys:
                if not setting.value:
                    found = [one for one in found if one.key != setting.key]
                else:
                    found.append(setting)
        return tuple(found)

    def last(self, section: str, key: str) -> Setting | None:
        """Return the setting that counts where only one can."""
        return next(reversed(self.all(section, key)), None)

    def words(self, section: str, *keys: str) -> set[str]:
        """Return the words of settings that are lists."""
        return {word for setting in self.all(section, *keys) for word in setting.value.split()}

    @property
    def first(self) -> Setting:
        """Where something is said of the unit as a whole."""
        return next(iter(self.settings), Setting(self.name, 1, "", "", ""))


def units(folder: UnitFolder) -> Mapping[str, Unit]:
    """Return name -> unit, with its drop-ins behind the file, in the order of their names."""
    plain = {name: text for name, text in folder.files.items() if "/" not in name}
    found = {name: [*_settings(name, text)] for name, text in plain.items()}
    for name, text in sorted(folder.files.items()):
        unit, slash, _file = name.partition("/")
        if slash:
            found.setdefault(unit.removesuffix(".d"), []).extend(_settings(name, text))
    return {name: Unit(name, tuple([*_of_the_template(name, plain), *settings])) for name, settings in found.items()}


def template(name: str) -> str:
    """Return the name of the template that an instance is made of; "" for what is no instance."""
    before, at, after = name.partition("@")
    return f"{before}@.{after.rpartition('.')[2]}" if at and not after.startswith(".") else ""


def _of_the_template(name: str, plain: Mapping[str, str]) -> Iterator[Setting]:
    """Yield the settings of an instance that has no file of its own."""
    of = template(name)
    if name not in plain and of in plain:
        yield from _settings(of, plain[of])


def _settings(file: str, text: str) -> Iterator[Setting]:
    section, began, whole = "", 0, ""
    for number, line in enumerate(text.splitlines(), 1):
        if whole and line.lstrip().startswith(("#", ";")):
            continue  # a comment among lines that go on
        began = began if whole else number
        whole += line
        if line.endswith("\\"):
            whole = whole[:-1] + " "
            continue
        stripped, whole = whole.strip(), ""
        if found := re.fullmatch(r"\[([^\]]+)\]", stripped):
            section = found[1]
        elif stripped and not stripped.startswith(("#", ";")) and "=" in stripped:
            key, _equals, value = stripped.partition("=")
            yield Setting(file, began, section, key.strip(), value.strip())


#: `# sah: ignore SA012 -- reason`: a finding that somebody has looked at.
_IGNORED = re.compile(r"^\s*[#;]\s*sah:\s*ignore\s+(SA\d{3}(?:\s*,\s*SA\d{3})*)\s*--\s*(\S.*)$", re.MULTILINE)


def ignored(text: str) -> dict[str, str]:
    """Return rule -> the reason why it is not for this file; without a reason nothing is ignored."""
    return {rule.strip(): found[2].strip() for found in _IGNORED.finditer(text) for rule in found[1].split(",")}
