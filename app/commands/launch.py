"""From overrides to a finished run: prepare the hospitals' data where they are ours, start an engine, watch it."""

import datetime
import multiprocessing
import os
import re
import shlex
import signal
import sys
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app import flower
from app.commands.console import Console
from app.commands.errors import RunFailed
from app.config import Config, ConfigError, absolute_paths, compose
from app.deploy.coordinator import is_coordinator
from app.home import home
from app.rounds import folder as folders
from app.rounds.folder import RunFolder
from app.rounds.lock import alone
from app.rounds.summary import read_summary, write_ended


@dataclass(frozen=True)
class Job:
    """A run that is about to start, or to go on."""

    config: Config
    overrides: list[str]
    folder: RunFolder
    resume: bool
    began_with: str = ""
    """What of the checkpoint `weights` went into the model; empty where there is none."""


def fresh(run_dir: Path | None, overrides: list[str], *, aside: bool = False) -> Job:
    """A new run in a new folder; with `aside` its settings are tried out by another process.

    Raises:
        ConfigError, WeightsError: the configuration is wrong, or the folder exists.
    """
    config, absolute = settle(overrides)
    began_with = (rehearsed_aside if aside else rehearsed)(config)
    path = (run_dir or default_folder(absolute)).expanduser().absolute()
    return Job(config, absolute, folders.create(path, config, absolute), resume=False, began_with=began_with)


def rehearsed(config: Config) -> str:
    """Try the settings out; what of the checkpoint `weights` goes into the model, in words. Raises as `try_out`."""
    from app.commands.rehearsal import try_out

    loaded = try_out(config)
    return f"weights of {config['weights']}: {loaded}" if loaded else ""


def rehearsed_aside(config: Config) -> str:
    """As `rehearsed`, in a process that ends: this one then waits for the run without half a gigabyte of torch.

    Here and now where torch is there already: a process with its threads is not one to fork.
    """
    if "torch" in sys.modules:
        return rehearsed(config)
    fork, at_ctrl_c = multiprocessing.get_context("fork"), (signal.SIGINT, signal.SIG_DFL)
    with ProcessPoolExecutor(1, mp_context=fork, initializer=signal.signal, initargs=at_ctrl_c) as child:
        began_with: str = child.submit(rehearsed, config).result()
    return began_with


def fresh_or_stopped(path: Path, overrides: list[str]) -> Job:
    """The run in `path` where there is one, else a new one there."""
    if not (path / "overrides.txt").exists():
        return fresh(path, overrides)
    config, absolute = settle(overrides)
    return Job(config, absolute, folders.reopen(path, config), resume=True)


def resumed(path: Path, overrides: list[str]) -> Job:
    """A run that goes on where its folder says it stopped."""
    path = path.expanduser().absolute()
    config, absolute = settle(overrides or folders.opened(path).overrides())
    return Job(config, absolute, folders.reopen(path, config), resume=True)


def settle(overrides: list[str]) -> tuple[Config, list[str]]:
    """Compose, with relative paths made absolute and a random seed drawn where none was wanted."""
    config = compose(overrides)
    settled = [*overrides, *_absolute(config)]
    if not config["federation"]["hospitals"]:
        settled += named(_standing(config["federation"]["sites"]))
    if config["seed"] is None:
        settled.append(f"seed={int.from_bytes(os.urandom(4), 'big')}")
    return compose(settled), settled


def named(hospitals: Iterable[str]) -> list[str]:
    """Overrides by which hospitals take part."""
    return [f"++federation.hospitals.{name}={{}}" for name in hospitals]


def _absolute(config: Config) -> list[str]:
    """Paths made absolute; not where the data lie if hospitals say that themselves."""
    made = absolute_paths(config)
    return made if config["deploy"]["roster"] == "plan" else [path for path in made if not path.startswith("source.")]


def _standing(sites: str | None) -> list[str]:
    """The hospitals that stand in a folder."""
    if sites is None:
        raise ConfigError("no hospital takes part; name the coordinator's folder: fedvox run --superlink DIR")
    folder = Path(sites).expanduser()
    names = sorted(path.parent.name for path in folder.glob("*/site.yaml"))
    if not names:
        raise ConfigError(f"no hospital in {folder}: each is a folder NAME with a site.yaml in it")
    return names


def default_folder(overrides: list[str]) -> Path:
    """A new folder under FEDVOX_HOME/runs, named by time and experiment."""
    named = [value for key, _, value in (o.partition("=") for o in overrides) if key == "experiment"]
    stamp = datetime.datetime.now(tz=datetime.UTC).strftime("%Y%m%d-%H%M%S")
    name = "-".join([stamp, *(re.sub(r"[^\w.]+", "-", value).strip("-") for value in named)])
    taken = (home() / "runs").glob(f"{name}*")
    return home() / "runs" / (name if not any(taken) else f"{name}-{os.getpid()}")


