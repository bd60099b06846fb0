"""The names of images, taken apart."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.contract.reference import ImageReference, Source


@pytest.mark.parametrize(
    ("text", "source", "name", "file"),
    [
        ("echo", Source.ANYWHERE, "echo", ""),
        ("localhost/echo:latest", Source.ANYWHERE, "localhost/echo:latest", ""),
        ("localhost:5000/echo", Source.ANYWHERE, "localhost:5000/echo", ""),
        ("quay.io/a/b@sha256:0123", Source.ANYWHERE, "quay.io/a/b@sha256:0123", ""),
        ("docker://quay.io/a/b:1", Source.REGISTRY, "quay.io/a/b:1", ""),
        ("docker-archive:/a/b.tar", Source.DOCKER_ARCHIVE, "", "/a/b.tar"),
        ("docker-archive:b.tar:a/b:1", Source.DOCKER_ARCHIVE, "a/b:1", "b.tar"),
        ("oci-archive:b.tar", Source.OCI_ARCHIVE, "", "b.tar"),
        ("docker-daemon:a/b:1", Source.DOCKER, "a/b:1", ""),
    ],
)
def test_a_name_is_taken_apart(text: str, source: Source, name: str, file: str) -> None:
    found = ImageReference.parse(text)
    assert found == ImageReference(source, name, file)
    assert str(found) == text


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "allowed is the name of an image"),
        ("--root=/", "allowed is the name of an image"),
        ("a b", "allowed is the name of an image"),
        (
            "ftp://example.org/a",
            "'ftp:' is none that can be read; known are 'docker:', 'docker-archive:'",
        ),
        ("dir:/a", "the transport 'dir:' is none"),
        ("oci:/a:b", "the transport 'oci:' is none"),
        ("docker:a", "'docker:' takes a name, such as 'docker://docker.io"),
        ("docker://", "'docker:' takes a name"),
        ("docker://-x", "'docker:' takes a name"),
        ("docker-daemon:", "'docker-daemon:' takes a name, such as 'docker-daemon:docker.io"),
        ("docker-daemon:--format=x", "'docker-daemon:' takes a name"),
        ("docker-archive:", "'docker-archive:' takes a file"),
        ("oci-archive::name", "'oci-archive:' takes a file"),
    ],
)
def test_what_is_no_name_is_refused(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=r"\S") as caught:
        ImageReference.parse(text)
    assert said in str(caught.value)


def test_an_archive_is_below_the_folder_of_its_contract() -> None:
    assert ImageReference.parse("oci-archive:a.tar:b").below(Path("/x")).file == "/x/a.tar"
    assert ImageReference.parse("oci-archive:/a.tar").below(Path("/x")).file == "/a.tar"
    assert ImageReference.parse("a").below(Path("/x")).file == ""


@pytest.mark.parametrize(
    ("text", "registry"),
    [("a", ""), ("a/b", ""), ("quay.io/a", "quay.io"), ("localhost/a", "localhost"), ("docker://h:5/a", "h:5")],
)
def test_the_registry_of_a_name(text: str, registry: str) -> None:
    assert ImageReference.parse(text).registry == registry
