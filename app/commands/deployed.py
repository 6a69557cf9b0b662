"""A run over hospitals on their own machines, started at their coordinator."""

import json
from pathlib import Path

from app import flower
from app.commands.launch import Job, named
from app.config import compose
from app.deploy.control import control
from app.deploy.coordinator import SUPERLINK, Coordinator, open_coordinator
from app.deploy.enrolment import enrolled
from app.deploy.errors import DeployError
from app.deploy.serve import environment
from app.files import write_json
from app.fingerprint import config_hash
from app.processes import answers

SUBMITTED = "flower.json"
"""In a run folder: Flower's number of the run, to end it by."""


def deployed(superlink: str, overrides: list[str]) -> list[str]:
    """Overrides of a run at a coordinator: hospitals are those it enrolled, unless some of them are named.

    Raises:
        DeployError: a hospital is named that is not enrolled, or none is.
    """
    given = {override.partition("=")[0] for override in overrides}
    whole = [text for text in ("deploy=hospitals", "federation=enrolled") if text.partition("=")[0] not in given]
    # Hydra adds keys to a group only where it is told to.
    whole += [f"++{text}" if text.startswith("federation.hospitals=") else text for text in overrides]
    members = [member.hospital for member in enrolled(open_coordinator(Path(superlink)))]
    wanted = list(compose(whole)["federation"]["hospitals"])
    if strangers := sorted(set(wanted) - set(members)):
        raise DeployError(f"not enrolled: {', '.join(strangers)}; there are: {', '.join(members) or 'none'}")
    if not members:
        raise DeployError("no hospital is enrolled yet: fedvox coordinator enrol NAME PUBKEY")
    return whole if wanted else [*whole, *named(members)]


def run_at(superlink: str, job: Job, watch: flower.Watch) -> None:
    """Run a job at a coordinator.

    Raises:
        DeployError: the coordinator is not running.
        FlowerError: the run failed, or the coordinator ended; says how to go on.
    """
    coordinator, link = _link(superlink)
    try:
        flower.run(
            link,
            job.config,
            overrides=job.overrides,
            run_dir=job.folder.path,
            watch=watch,
            submitted=lambda run: _note(coordinator, job, run),
        )
    except flower.FlowerError as error:
        again = f"fedvox run --resume {job.folder.path} --superlink {coordinator.folder}"
        raise flower.FlowerError(f"{error}. Go on with: {again}") from error


def end_earlier(superlink: str, folder: Path) -> None:
    """End what a `fedvox run` that was killed has left going on at the coordinator. Raises DeployError."""
    if (noted := folder / SUBMITTED).exists():
        flower.stop(_link(superlink)[1], str(json.loads(noted.read_text(encoding="utf-8"))["run"]))


def _link(superlink: str) -> tuple[Coordinator, flower.Link]:
    coordinator = open_coordinator(Path(superlink))
    if not answers(coordinator.superlink_port):
        raise DeployError(f"the coordinator is not running: fedvox coordinator start {coordinator.folder}")
    log, port = coordinator.logs / "superlink.log", coordinator.superlink_port
    return coordinator, flower.Link(SUPERLINK, environment(coordinator), log, port)


def _note(coordinator: Coordinator, job: Job, run: str) -> None:
    write_json(job.folder.path / SUBMITTED, {"run": run})
    coordinator.record(
        "run-started",
        run=run,
        folder=str(job.folder.path),
        bundle=_sent(coordinator, run),
        configuration=config_hash(job.config),
        overrides=job.overrides,
        resumed=job.resume,
    )


def _sent(coordinator: Coordinator, run: str) -> str:
    """Hash of the very bytes that Flower took and sends on: the checkout may have changed since."""
    try:
        with control(coordinator) as flower:
            return next((one.bundle for one in flower.runs() if str(one.id) == run), "unknown")
    except DeployError:
        # The run is on its way, whatever the SuperLink has no time to say; `run-seen` names the bundle as well.
        return "unknown"