def start(job: Job, *, engine: str, superlink: str | None, screen: Console) -> dict[str, Any]:
    """Run a job to its end.

    Returns:
        Its summary.

    Raises:
        RunFailed: it ended without one.
        ConfigError: its hospitals are a coordinator's, and none is named.
    """
    _check_way(job, superlink)
    screen.opening(job.config, job.folder.path, engine)
    if job.began_with:
        screen.note(job.began_with)
    if superlink and is_coordinator(superlink):
        from app.commands.deployed import end_earlier

        end_earlier(superlink, job.folder.path)
    with alone(job.folder.path):
        job.folder.summary.unlink(missing_ok=True)
    try:
        if job.config["deploy"]["roster"] == "plan":
            from app.commands import shared_out
            from app.prepare import prepare

            shared_out.tell(prepare(job.config, screen.prepared), job.config, job.folder, screen)
        run = in_process if engine == "inprocess" else over_flower(superlink)
        run(job, screen)
    except KeyboardInterrupt:
        if read_summary(job.folder) is None:
            why = "interrupted at the keyboard"
            write_ended(job.config, job.folder, engine=engine, status="stopped", reason="interrupted", why=why)
            screen.note(f"stopped; go on with: {again(job.folder.path, engine=engine, superlink=superlink)}")
        raise
    except Exception as error:
        if read_summary(job.folder) is None:
            write_ended(job.config, job.folder, engine=engine, status="failed", reason="interrupted", why=str(error))
        raise
    return _outcome(job)


def again(folder: Path, *, engine: str, superlink: str | None) -> str:
    """The command by which a run goes on, whole: without its SuperLink it would begin a simulation."""
    named = str(Path(superlink).expanduser().absolute()) if superlink and is_coordinator(superlink) else superlink
    parts = ["fedvox", "run", "--resume", str(folder)]
    parts += ["--engine", engine] if engine != "flower" else []
    return shlex.join([*parts, *(["--superlink", named] if named else [])])


def _check_way(job: Job, superlink: str | None) -> None:
    """Hospitals on their own machines are reached over a SuperLink alone; a simulation would wait for them in vain."""
    if job.config["deploy"]["roster"] == "plan" or superlink:
        return
    home_of_runs = job.folder.path.parent.parent
    named = str(home_of_runs) if is_coordinator(str(home_of_runs)) else "DIR"
    raise ConfigError(
        "the hospitals of this run are on their own machines; name their coordinator's folder: "
        f"fedvox run --resume {job.folder.path} --superlink {named}"
    )


def in_process(job: Job, screen: Console) -> None:
    """Everything in this process, hospitals one after the other."""
    from app.client_app import app as client
    from app.config import to_line
    from app.local_grid import LocalGrid
    from app.rounds.conduct import conduct

    run_config: dict[str, bool | float | int | str] = {"overrides": to_line(job.overrides)}
    grid = LocalGrid(client, nodes=len(job.config["federation"]["hospitals"]), run_config=run_config)
    with alone(job.folder.path):
        conduct(grid, job.config, job.folder, engine="inprocess", listen=screen.round)


def over_flower(superlink: str | None) -> Callable[[Job, Console], None]:
    """Flower's runtime: a simulation of ours, a coordinator's folder, or a SuperLink by name."""

    def run(job: Job, screen: Console) -> None:
        watch = _Watch(job.folder, screen)
        if superlink and is_coordinator(superlink):
            from app.commands.deployed import run_at

            run_at(superlink, job, watch)
        elif superlink:
            _run(flower.existing(superlink), job, watch)
        else:
            screen.note("starting Flower's simulation runtime (10–20 s)")
            with flower.superlink() as link:
                _run(link, job, watch)

    return run


def _run(link: flower.Link, job: Job, watch: "_Watch") -> None:
    flower.run(link, job.config, overrides=job.overrides, run_dir=job.folder.path, watch=watch)


class _Watch:
    """Follows a run folder that another process writes: shows new journal lines, notices the summary."""

    def __init__(self, folder: RunFolder, screen: Console) -> None:
        self._folder, self._screen = folder, screen
        self._seen = len(folder.lines())
        self._beat = time.monotonic()

    def __call__(self) -> bool:
        lines = self._folder.lines()
        for line in lines[self._seen :]:
            self._screen.round(line)
            self._beat = time.monotonic()
        self._seen = len(lines)
        self._screen.waiting(self.silence_s())
        return self._folder.summary.exists()

    def silence_s(self) -> float:
        return time.monotonic() - self._beat


def _outcome(job: Job) -> dict[str, Any]:
    summary = read_summary(job.folder)
    if summary is None:
        raise RunFailed(f"the run left no summary in {job.folder.path}")
    if summary["status"] == "failed":
        raise RunFailed(
            f"the run failed: {summary.get('error') or 'too few hospitals answered'}; see {job.folder.path}"
        )
    return summary
