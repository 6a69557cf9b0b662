"""Runs over Flower's own runtime: a SuperLink of ours on a free port, `flwr run`, and nothing left behind.

What is taken care of here (flwr 1.41): the SuperLink starts in an empty folder, since Ray's workers would import the
application from there first; no dependency install per run; the exit code of `flwr run --stream` says nothing, so the
run's status is asked for; every process that came up is stopped, also after Ctrl-C.
"""

import contextlib
import json
import math
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from app import own_files
from app.config import Config, to_line
from app.files import write_text
from app.home import home
from app.processes import answers, dying_with_parent, free_port, tail, uninterrupted
from app.processes import stop as end_process

DRIVERS = ("nvidia-smi", "rocm-smi")
"""Commands that come with a GPU's driver; without one of them there is no GPU that torch could use."""

RAY = {"RAY_prestart_worker_first_driver": "0", "RAY_enable_metrics_collection": "0", "RAY_USAGE_STATS_ENABLED": "0"}
"""Of a simulation: no idle workers, no figures that nobody reads, nothing told to Ray's makers."""

START_SECONDS = 60.0
"""How long a SuperLink may take to come up; 5–10 s on two idle cores."""

STATUS_SECONDS = 30.0
"""After so long without news, and then as often, Flower is asked whether the run still lives: a second of CPU each."""

ANSWER_SECONDS = 120.0
"""How long a `flwr` command may take; a second or two on an idle core."""

STOP_SECONDS = 20.0
"""How long the command that ends a run may take; Ctrl-C waits for it."""

SILENCES = 5
"""So often in a row Flower may have nothing to say of the run before it is taken for lost."""


class FlowerError(RuntimeError):
    """Flower's runtime could not start or run the application."""


@dataclass(frozen=True)
class Link:
    """A SuperLink that answers: its name in Flower's configuration, and the environment for `flwr`."""

    name: str
    env: Mapping[str, str]
    log: Path
    port: int | None = None
    """Where it listens on this machine, if it does."""
    is_ours: bool = False
    """Made for one run, and gone with it."""

    def last_words(self) -> str:
        """What its log ends with, where the log is soon gone; else where to look."""
        return tail(self.log) if self.is_ours else f"see {self.log}"


class Watch(Protocol):
    """Who follows the run on this machine."""

    def __call__(self) -> bool:
        """Show what is new; whether the outcome is on disk. Called several times a second."""

    def silence_s(self) -> float:
        """Seconds since something was new."""


def run(
    link: Link,
    config: Config,
    *,
    overrides: list[str],
    run_dir: Path,
    watch: Watch,
    submitted: Callable[[str], None] = lambda _: None,
) -> None:
    """Start the application on a SuperLink and wait until it ended; what ends the waiting ends it there, too.

    `submitted` is told Flower's number of the run.

    Raises:
        FlowerError: Flower refused the application, its run failed, or the SuperLink ended.
    """
    settings = {"overrides": to_line(overrides), "run-dir": str(run_dir)}
    run_id = _submit(link, settings, _simulation(config) if config["deploy"]["roster"] == "plan" else "")
    try:
        submitted(run_id)
        _wait_for_outcome(link, run_id, watch)
    except BaseException:
        # Whatever ends the waiting, an interrupt or a full disk: nobody would follow the run any more.
        with uninterrupted():
            stop(link, run_id)
        raise


def stop(link: Link, run_id: str) -> None:
    """End a run that may still be going on; one that is over, or unknown, is left as it is."""
    if not link.is_ours and (link.port is None or answers(link.port)):
        _flwr(["flwr", "stop", run_id, link.name], link, STOP_SECONDS)


def _wait_for_outcome(link: Link, run_id: str, watch: Watch) -> None:
    asked, silences = time.monotonic(), 0
    while not watch():
        time.sleep(0.2)
        if min(time.monotonic() - asked, watch.silence_s()) < STATUS_SECONDS:
            continue
        if link.port is not None and not answers(link.port):
            raise FlowerError(f"Flower's SuperLink ended during the run: {link.last_words()}")
        status = _status(link, run_id)
        if status.startswith("finished") and not watch():
            raise FlowerError(f"the run ended ({status}) without an outcome on this machine: {link.last_words()}")
        silences = 0 if status else silences + 1
        if silences >= SILENCES:
            raise FlowerError(f"SuperLink {link.name} knows nothing of the run any more: {link.last_words()}")
        asked = time.monotonic()


