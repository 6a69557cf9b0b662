"""Early stopping on a hospital's own validation patients, and how much a round trains."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from app.training import fit as fitting
from app.training.best_epoch import BestEpoch, mean_loss
from app.training.fit import Training, fit
from models.parameters import get_tensors
from strategies.local.scaffold import Scaffold

PLAIN = Training(lr=0.02, optimiser="sgd", batch_size=8, epochs=6, threads=1)


def train(make_model, crops, cpu, training, **more):
    model = make_model()
    return fit(model, crops, training=training, device=cpu, address=(7, "a", 1), **more), model


def test_the_best_epoch_s_model_is_kept(make_model, make_crops, cpu):
    # the same crops with their labels turned round: what helps the training crops makes these worse
    crops = make_crops(24)
    wrong = replace(crops, labels=1 - crops.labels)
    done, model = train(make_model, crops, cpu, replace(PLAIN, patience=2), validation=wrong)
    first, after_one = train(make_model, crops, cpu, replace(PLAIN, epochs=1))
    assert (done.steps, done.loss) == (first.steps, first.loss)
    assert all(np.array_equal(get_tensors(model)[name], t) for name, t in get_tensors(after_one).items())


def test_training_goes_on_while_it_helps(make_model, make_crops, cpu):
    # plain descent over all crops at once, watched on these very crops: every step lowers their loss
    crops, descent = make_crops(24), replace(PLAIN, lr=0.005, batch_size=24)
    done, _ = train(make_model, crops, cpu, replace(descent, patience=1, epochs=3), validation=crops)
    assert done.steps == 3


def test_patience_counts_epochs_without_a_lower_loss(make_model, cpu, monkeypatch, make_crops):
    losses = iter([0.9, 0.5, 0.6, 0.7, 0.4])
    monkeypatch.setattr("app.training.best_epoch.mean_loss", lambda *_: next(losses))
    best, model = BestEpoch(2, make_crops(2), cpu), make_model()
    assert [best.goes_on(model, epoch, 10 * epoch) for epoch in (1, 2, 3, 4)] == [True, True, True, False]
    assert best.restore(model) == (2, 20)


def test_the_validation_loss_is_the_mean_over_crops(make_model, make_crops, cpu):
    crops, model = make_crops(10), make_model()
    with torch.no_grad():
        z = model.eval()(torch.from_numpy(crops.x_BCZYX))[:, 0].numpy().astype(np.float64)
    by_hand = np.mean(np.logaddexp(0, z) - z * crops.labels)
    assert mean_loss(model, crops, cpu) == pytest.approx(by_hand, rel=1e-5)


@pytest.mark.parametrize("empty", [True, False])
def test_without_validation_crops_every_epoch_is_trained(make_model, make_crops, cpu, empty):
    validation = make_crops(0) if empty else None
    done, _ = train(make_model, make_crops(16), cpu, replace(PLAIN, patience=1, epochs=3), validation=validation)
    assert done.steps == 6


def test_scaffold_s_variate_is_of_the_steps_that_count(make_model, make_crops, cpu):
    crops = make_crops(16)
    control = {name: np.zeros_like(p.detach().numpy()) for name, p in make_model().named_parameters()}
    wrong = replace(crops, labels=1 - crops.labels)
    stopped, _ = train(make_model, crops, cpu, replace(PLAIN, patience=1), validation=wrong, local=Scaffold(lr=0.05),
                       control=control)  # fmt: skip
    one, _ = train(make_model, crops, cpu, replace(PLAIN, epochs=1), local=Scaffold(lr=0.05), control=control)
    assert stopped.steps == one.steps == 2
    for name, tensor in one.learned.control.items():
        np.testing.assert_array_equal(stopped.learned.control[name], tensor)


@pytest.mark.parametrize(
    ("crops", "epochs"),
    # 40 steps of 8 crops are wanted: 5, 1, 20 batches a pass … and never more than 10 passes
    [(40, 8), (8, 10), (160, 2), (4000, 1)],
)
def test_small_hospitals_pass_often_and_large_ones_once(crops, epochs):
    assert Training(lr=1.0, batch_size=8, epochs=10, steps=40).epochs_for(crops) == epochs


def test_a_round_trains_the_passes_that_its_steps_need(make_model, make_crops, cpu):
    done, _ = train(make_model, make_crops(16), cpu, replace(PLAIN, steps=5))
    assert done.steps == 6  # the third pass of two steps reaches 5


@pytest.mark.parametrize("setting", [{"steps": 0}, {"patience": 0}])
def test_settings_out_of_range_are_refused_by_name(setting):
    with pytest.raises(ValueError, match=f"training.{next(iter(setting))}"):
        Training(lr=1.0, **setting)


def test_configuration_offers_what_training_takes():
    from app.config import build, compose

    for name in ("sgd", "adamw"):
        made = build(compose([f"training={name}", "training.patience=3", "training.steps=50"])["training"])
        assert isinstance(made, fitting.Training)
        assert (made.patience, made.steps) == (3, 50)
