"""Hydra's own front door: `python -m app.train -m training.lr=0.01,0.03` runs a grid, each job in one process.

Returns the metric that `optimise` names, for a Hydra sweeper to maximise.
"""

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig


@hydra.main(config_path="../conf", config_name="config", version_base="1.3")
def main(_: DictConfig) -> float | None:
    """One run over LocalGrid, in a fresh run folder."""
    from app.commands import console, launch
    from app.commands.sweep import metric

    overrides = [text for text in HydraConfig.get().overrides.task if not text.startswith("sweep=")]
    job = launch.fresh(None, overrides)
    summary = launch.start(job, engine="inprocess", superlink=None, screen=console.Console())
    return metric(summary, job.config["optimise"])


if __name__ == "__main__":
    main()
