import importlib
import inspect
from pathlib import Path

import numpy as np
import pytest
import yaml

from strategies.privacy.accountant import epsilon
from strategies.privacy.events import from_json

CONF = Path(__file__).parents[3] / "conf" / "strategy" / "privacy"
SERVER_SIDE = ["site", "site_add_remove", "site_adaptive", "naive_mean_noise", "naive_laplace_scale"]


def settings_of(name):
    plain = yaml.safe_load((CONF / f"{name}.yaml").read_text(encoding="utf-8"))
    module, _, part = plain.pop("_target_").rpartition(".")
    return getattr(importlib.import_module(module), part), plain


@pytest.mark.parametrize("name", SERVER_SIDE)
def test_a_preset_says_every_setting_and_builds(name):
    part, settings = settings_of(name)
    assert list(settings) == list(inspect.signature(part).parameters)
    assert settings["fixed_seed"] is None
    released, _, facts = part(**settings).release({"w": np.zeros(10, np.float32)}, {"a": 1.0, "b": 2.0}, {}, {})
    assert released["w"].any()
    assert from_json(facts).randomness == "system"


@pytest.mark.parametrize("name", ["site", "site_add_remove", "site_adaptive"])
def test_the_epsilons_in_the_presets_comments_are_true(name):
    part, settings = settings_of(name)
    if "hospitals" in settings:
        settings["hospitals"] = 200  # enough to be counted in private at every one of these multipliers
    for noise, stated in ((settings["noise_multiplier"], 8.0), (9.30, 3.2), (14.1, 2.0)):
        chosen = part(**{**settings, "noise_multiplier": noise})
        event = from_json(chosen.release({"w": np.zeros(1, np.float32)}, {"a": 1.0}, {}, {})[2])
        assert epsilon([event] * 50, 1e-5) == pytest.approx(stated, abs=0.02)
        assert str(noise).rstrip("0") in (CONF / f"{name}.yaml").read_text(encoding="utf-8")
