"""Every YAML of conf/strategy builds, mirrors its constructor, and trains: five hospitals, a small real network."""

import inspect
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from hydra.utils import get_class
from torch import nn

from app.config import build, compose
from models.norm import tensor_kinds
from models.parameters import get_tensors, set_tensors
from strategies import records
from strategies.parts import NAMES
from strategies.tensors import difference
from strategies.types import Report
from tests.strategies.fakes import FakeGrid, course

CONF = Path(__file__).resolve().parents[2] / "conf" / "strategy"
PRESETS = sorted(path.stem for path in CONF.glob("*.yaml") if path.stem != "base")
PUBLIC = [name for name in PRESETS if build(compose([f"strategy={name}"])["strategy"]).privacy.unit == "none"]
FILES = sorted(path.relative_to(CONF) for path in CONF.glob("*/*.yaml") if path.parent.name != "privacy")
HOSPITALS = "ABCDE"


class Net(nn.Module):
    """Kernel, norm with statistics, head: one layer of each kind."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv3d(1, 4, 3)
        self.norm = nn.BatchNorm3d(4)
        self.fc = nn.Linear(4, 1)

    def forward(self, x_BCZYX):
        return self.fc(torch.relu(self.norm(self.conv(x_BCZYX))).mean((2, 3, 4)))


def net():
    torch.manual_seed(0)
    return Net()


class Trainee:
    """A hospital that really trains, as the application does, and keeps what does not travel."""

    def __init__(self, strategy, number):
        rng = np.random.default_rng(number)
        self.strategy, self.kept, self.steps = strategy, {}, 3
        self.y = torch.tensor([[0.0], [1.0]] * 4)
        noise = rng.normal(size=(8, 1, 5, 5, 5)).astype(np.float32)
        self.x = torch.from_numpy(noise) * 0.3 + self.y[:, :, None, None, None] * 2

    def __call__(self, message):
        plan, received = records.read_plan(message), records.read_model(message)
        local = self.strategy.local.at(plan)
        model = net()
        kinds = tensor_kinds(model)
        set_tensors(model, {**get_tensors(model), **received, **self.kept.get("home", {})})
        trained = set(self.strategy.sharing.trained(kinds))
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(name in trained)
        optimiser = local.optimiser(model.parameters(), 0.05) or torch.optim.SGD(model.parameters(), 0.05)
        state = local.start(model, records.read_control(message), self.kept.get("local", {}))
        for _ in range(self.steps):
            optimiser.zero_grad()
            loss = nn.functional.binary_cross_entropy_with_logits(model(self.x), self.y)
            loss.backward()
            local.correct(model, state)
            optimiser.step()
        learned = local.finish(model, state, steps=self.steps, lr=0.05)
        after, shared = get_tensors(model), self.strategy.sharing.shared(kinds)
        delta = difference(after, received, shared)
        encoded, residual = self.strategy.wire.encode(delta, self.kept.get("residual", {}))
        home = {name: tensor for name, tensor in after.items() if name not in shared}
        self.kept = {"home": home, "local": learned.kept, "residual": residual}
        report = Report(
            plan.hospital, plan.round, 8, 8, steps=self.steps, loss=loss.item(), score=0.8, data_age_months=1.0
        )
        return records.reply(message, self.strategy.exchange.seal(encoded), report, learned.control)


@pytest.mark.parametrize("name", PUBLIC)
def test_every_preset_trains_through_its_own_parts(name):
    strategy = build(compose([f"strategy={name}"])["strategy"])
    hospitals = {node: Trainee(strategy, node) for node, _ in enumerate(HOSPITALS, start=10)}
    roster = dict(zip(HOSPITALS, hospitals, strict=True))
    facts = []
    model = net()
    plan = course(
        roster,
        get_tensors(model),
        rounds=8,
        kinds=tensor_kinds(model),
        deadline_s=60,
        after_round=lambda state, fact: facts.append(fact),
    )
    state, stop = strategy.run(FakeGrid(hospitals), plan)
    assert (stop.reason, state.round) == ("rounds", 8)
    assert all(not fact.refused and not fact.failed for fact in facts)
    assert sum(facts[-1].weights.values()) == pytest.approx(1)
    assert facts[-1].reports["A"].loss < facts[0].reports["A"].loss


def test_the_presets_that_are_promised_are_there():
    promised = {
        "fedavg", "size", "quality", "recency", "fedavgm", "fedadam", "fedyogi", "fedadagrad", "fedprox", "scaffold",
        "fedbn", "partial", "ditto", "median", "trimmed_mean", "krum", "multikrum", "geometric_median", "compressed",
    }  # fmt: skip
    assert promised <= set(PRESETS)


@pytest.mark.parametrize("file", FILES, ids=str)
def test_a_file_says_what_its_constructor_asks_for_and_nothing_else(file):
    node = compose([f"strategy/{file.parent}={file.stem}"])["strategy"][str(file.parent)]
    parameters = set(inspect.signature(get_class(node["_target_"])).parameters)
    assert set(node) - {"_target_"} == parameters
    build(node)


def test_a_preset_differs_from_base_in_its_defaults_only():
    for name in PRESETS:
        assert set(yaml.safe_load((CONF / f"{name}.yaml").read_text())) == {"defaults"}, name


def test_the_groups_are_the_nine_parts():
    assert {path.name for path in CONF.iterdir() if path.is_dir()} == set(NAMES)


def test_parts_are_exchanged_and_set_from_the_command_line():
    config = compose(
        [
            "strategy=fedprox",
            "strategy.local.mu=0.3",
            "strategy/weighting=quality",
            "strategy/wire=int8",
            "strategy.wire.block=64",
        ]
    )
    strategy = build(config["strategy"])
    assert (strategy.local.mu, strategy.wire.block) == (0.3, 64)
    assert strategy.weighting.needs_score


def test_a_preset_that_does_not_fit_a_part_is_refused_when_it_is_built():
    with pytest.raises(Exception, match="SCAFFOLD, robust aggregate"):
        build(compose(["strategy=scaffold", "strategy/aggregate=median"])["strategy"])
