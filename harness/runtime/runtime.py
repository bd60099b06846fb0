"""What one process has: settings, contracts, images and, of each userland, capabilities and a live session."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property, partial
from types import TracebackType
from typing import Self

from harness import contract
from harness.activation import Activation, activations, activations_for, named, refuse_other, shipped
from harness.activation.service import Service, open_services
from harness.capabilities.table import Capabilities, Capability
from harness.contract import ClientImage, Contract, UnitFolder, units
from harness.core.cache import default_folder
from harness.core.errors import HarnessError, UsageError
from harness.core.machine import Machine
from harness.core.progress import Progress, silent
from harness.core.transports import ROWS, Transport
from harness.core.userland import HOST, Userland
from harness.guest.engines import select
from harness.guest.engines.select import Plan
from harness.images import bases
from harness.images.bases import Base
from harness.images.store import Image, ImageStore, containerfile
from harness.results.record import Role
from harness.runtime import leaks
from harness.runtime.settings import Settings
from harness.session import factory
from harness.session.session import Session
from harness.session.spec import Bind
from harness.userlands.store import UserlandStore


class Runtime:
    """Everything that is made once per process and userland, each thing at its first use."""

    def __init__(
        self,
        settings: Settings,
        progress: Progress = silent,
        base: Base | None = None,
        store: ImageStore | None = None,
        name: str = "",
        own: Userland = HOST,
    ) -> None:
        self.settings = settings
        #: Name of the userland, by default the first of those that were asked for.
        self.name = name or settings.userlands[0]
        #: Tells a person what takes so long.
        self.progress = progress
        self.machine = Machine(patience=max(1.0, settings.timeout_scale))
        self.store = store or ImageStore(default_folder(), progress, settings.build_network)
        #: The contracts and activations whose layers have been tried after a failure.
        self.bisected: set[tuple[str, str]] = set()
        #: Contract, activation, transport -> why the first client was not answered.
        self.cold_failures: dict[tuple[str, str, str], str] = {}
        self._given_base = base
        self._own = own
        self._images: dict[str, Image | HarnessError] = {}
        self._stack = contextlib.ExitStack()
        self._session: Session | None = None

    def beside(self, name: str) -> Runtime:
        """Return the same for another userland; what does not depend on it is shared."""
        other = Runtime(self.settings, self.progress, self._given_base, self.store, name, self._own)
        other._images = self._images
        return other

    @cached_property
    def userland(self) -> Userland:
        """The userland that sessions have, unpacked at its first use; raises UsageError for one that is not known."""
        if self.name == self._own.name:
            return self._own
        return UserlandStore(default_folder(), self.progress).get(self.name)

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
        found = {item.name: item for item in contract.load_all(list(self.settings.contracts))}
        for path in self.settings.units:
            made = self._of_units(units.read(path, self.settings.instances, self.settings.binds))
            if found.setdefault(made.name, made) is not made:
                raise UsageError(f"The folder '{path}' has the name of another contract, '{made.name}'.")
        given = {*self.settings.images, *self.settings.baselines}
        named = {*found, *(name for item in found.values() if item.units for name in item.units.images_with(given))}
        for option, references in (
            ("--harness-image", self.settings.images),
            ("--harness-baseline", self.settings.baselines),
        ):
            if unknown := sorted(set(references).difference(named)):
                names = "', '".join(unknown)
                raise UsageError(
                    f"{option}: no contract is named '{names}'.",
                    hint=f"Known contracts: {', '.join(found) or 'none'}.",
                )
        return found

    def _of_units(self, folder: UnitFolder) -> Contract:
        """Return the contract of unit files, whose sockets are asked of systemd; it has them for a moment."""
        with shipped.loaded(self.session(), folder) as listening:
            made = units.contract_of(folder, listening)
            shipped.refuse_endless(self.session(), folder, made)
        return made

    def contract(self, name: str) -> Contract:
        """Return the contract `name`; raise UsageError where the run has none such."""
        if name not in self.contracts:
            raise UsageError(
                f"This run has no contract '{name}'.",
                hint="A test that takes the contract from a fixture made by contract_fixture is deselected then.",
            )
        return self.contracts[name]

    @cached_property
    def activations(self) -> dict[str, Activation]:
        """Name -> activation, those that were asked for, else all that the userland is capable of."""
        asked = self.settings.activations
        return {name: activations()[name] for name in asked} if asked else possible(self.capabilities)

    def activation(self, name: str) -> Activation:
        """Return an activation, whether this run was asked for it or not; raise CapabilityMissing where it can't be."""
        found = named(name)
        self.capabilities.require(*found.needs)
        return found

    def activations_for(self, of: Contract) -> Mapping[str, Activation]:
        """Return name -> activation of those that are for a contract."""
        return activations_for(of, self.activations)

    @property
    def left_out(self) -> dict[str, Capability]:
        """Name -> what is lacking for it, of the activations that nobody asked for and the userland can't do."""
        if self.settings.activations:
            return {}
        needs = {name: map(self.capabilities.get, item.needs) for name, item in activations().items()}
        lacking = {name: next((need for need in found if not need.present), None) for name, found in needs.items()}
        return {name: need for name, need in lacking.items() if need}

    @cached_property
    def base(self) -> Base:
        """What images are built on: as asked for, as told by xdist's controller, as before, or as found out."""
        return self.settings.base or self._given_base or self.store.known_base() or bases.choose()

    @cached_property
    def lacking(self) -> frozenset[Transport]:
        """The transports that no client of this machine can use."""
        return lacking(self.capabilities)

    @cached_property
    def guest(self) -> Plan:
        """Whether a guest kernel can do what this machine's can't."""
        return select.choose(self.settings.guest, self.settings.guest_engine, self.settings.guest_kernel)

    def image(self, of: Contract | str) -> Image:
        """Return the image of a contract, or of that name's, built or fetched at its first use.

        A failure is remembered, too.
        """
        wanted = self.contract(of) if isinstance(of, str) else of
        if wanted.units:
            return next(iter(self.unit_images(wanted, wanted.units).values()))
        given = self.settings.images.get(wanted.name, "")
        key = given or f"{wanted.folder / (wanted.image.reference or wanted.image.containerfile)}"
        return self._remembered(key, lambda: self.store.chosen(wanted, given, self.base))

    def unit_images(self, of: Contract, folder: UnitFolder) -> dict[str, Image]:
        """Return what unit files call an image -> that image; raise UsageError where they name none."""
        found = {
            name: self._remembered(f"{folder.path}: {name}", partial(self._unit_image, of, name, source))
            for name, source in folder.images_with(self.settings.images).items()
        }
        if not found:
            raise UsageError(
                f"The unit files in '{folder.path}' name no image that is known.",
                hint=f"Put a Containerfile into '{units.IMAGES}/NAME' beside them, or say --harness-image NAME=IMAGE.",
            )
        return found

    def _unit_image(self, of: Contract, name: str, source: str) -> Image:
        """Return an image that unit files name: the one that was given, built from beside them, or fetched."""
        given = self.settings.images.get(name, "")
        if source and not given:
            file = containerfile(of, self.base, f"{units.IMAGES}/{source}/Containerfile")
            return self.store.built(f"{of.name}-{source}", file, self.base)
        return self.store.existing(f"{of.name}-{contract.name_of(name)}", given or name)

    def measured(self, contract: Contract) -> dict[str, Image]:
        """Return role -> image, of the candidate and, where this run was given one, its baseline."""
        images: dict[str, Image] = {Role.CANDIDATE: self.image(contract)}
        if reference := self.settings.baselines.get(contract.name):
            made = self._remembered(reference, lambda: self.store.existing(contract.name, reference))
            images[Role.BASELINE] = made
        return images

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

    @contextlib.contextmanager
    def service(
        self,
        contract: Contract,
        activation: Activation | str = "",
        image: Image | None = None,
        session: Session | None = None,
    ) -> Iterator[Service]:
        """Activate a contract's image, or another one, in the live session or in `session`; it listens.

        Without an `activation` it is `unit`, or the only one that is for the contract. Raises ImageError, SessionError,
        UsageError for an activation that is not, and CapabilityMissing when this machine has no client for any of its
        sockets.
        """
        images = {"": image or self.image(contract)}
        activation = activation or next(iter(activations_for(contract, {"unit": named("unit")})))
        with self.services(contract, images, activation, session or self.session()) as services:
            services[""].start_listening()
            yield services[""]

    def services(
        self, contract: Contract, images: Mapping[str, Image], activation: Activation | str, session: Session
    ) -> contextlib.AbstractContextManager[dict[str, Service]]:
        """Install one contract's service once per image, at the same addresses; none of them listens yet."""
        way = self.activation(activation) if isinstance(activation, str) else activation
        refuse_other(contract, way)
        clients = self.client_images(contract)
        files = self.unit_images(contract, contract.units) if contract.units else {}
        aliases = {name: image.id for name, image in files.items()}
        scale = self.settings.timeout_scale
        return open_services(session, contract, images, way, self.lacking, scale, clients, aliases)

    def quiet_session(self) -> contextlib.AbstractContextManager[Session]:
        """Open a session of its own for a measurement."""
        self._require_all()
        return self._opened()

    def _opened(self) -> contextlib.AbstractContextManager[Session]:
        # In a guest, which has another machine's folders, podman says that one is missing.
        there = (os.fspath(folder) for folder in self.settings.binds if folder.is_dir())
        binds = (Bind(folder, folder) for folder in there)
        return factory.open_session(self.store.graph, *binds, userland=self.userland, bounds=self.settings.bounds)

    def _require_all(self) -> None:
        for group in self.capabilities.lacking():
            self.capabilities.require(*group)
        self.store.ready()

    def client_images(self, contract: Contract) -> dict[ClientImage, str]:
        """Return how podman knows the images of a contract's client programs, made at their first use."""
        return self.store.clients(contract, self.base) if contract.clients else {}

    def make_images(self, name: str) -> None:
        """Make every image that tests of the contract `name` may need."""
        self.image(name)
        self.client_images(self.contract(name))

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

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def lacking(capabilities: Capabilities) -> frozenset[Transport]:
    """Return the transports that no client of this machine can use."""
    return frozenset(
        transport for transport, row in ROWS.items() if row.capability and not capabilities.has(row.capability)
    )


def possible(capabilities: Capabilities) -> dict[str, Activation]:
    """Return name -> activation of all that the userland is capable of."""
    return {name: item for name, item in activations().items() if all(map(capabilities.has, item.needs))}
