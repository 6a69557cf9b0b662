"""Scores are one number a crop, in order, and scoring changes nothing."""

import numpy as np
import pytest
import torch

from app.training.score import logits, probabilities
from models.parameters import get_tensors


def test_scores_come_in_the_crops_order_whatever_the_batch_size(make_model, make_crops, cpu):
    model, crops = make_model(), make_crops(10)
    alone = [model.eval()(torch.from_numpy(x[None])).item() for x in crops.x_BCZYX]
    for size in (1, 4, 64):
        scores = logits(model, crops, device=cpu, batch_size=size)
        assert (scores.dtype, scores.shape) == (np.float32, (10,))
        np.testing.assert_allclose(scores, alone, rtol=1e-4, atol=1e-5)


def test_probabilities_are_the_logistic_function_of_the_logits(make_model, make_crops, cpu):
    model, crops = make_model(), make_crops(6)
    wanted = 1 / (1 + np.exp(-logits(model, crops, device=cpu)))
    np.testing.assert_allclose(probabilities(model, crops, device=cpu), wanted, rtol=1e-6)


@pytest.mark.parametrize("is_training", [True, False])
def test_scoring_leaves_the_model_as_it_was(make_model, make_crops, cpu, is_training):
    model = make_model(norm="batch").train(is_training)
    before = get_tensors(model)
    logits(model, make_crops(6), device=cpu)
    assert model.training == is_training
    assert all(np.array_equal(before[name], t) for name, t in get_tensors(model).items())
    assert all(p.grad is None and p.requires_grad for p in model.parameters())


def test_no_crops_have_no_scores(make_model, make_crops, cpu):
    assert logits(make_model(), make_crops(0), device=cpu).shape == (0,)


def test_a_model_that_has_diverged_is_named(make_model, make_crops, cpu):
    model = make_model()
    torch.nn.init.constant_(model.fc.bias, float("nan"))
    with pytest.raises(FloatingPointError, match="6 of 6 scores are not finite; the model has diverged"):
        logits(model, make_crops(6), device=cpu)


def test_threads_are_set_for_scoring_and_restored(make_model, make_crops, cpu):
    model, before, inside = make_model(), torch.get_num_threads(), []
    model.register_forward_hook(lambda *_: inside.append(torch.get_num_threads()))
    logits(model, make_crops(2), device=cpu, threads=before + 1)
    assert inside == [before + 1]
    assert torch.get_num_threads() == before
