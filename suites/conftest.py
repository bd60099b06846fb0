"""The two images of the tutorial."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from harness.images import Image


@pytest.fixture
def echo_image(image_of: Callable[[str], Image]) -> Image:
    """The echo server, in place of the tutorial's ghcr.io/eriksjolund/socket-activate-echo."""
    return image_of("echo")


@pytest.fixture
def httpd_image(image_of: Callable[[str], Image]) -> Image:
    """The Apache HTTP server, in place of the tutorial's localhost/socket-activate-httpd."""
    return image_of("httpd")
