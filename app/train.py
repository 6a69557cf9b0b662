"""Hydra's own front door: `python -m app.train -m training.lr=0.01,0.03` runs a grid, each job in one process.

Returns the metric that `optimise` names, for a Hydra sweeper to maximise.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import JobReturn, JobStatus
from hydra.experimental.callback import Callback
from omegaconf import DictConfig


class Ranking(Callback):
    """Ranks the jobs of a multirun, as `fedvox sweep` does (conf/config.yaml: hydra.callbacks)."""

    def __init__(self) -> None:
        self._jobs: list[tuple[Sequence[str], JobReturn]] = []

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **kwargs: Any) -> None:
        """Remember what a job was given and what came of it."""
        self._jobs.append((list(job_return.overrides or ()), job_return))

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Print the ranking, and write it beside the jobs."""
        from app.commands import console, sweep

        folder = Path(config.hydra.sweep.dir)
        folder.mkdir(parents=True, exist_ok=True)
        trials = sweep.ranked([self._trial(overrides, job) for overrides, job in self._jobs])
        sweep.write_ranking(folder, trials)
        screen = console.Console()
        screen.show(sweep.table(trials))
        screen.note(f"ranking: {folder / 'ranking.csv'}")

    def _trial(self, overrides: Sequence[str], job: JobReturn) -> Any:
        from app.commands.sweep import Trial

        everywhere = set.intersection(*(set(given) for given, _ in self._jobs))
        varied = dict(override.split("=", 1) for override in overrides if override not in everywhere)
        is_done = job.status is JobStatus.COMPLETED
        hydra_cfg: Any = job.hydra_cfg
        folder = str(_run_folder(hydra_cfg.hydra.runtime.output_dir))
        return Trial(varied, job.return_value if is_done else None, job.status.name.lower(), folder)


def _run_folder(output_dir: str) -> Path:
    """Hydra keeps its log beside it."""
    return Path(output_dir) / "run"


@hydra.main(config_path="../conf", config_name="config", version_base="1.3")
def main(_: DictConfig) -> float | None:
    """One run over LocalGrid, in a fresh run folder."""
    from app.commands import console, launch
    from app.commands.sweep import metric

    hydra_config, screen = HydraConfig.get(), console.Console()
    overrides = [text for text in hydra_config.overrides.task if not text.startswith("sweep=")]
    job = launch.fresh(_run_folder(hydra_config.runtime.output_dir), overrides)
    summary = launch.start(job, engine="inprocess", superlink=None, screen=screen)
    screen.outcome(summary, job.folder.path, as_json=False)
    return metric(summary, job.config["optimise"])


if __name__ == "__main__":
    main()
