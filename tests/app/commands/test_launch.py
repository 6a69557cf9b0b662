"""How a run that was stopped is told to go on; the runs themselves are in tests/federation and tests/deploy."""

import errno
import io
from pathlib import Path

import pytest

from app.cli import main
from app.commands import launch
from app.commands.console import Console
from app.commands.deployed import deployed


@pytest.fixture
def job(coordinator):
    """A run of the coordinator's hospitals, in the coordinator's folder."""
    return launch.fresh(coordinator.runs / "run", deployed(str(coordinator.folder), ["model=tiny"]))


def test_a_run_at_a_coordinator_that_was_interrupted_tells_the_whole_command(coordinator, job, monkeypatch):
    def interrupted(superlink):
        def run(job, screen):
            raise KeyboardInterrupt

        return run

    monkeypatch.setattr(launch, "over_flower", interrupted)
    said = io.StringIO()
    with pytest.raises(KeyboardInterrupt):
        launch.start(job, engine="flower", superlink=str(coordinator.folder), screen=Console(said))
    told = f"go on with: fedvox run --resume {job.folder.path} --superlink {coordinator.folder}"
    assert told in " ".join(said.getvalue().split())


@pytest.mark.parametrize(
    ("engine", "superlink", "told"),
    [
        ("flower", None, "fedvox run --resume /runs/one"),
        ("inprocess", None, "fedvox run --resume /runs/one --engine inprocess"),
        ("flower", "by-name", "fedvox run --resume /runs/one --superlink by-name"),
    ],
)
def test_the_command_says_which_way_the_run_went(engine, superlink, told):
    assert launch.again(Path("/runs/one"), engine=engine, superlink=superlink) == told


def test_resuming_a_coordinator_s_run_without_the_coordinator_says_what_is_missing(coordinator, job, capsys):
    before = sorted(job.folder.path.iterdir())
    assert main(["run", "--resume", str(job.folder.path)]) == 2
    said = capsys.readouterr().err
    assert f"--superlink {coordinator.folder}" in said
    assert said.count("\n") == 1
    assert sorted(job.folder.path.iterdir()) == before, "the run was begun"


def test_another_account_than_the_coordinator_s_gets_a_line_and_no_traceback(coordinator, monkeypatch, capsys):
    def closed(path):
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(type(Path()), "is_file", closed)
    assert main(["run", "--superlink", str(coordinator.folder), "rounds=1"]) == 1
    assert capsys.readouterr().err == f"fedvox: [Errno 13] Permission denied: '{coordinator.folder}/coordinator.yaml'\n"
