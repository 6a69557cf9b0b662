"""The model that a leg made: tensors as safetensors, and beside them what one must know to use it."""

from typing import Any

from safetensors.numpy import save

from app.config import Config, build
from app.files import replacing, write_json
from app.fingerprint import code_hash, config_hash
from app.rounds.folder import RunFolder
from app.rounds.legs import Leg
from models.norm import tensor_kinds
from strategies import Federated
from strategies.types import ServerState

STAYED_HOME = (
    "These tensors are trained in each hospital and never leave it. The file has them as they were before round 1; "
    "the scores in summary.json are of the hospitals' own."
)


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
        "stayed_home": {"tensors": names, "note": STAYED_HOME} if (names := _stayed_home(config)) else None,
        "history": {"leg": leg.name, "fold": leg.fold, "hospitals": list(leg.train), "rounds": state.round,
                    "seed": config["seed"]},
        "fingerprint": {"code": code_hash(), "config": config_hash(config)},
    }  # fmt: skip


def _stayed_home(config: Config) -> list[str]:
    """Tensors that hospitals train and keep. What stays home untrained is everywhere what it is here."""
    strategy: Federated = build(config["strategy"])
    kinds = tensor_kinds(build(config["model"]))
    shared = set(strategy.sharing.shared(kinds))
    return [name for name in strategy.sharing.trained(kinds) if name not in shared]
