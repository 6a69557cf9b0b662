"""Where training begins: at weights drawn from the seed, or at a checkpoint that somebody trained before."""

import json
from dataclasses import asdict
from logging import getLogger
from pathlib import Path

from torch import nn

from app.config import Config, build
from app.files import write_json
from models.resnet3d import init
from models.weights import Loaded, load

log = getLogger(__name__)


def initial_model(config: Config) -> tuple[nn.Module, Loaded | None]:
    """The model before round 1, and what of `weights` went into it.

    Drawn from the seed alone, so that server and hospitals start from the same; then every tensor of the checkpoint
    that fits is copied over. Hospitals receive all of it in their first round and need no checkpoint.

    Raises:
        WeightsError: the checkpoint cannot be read, or nothing of it fits.
    """
    model: nn.Module = build(config["model"])
    init(model, config["seed"] or 0)
    if config["weights"] is None:
        return model, None
    return model, load(model, Path(config["weights"]))


def write_report(path: Path, config: Config, loaded: Loaded) -> None:
    """Keep which tensors came from the checkpoint, which did not, and why; and which of them nobody ever trained."""
    initial = [name for name in loaded.matched if name in _stayed_home(Path(config["weights"]))]
    if initial:
        log.warning("weights=%s: %d tensors have the values that their run began with: they stayed home in the "
                    "hospitals (%s)", config["weights"], len(initial), ", ".join(initial))  # fmt: skip
    write_json(path, {"weights": config["weights"], **asdict(loaded), "initial": initial})


def _stayed_home(weights: Path) -> frozenset[str]:
    """What model.json beside a model of ours lists; nothing where there is none, or not one of ours."""
    try:
        card = json.loads(weights.with_suffix(".json").read_text(encoding="utf-8"))
        return frozenset(card["stayed_home"]["tensors"])
    except (OSError, ValueError, KeyError, TypeError):
        return frozenset()
