"""Whether a run's parts and its model keep the promise of one clipped gradient a patient.

Each hospital asks for itself: a server that leaves the question out, or asks it of another model, gets no answer.
"""

import json
from functools import lru_cache

from app.config import Config, ConfigError, build
from app.privacy.terms import terms_of
from models.norm import tensor_kinds
from models.private.errors import ModelError
from strategies import checks
from strategies.errors import StrategyError

NEEDED = ("strategy", "model", "preprocess")


def check_trainable(config: Config) -> None:
    """Raise ConfigError where these parts and this model cannot be trained privately and are to be.

    Tried once a process and settings.
    """
    if terms_of(config) is None:
        return
    _check(json.dumps({key: config[key] for key in NEEDED}, sort_keys=True))


@lru_cache(maxsize=8)
def _check(needed: str) -> None:
    from models.private.check import check_model  # Opacus' validators take a second to import

    config = json.loads(needed)
    model = build(config["model"])
    try:
        checks.check(build(config["strategy"]), kinds=tensor_kinds(model))
        check_model(model, (1, *[config["preprocess"]["size"]] * 3))
    except (ModelError, StrategyError) as error:
        raise ConfigError(f"strategy.privacy: {error}") from error