def existing(name: str) -> Link:
    """A SuperLink that Flower's own configuration knows by `name`."""
    folder = home() / "flower"
    folder.mkdir(parents=True, exist_ok=True)
    return Link(name, _environment(), folder / "superlink.log")


@contextlib.contextmanager
def superlink() -> Iterator[Link]:
    """Our own SuperLink for one simulated run, in a folder and on a port of its own; gone afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="fedvox-"))
    port, log = free_port(), folder / "superlink.log"
    write_text(folder / "config.toml", _flower_config(port))
    (folder / "empty").mkdir()
    env = {**_environment(), **RAY, "FLWR_HOME": str(folder)}
    command = [
        "flower-superlink",
        "--insecure",
        "--simulation",
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
        "--disable-runtime-dependency-installation",
    ]
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            cwd=folder / "empty",
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=dying_with_parent(),
        )
    try:
        _wait_for(port, process, log)
        yield Link("fedvox", env, log, port, is_ours=True)
    finally:
        with uninterrupted():
            end_process(process)
            shutil.rmtree(folder, ignore_errors=True)


def _submit(link: Link, settings: Mapping[str, Any], federation: str) -> str:
    with tempfile.NamedTemporaryFile("w", suffix=".toml", encoding="utf-8") as file:
        file.writelines(f"{key} = {json.dumps(value)}\n" for key, value in settings.items())
        file.flush()
        with own_files.copied() as app:
            command = ["flwr", "run", str(app), link.name, "--run-config", file.name, "--format", "json"]
            done = _flwr([*command, *(["--federation-config", federation] if federation else [])], link)
    answer = _last_json(done.stdout)
    if done.returncode or "run-id" not in answer:
        raise FlowerError(f"Flower did not accept the run: {' '.join((done.stdout + done.stderr).split())[-400:]}")
    return str(answer["run-id"])


def _status(link: Link, run_id: str) -> str:
    answer = _last_json(_flwr(["flwr", "ls", link.name, "--run-id", run_id, "--format", "json"], link).stdout)
    runs: list[dict[str, Any]] = answer.get("runs", [])
    return str(runs[0].get("status", "")) if runs else ""


def _flwr(command: list[str], link: Link, seconds: float = ANSWER_SECONDS) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            command,
            cwd=link.log.parent,
            env=dict(link.env),
            capture_output=True,
            text=True,
            check=False,
            timeout=seconds,
        )
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(command, 1, "", f"no answer within {seconds:.0f} s")


def _last_json(text: str) -> dict[str, Any]:
    start = text.find("{")
    try:
        return dict(json.loads(text[start:])) if start >= 0 else {}
    except json.JSONDecodeError:
        return {}


def _simulation(config: Config) -> str:
    """Flower's settings for simulated nodes: how many, and what each gets of the machine."""
    deploy, hospitals = config["deploy"], len(config["federation"]["hospitals"])
    nodes = deploy["nodes"] or hospitals
    at_once = max(1, min(nodes, (os.cpu_count() or 1) // deploy["client_cpus"]))
    gpus = (
        _gpu_share(at_once) if deploy["client_gpus"] == "auto" and config["device"] != "cpu" else deploy["client_gpus"]
    )
    shares = (
        f"client-resources-num-cpus={deploy['client_cpus']} client-resources-num-gpus={0.0 if gpus == 'auto' else gpus}"
    )
    return f"num-supernodes={nodes} {shares} init-args-log-to-driver=false"


def _gpu_share(at_once: int) -> float:
    """What each of `at_once` hospitals gets: Ray hides the GPU from those that ask for none."""
    if not any(map(shutil.which, DRIVERS)):
        return 0.0  # to ask torch would take 200 MB of this process for as long as the run lasts
    import torch

    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    return min(1.0, math.floor(1000 * gpus / at_once) / 1000)  # rounded up, one hospital too few would fit


def _flower_config(port: int) -> str:
    return f'[superlink]\ndefault = "fedvox"\n\n[superlink.fedvox]\naddress = "127.0.0.1:{port}"\ninsecure = true\n'


def _environment() -> dict[str, str]:
    """Ours, with this interpreter's commands (flwr, flower-superlink) found first."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    return {**os.environ, "PATH": path, "FLWR_TELEMETRY_ENABLED": "0"}


def _wait_for(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    until = time.monotonic() + START_SECONDS
    while time.monotonic() < until:
        if process.poll() is not None:
            raise FlowerError(f"Flower's SuperLink ended at once: {tail(log)}")
        if answers(port):
            return
        time.sleep(0.1)
    raise FlowerError(f"Flower's SuperLink did not answer within {START_SECONDS:.0f} s: {tail(log)}")
