"""The coordinator's side under Flower: compose the run, make or reopen its folder, conduct it."""

from pathlib import Path

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Run what the run configuration says. A failure is written into the run folder before it is raised."""
    from app.commands.launch import default_folder, settle
    from app.config import ConfigError, compose, from_line
    from app.processes import end_with_parent
    from app.rounds import folder as folders
    from app.rounds.conduct import conduct
    from app.rounds.lock import alone
    from app.rounds.summary import write_ended

    end_with_parent()
    given = from_line(str(context.run_config["overrides"]))
    config, overrides = settle(given)
    if config != compose(given):
        # Every hospital composes what was given, by itself.
        raise ConfigError(
            "plain flwr run needs settings that mean the same on every machine: a seed that is a number, absolute "
            "paths, hospitals by name; write them out, or start with fedvox run"
        )
    path = Path(str(context.run_config["run-dir"]) or default_folder(overrides))
    known = (path / "overrides.txt").exists()
    folder = folders.reopen(path, config) if known else folders.create(path, config, overrides)
    with alone(path):
        try:
            _prepare(config)
            summary = conduct(grid, config, folder, engine="flower")
        except Exception as error:
            write_ended(config, folder, engine="flower", status="failed", reason="interrupted", why=str(error))
            raise
    if summary["status"] == "failed":
        # So that Flower, too, calls the run failed.
        raise RuntimeError(summary["error"])


def _prepare(config: dict[str, object]) -> None:
    """In simulation the hospitals' data are on this machine: look at them before asking anyone."""
    if config["deploy"]["roster"] == "plan":  # type: ignore[index]
        from app.prepare import prepare

        prepare(config)
