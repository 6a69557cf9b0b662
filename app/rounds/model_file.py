"""The model that a leg made: tensors as safetensors, and beside them what one must know to use it."""

from typing import Any

from safetensors.numpy import save

from app.config import Config
from app.files import replacing, write_json
from app.fingerprint import code_hash, config_hash
from app.rounds.folder import RunFolder
from app.rounds.legs import Leg
from strategies.types import ServerState


def save_model(folder: RunFolder, leg: Leg, config: Config, state: ServerState) -> None:
    """Write model.safetensors and model.json of one leg."""
    path = folder.model(leg.name)
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as file:
        file.write(save(state.model))
    write_json(path.with_suffix(".json"), _card(leg, config, state))


def _card(leg: Leg, config: Config, state: ServerState) -> dict[str, Any]:
    return {
        "schema": 1,
        "architecture": config["model"],
        "preprocessing": config["preprocess"],
        "training": config["training"],
        "strategy": config["strategy"],
        "history": {"leg": leg.name, "fold": leg.fold, "hospitals": list(leg.train), "rounds": state.round,
                    "seed": config["seed"]},
        "fingerprint": {"code": code_hash(), "config": config_hash(config)},
    }  # fmt: skip
