"""What a coordinator looks at while it is up: the enrolled, the runs, the certificate, the room that is left."""

import logging
import shutil
import time
from collections.abc import Callable
from typing import Protocol

from app.deploy.control import Control, control
from app.deploy.coordinator import Coordinator
from app.deploy.enrolment import enrolled
from app.deploy.errors import DeployError
from app.deploy.issued import list_file
from app.deploy.leftovers import destroyed
from app.deploy.receipts import Receipts, outcome_facts
from app.files import write_json

log = logging.getLogger(__name__)

ASK_SECONDS = 3.0
"""Between questions to the SuperLink."""

LITTLE_ROOM_MB = 200.0
"""Where Flower's state lies; with less, the next models may not fit."""

Say = Callable[[str], None]


class Watched(Protocol):
    """A running coordinator."""

    @property
    def coordinator(self) -> Coordinator:
        """Its folder."""

    def check(self) -> None:
        """Raise DeployError where a part of it has ended."""

    def revive(self) -> str:
        """Start again what ended and can be started again. Returns what is new of it."""

    def reload(self) -> None:
        """Have the proxy read its certificate again."""


class Watch:
    """Looks, once a second, at what may have changed: the enrolled, the runs, the certificate."""

    def __init__(self, started: Watched, say: Say) -> None:
        self._started, self._say = started, say
        self._stamps = self._stamped()
        self._online: dict[str, bool] = {}
        self._running: set[int] = set()
        self._receipts = Receipts(started.coordinator)
        self._asked = float("-inf")
        self._is_tight = False
        self._trouble = ""
        self._dirty = False
        """Whether Flower's state may hold what hospitals sent, with no run that needs it."""

    def look(self) -> None:
        """One look. Raises DeployError where SuperLink or proxy has ended."""
        self._started.check()
        if news := self._started.revive():
            self._say(news)
        stamps, now = self._stamped(), time.monotonic()
        if stamps[0] != self._stamps[0] or now - self._asked > ASK_SECONDS:
            self._asked = now
            self._ask()
            self._room()
        if stamps[1:] != self._stamps[1:]:
            self._started.reload()
        if stamps[1] != self._stamps[1]:
            self._say("the new server certificate is in use")
        self._stamps = stamps

    def _ask(self) -> None:
        try:
            with control(self._started.coordinator) as flower:
                self._hospitals(flower)
                self._runs(flower)
        except DeployError as error:
            # A busy SuperLink may be slow to answer; one that ended is seen by `check`.
            log.warning("%s", error)
        except OSError as error:
            # A full disk: what could not be written down is seen again at the next look.
            self._complain(str(error))
        else:
            self._trouble = ""

    def _complain(self, trouble: str) -> None:
        if trouble != self._trouble:
            self._trouble = trouble
            self._say(f"cannot write: {trouble}; free some space, the run can be resumed")

    def _hospitals(self, flower: Control) -> None:
        names = {member.spki: member.hospital for member in enrolled(self._started.coordinator)}
        nodes = flower.nodes()
        if {node.key for node in nodes} != names.keys():
            for line in register(self._started.coordinator, flower):
                self._say(line)
        online = {names[node.key]: node.is_online for node in nodes if node.key in names}
        for name in sorted(online):
            if online[name] != self._online.get(name, False):
                self._say(f"{name} is {'online' if online[name] else 'offline'}")
        self._online = online

    def _runs(self, flower: Control) -> None:
        for run in flower.runs():
            facts = {"run": str(run.id), "folder": run.run_dir}
            if run.is_over and run.id in self._running:
                self._receipts.take(**facts)
                self._started.coordinator.record("run-ended", status=run.status, **facts, **outcome_facts(run.run_dir))
                self._running.discard(run.id)
                self._dirty = True
                self._say(f"run {run.id} ended: {run.status}")
            elif not run.is_over and run.id not in self._running:
                self._started.coordinator.record("run-seen", bundle=run.bundle, **facts)
                self._running.add(run.id)
                self._say(f"run {run.id} began, bundle {run.bundle[:16]}")
            elif not run.is_over:
                self._receipts.take(**facts)
        if self._dirty and not self._running:
            self._destroy()

    def _room(self) -> None:
        place = self._started.coordinator.state_dir
        free_mb = shutil.disk_usage(place).free / 1e6
        if (free_mb < LITTLE_ROOM_MB) != self._is_tight:
            self._is_tight = not self._is_tight
            what = "where Flower keeps what hospitals send until a run ends"
            remedy = "free some, then resume the run" if self._is_tight else "that is enough"
            self._say(f"{free_mb:.0f} MB are left in {place.parent}, {what}: {remedy}")

    def _destroy(self) -> None:
        if destroyed(self._started.coordinator.database):
            self._dirty = False
            self._started.coordinator.record("updates-destroyed")
            self._say("what hospitals sent is destroyed")

    def _stamped(self) -> tuple[int, int, int]:
        """When the enrolled, the server's certificate and the list of withdrawn ones last changed."""
        coordinator = self._started.coordinator
        withdrawn = list_file(coordinator)
        return (
            coordinator.hospitals.stat().st_mtime_ns,
            coordinator.server.certificate.stat().st_mtime_ns,
            withdrawn.stat().st_mtime_ns if withdrawn.exists() else 0,
        )


def register(coordinator: Coordinator, flower: Control) -> list[str]:
    """Make the SuperLink's register the enrolled hospitals, and say in nodes.json which node is whom.

    Returns:
        What changed, a line each.
    """
    wanted = {member.spki: member.hospital for member in enrolled(coordinator)}
    nodes, said = flower.nodes(), []
    for node in nodes:
        if node.key not in wanted:
            flower.unregister(node.id)
            said.append(f"{node.name} is not enrolled any more and was shut out")
    known = {node.key: node.id for node in nodes if node.key in wanted}
    for key in wanted.keys() - known.keys():
        known[key] = flower.register(wanted[key], key)
        said.append(f"{wanted[key]} may connect")
    write_json(coordinator.nodes, {str(known[key]): name for key, name in wanted.items()})
    return said
