"""What one pytest process has: options, contracts, images and, of each userland, capabilities and a live session."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from functools import cached_property

from harness import bases, contract, leaks
from harness.activation import Activation, activations
from harness.bases import Base
from harness.cache import default_folder
from harness.capabilities import Capabilities, Capability
from harness.contract import ClientImage, Contract
from harness.errors import HarnessError, UsageError
from harness.guest import inside, plan
from harness.guest.plan import Plan
from harness.images import Image, ImageStore
from harness.machine import Machine
from harness.options import Options
from harness.progress import Progress
from harness.session import opening
from harness.session.session import Session
from harness.transports import ROWS, Transport
from harness.userland import Userland
from harness.userland.store import UserlandStore


class Runtime:
    """Everything that is made once per process and userland, each thing at its first use."""

    def __init__(
        self,
        options: Options,
        progress: Progress,
        base: Base | None = None,
        store: ImageStore | None = None,
        name: str = "",
    ) -> None:
        self.options = options
        #: Name of the userland, by default the first of those that were asked for.
        self.name = name or options.userlands[0]
        #: Tells a person what takes so long.
        self.progress = progress
        self.machine = Machine(patience=max(1.0, options.timeout_scale))
        self.store = store or ImageStore(default_folder(), progress)
        #: The contracts and activations whose layers have been tried after a failure.
        self.bisected: set[tuple[str, str]] = set()
        self._given_base = base
        self._images: dict[str, Image | HarnessError] = {}
        self._stack = contextlib.ExitStack()
        self._session: Session | None = None

    def beside(self, name: str) -> Runtime:
        """Return the same for another userland; what does not depend on it is shared."""
        other = Runtime(self.options, self.progress, self._given_base, self.store, name)
        other._images = self._images
        return other

    @cached_property
    def userland(self) -> Userland:
        """The userland that sessions have, unpacked at its first use; raises UsageError for one that is not known."""
        own = inside.userland()
        return own if self.name == own.name else UserlandStore(default_folder(), self.progress).get(self.name)

    @cached_property
    def capabilities(self) -> Capabilities:
        """What the machine can do with the userland."""
        return Capabilities(self.machine, self.userland)

    def has_program(self, name: str) -> bool:
        """Whether a session finds a program."""
        return self.machine.within(self.userland).program(name) is not None

    @cached_property
    def contracts(self) -> dict[str, Contract]:
        """Name -> contract; raises ContractError or UsageError with all mistakes."""
        found = {item.name: item for item in contract.load_all(list(self.options.contracts))}
        for option, given in (("--harness-image", self.options.images), ("--harness-baseline", self.options.baselines)):
            if unknown := sorted(set(given).difference(found)):
                raise UsageError(
                    f"{option} names '{', '.join(unknown)}', of which there is no contract.",
                    remedy=f"Known are: {', '.join(found) or 'none'}.",
                )
        return found

    @cached_property
    def activations(self) -> dict[str, Activation]:
        """Name -> activation, those that were asked for, else all that the userland is capable of."""
        asked = self.options.activations
        return {name: activations()[name] for name in asked} if asked else possible(self.capabilities)

    @property
    def left_out(self) -> dict[str, Capability]:
        """Name -> what is lacking for it, of the activations that nobody asked for and the userland can't do."""
        if self.options.activations:
            return {}
        needs = {name: map(self.capabilities.get, item.needs) for name, item in activations().items()}
        lacking = {name: next((need for need in found if not need.present), None) for name, found in needs.items()}
        return {name: need for name, need in lacking.items() if need}

    @cached_property
    def base(self) -> Base:
        """What images are built on: as asked for, as told by xdist's controller, as before, or as found out."""
        return self.options.base or self._given_base or self.store.known_base() or bases.choose()

    @cached_property
    def lacking(self) -> frozenset[Transport]:
        """The transports that no client of this machine can use."""
        return lacking(self.capabilities)

    @cached_property
    def guest(self) -> Plan:
        """Whether a guest kernel can do what this machine's can't."""
        return plan.choose(self.options.guest, self.options.guest_engine, self.options.guest_kernel)

    def image(self, name: str) -> Image:
        """Return the image of the contract `name`, built or fetched at its first use; a failure is remembered, too."""
        given = self.options.images.get(name, "")
        return self._remembered(given or name, lambda: self.store.chosen(self.contracts[name], given, self.base))

    def baseline(self, name: str) -> Image | None:
        """Return the image that the one of the contract `name` is measured against, None where there is none."""
        if reference := self.options.baselines.get(name):
            return self._remembered(reference, lambda: self.store.existing(name, reference))
        return None

    def _remembered(self, key: str, make: Callable[[], Image]) -> Image:
        if key not in self._images:
            try:
                self._images[key] = make()
            except HarnessError as error:
                self._images[key] = error
        found = self._images[key]
        if isinstance(found, HarnessError):
            raise found.with_traceback(None)  # each raise adds to the one that it has
        return found

    def quiet_session(self) -> contextlib.AbstractContextManager[Session]:
        """Open a session of its own for a measurement."""
        self._require_all()
        return self._opened()

    def _opened(self) -> contextlib.AbstractContextManager[Session]:
        return opening.testing(self.store.graph, userland=self.userland)

    def _require_all(self) -> None:
        for group in self.capabilities.lacking():
            self.capabilities.require(*group)
        self.store.ready()

    def client_images(self, name: str) -> dict[ClientImage, str]:
        """Return how podman knows the images of a contract's client programs, made at their first use."""
        return self.store.clients(self.contracts[name], self.base)

    def make_images(self, name: str) -> None:
        """Make every image that tests of the contract `name` may need."""
        self.image(name)
        self.client_images(name)

    @property
    def live_session(self) -> Session | None:
        """The session of this process, if it has one by now."""
        return self._session

    def session(self) -> Session:
        """Return the live session of this process, opened at its first use; raise CapabilityMissing or SessionError."""
        if self._session is None:
            leaks.sweep()
            self._require_all()
            self._session = self._stack.enter_context(self._opened())
        return self._session

    def keep_session(self) -> str:
        """Let the session outlive this process, and return how to enter it; the next test gets a new one."""
        if self._session is None:
            return ""
        session, self._session = self._session, None
        session.keep()
        return session.entry

    def close(self) -> None:
        """End the session."""
        self._session = None
        self._stack.close()


def lacking(capabilities: Capabilities) -> frozenset[Transport]:
    """Return the transports that no client of this machine can use."""
    return frozenset(
        transport for transport, row in ROWS.items() if row.capability and not capabilities.has(row.capability)
    )


def possible(capabilities: Capabilities) -> dict[str, Activation]:
    """Return name -> activation of all that the userland is capable of."""
    return {name: item for name, item in activations().items() if all(map(capabilities.has, item.needs))}
