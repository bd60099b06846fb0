"""What the name of an image says: where the image is, see containers-transports(5)."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Self


class Source(StrEnum):
    """Where an image is, as what stands before the first colon says."""

    #: The harness's store, the caller's own podman, or a registry.
    ANYWHERE = ""
    REGISTRY = "docker"
    DOCKER_ARCHIVE = "docker-archive"
    OCI_ARCHIVE = "oci-archive"
    DOCKER = "docker-daemon"

    @property
    def is_archive(self) -> bool:
        """Whether the image is in a file."""
        return self in (Source.DOCKER_ARCHIVE, Source.OCI_ARCHIVE)


#: Transports of containers-transports(5) that nothing here reads.
_OTHERS = frozenset({"containers-storage", "dir", "oci", "ostree", "sif", "tarball"})


@dataclass(frozen=True, slots=True)
class ImageReference:
    """The name of an image, taken apart."""

    source: Source
    #: The image's name, also within an archive; empty for an archive's only image.
    name: str
    #: The file of an archive, else empty.
    file: str = ""

    @classmethod
    def parse(cls, text: str) -> Self:
        """Take a name apart; raise ValueError with what is allowed."""
        head, colon, rest = text.partition(":")
        if text.startswith("-") or re.search(r"[\s\0]", text) or not text:
            raise ValueError("allowed is the name of an image, such as 'localhost/echo:latest'")
        if not colon or head not in (*Source, *_OTHERS):
            if colon and re.fullmatch(r"[a-z][a-z-]*", head) and rest.startswith("/"):
                raise ValueError(_unknown(head))
            return cls(Source.ANYWHERE, text)
        if head in _OTHERS:
            raise ValueError(_unknown(head))
        source = Source(head)
        if source.is_archive:
            file, _, name = rest.partition(":")
            if not file:
                raise ValueError(f"'{head}:' takes a file, such as '{head}:image.tar'")
            return cls(source, name, file)
        name = rest.removeprefix("//")
        if not name or name.startswith("-") or (source is Source.REGISTRY) is not rest.startswith("//"):
            slashes = "//" if source is Source.REGISTRY else ""
            raise ValueError(f"'{head}:' takes a name, such as '{head}:{slashes}docker.io/library/nginx:latest'")
        return cls(source, name)

    def below(self, folder: Path) -> Self:
        """Return the same with the path of an archive, which may be relative to `folder`, made absolute."""
        return replace(self, file=os.fspath((folder / self.file).absolute())) if self.file else self

    @property
    def registry(self) -> str:
        """The registry of a name, as `podman login` knows it; "" where the name says none."""
        first, slash, _ = self.name.partition("/")
        return first if slash and (re.search(r"[.:]", first) or first == "localhost") else ""

    def __str__(self) -> str:
        ending = f":{self.name}" if self.file and self.name else "" if self.file else self.name
        slashes = "//" if self.source is Source.REGISTRY else ""
        return f"{self.source}{':' if self.source else ''}{slashes}{self.file}{ending}"


def _unknown(head: str) -> str:
    known = ", ".join(f"'{source}:'" for source in Source if source)
    return f"the transport '{head}:' is none that can be read; known are {known}, and names without one"
