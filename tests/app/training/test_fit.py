"""Local training: reproducible, visible, and stopped before it can do harm."""

import math

import numpy as np
import pytest
import torch
from torch.nn import functional

from app.addresses import derive
from app.training.batches import cut
from app.training.fit import NonFiniteLoss, Training, fit, positive_weight
from app.training.score import probabilities
from models.parameters import get_tensors
from strategies.local import Learned
from strategies.local.plain import Plain

ADAMW = Training(lr=1e-3, batch_size=8, threads=1)


def same(a, b):
    return all(np.array_equal(a[name], b[name]) for name in a)


def trained(make_model, crops, cpu, *, training=ADAMW, address=(7, "a", 1), **more):
    model = make_model()
    return get_tensors(model), fit(model, crops, training=training, device=cpu, address=address, **more), model


def test_equal_addresses_give_bit_equal_models(make_model, make_crops, cpu):
    crops, flip = make_crops(), lambda x, rng: np.ascontiguousarray(np.flip(x, 2 + int(rng.integers(3))))
    (_, _, one), (_, _, two), (_, _, other) = (
        trained(make_model, crops, cpu, address=(7, "a", n), augment=flip) for n in (1, 1, 2)
    )
    assert same(get_tensors(one), get_tensors(two))
    assert not same(get_tensors(one), get_tensors(other))


def test_torchs_global_generator_is_neither_read_nor_moved(make_model, make_crops, cpu):
    torch.manual_seed(1)
    _, _, one = trained(make_model, make_crops(), cpu)
    torch.manual_seed(2)
    before = torch.get_rng_state()
    _, _, two = trained(make_model, make_crops(), cpu)
    assert same(get_tensors(one), get_tensors(two))
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("optimiser", ["adamw", "sgd"])
def test_it_is_the_loop_one_would_write_by_hand(make_model, make_crops, cpu, optimiser):
    crops = make_crops(20)
    training = Training(
        lr=0.01, optimiser=optimiser, momentum=0.9, weight_decay=0.1, epochs=2, batch_size=8, clip_norm=0.5, threads=1
    )
    _, done, ours = trained(make_model, crops, cpu, training=training)

    theirs = make_model().train()
    if optimiser == "sgd":
        steps = torch.optim.SGD(theirs.parameters(), 0.01, momentum=0.9, weight_decay=0.1)
    else:
        steps = torch.optim.AdamW(theirs.parameters(), 0.01, weight_decay=0.1)
    losses = []
    for epoch in range(2):
        losses = []
        for indices in cut(derive(7, "a", 1, epoch, "order").permutation(20), 8):
            x, y = torch.from_numpy(crops.x_BCZYX[indices]), torch.from_numpy(crops.labels[indices]).float()
            steps.zero_grad()
            loss = functional.binary_cross_entropy_with_logits(theirs(x)[:, 0], y)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(theirs.parameters(), 0.5)
            steps.step()
            losses += [loss.item()] * len(y)
    assert done.steps == 6
    assert done.loss == pytest.approx(np.mean(losses), rel=1e-4)
    for name, tensor in get_tensors(theirs).items():
        np.testing.assert_allclose(get_tensors(ours)[name], tensor, rtol=1e-3, atol=1e-5, err_msg=name)


def test_it_learns_to_see_a_ball(make_model, make_crops, cpu):
    model = make_model()
    fit(model, make_crops(48), training=Training(lr=3e-3, epochs=6, batch_size=8), device=cpu, address=(1,))
    unseen = make_crops(48, seed=1)
    scores = probabilities(model, unseen, device=cpu)
    assert scores[unseen.labels == 1].min() > scores[unseen.labels == 0].max()


@pytest.mark.parametrize("norm", ["group", "batch"])
def test_a_crop_left_over_is_trained_on_too(make_model, make_crops, cpu, norm):
    model = make_model(norm=norm)
    done = fit(model, make_crops(17), training=ADAMW, device=cpu, address=(1,))
    assert done.steps == 2  # 8 and 8 + 1
    assert all(np.isfinite(t).all() for t in get_tensors(model).values())


def test_a_hospital_with_one_crop_trains(make_model, make_crops, cpu):
    assert fit(make_model(), make_crops(1), training=ADAMW, device=cpu, address=(1,)).steps == 1


def test_no_crops_are_refused_in_words(make_model, make_crops, cpu):
    with pytest.raises(ValueError, match="no crops to train on"):
        fit(make_model(), make_crops(0), training=ADAMW, device=cpu, address=(1,))


def test_a_loss_that_is_no_number_stops_before_the_update(make_model, make_crops, cpu):
    crops, model = make_crops(16), make_model()
    before = get_tensors(model)
    crops.x_BCZYX[3] = np.nan
    with pytest.raises(NonFiniteLoss, match=r"loss is nan at step 1; stopped before the update; lower training\.lr"):
        fit(model, crops, training=Training(lr=1e-3, batch_size=16), device=cpu, address=(1,))
    assert same(before, get_tensors(model))


def test_class_balance_weighs_positives_by_their_rarity(make_model, make_crops, cpu):
    crops = make_crops(16, positives=4)
    assert positive_weight(crops).item() == 3.0
    # One batch of all, zeroed head: every logit is 0, each crop costs ln 2, positives thrice: (12 + 3·4)/16 · ln 2.
    for balance, wanted in ((True, 1.5 * math.log(2)), (False, math.log(2))):
        model = make_model()
        torch.nn.init.zeros_(model.fc.weight)
        training = Training(lr=1e-9, batch_size=16, class_balance=balance)
        assert fit(model, crops, training=training, device=cpu, address=(1,)).loss == pytest.approx(wanted, rel=1e-5)


@pytest.mark.parametrize("positives", [0, 16])
def test_a_hospital_with_one_class_trains_unweighted(make_model, make_crops, cpu, positives):
    crops = make_crops(16, positives=positives)
    assert positive_weight(crops).item() == 1.0
    training = Training(lr=1e-3, batch_size=8, class_balance=True)
    assert fit(make_model(), crops, training=training, device=cpu, address=(1,)).steps == 2


def test_clipping_bounds_the_length_of_a_step(make_model, make_crops, cpu):
    training = Training(lr=1.0, optimiser="sgd", batch_size=24, clip_norm=1e-3, threads=1)
    before, _, model = trained(make_model, make_crops(24), cpu, training=training)
    moved = math.sqrt(sum(float(((t - before[name]) ** 2).sum()) for name, t in get_tensors(model).items()))
    assert moved == pytest.approx(1e-3, rel=1e-3)  # one step of lr · clip


def test_frozen_layers_stay_and_the_rest_learns(make_model, make_crops, cpu):
    model = make_model()
    for p in model.conv1.parameters():
        p.requires_grad_(requires_grad=False)
    before = get_tensors(model)
    fit(model, make_crops(), training=Training(lr=1e-3, weight_decay=0.1), device=cpu, address=(1,))
    after = get_tensors(model)
    assert np.array_equal(before["conv1.weight"], after["conv1.weight"])
    assert not np.array_equal(before["fc.weight"], after["fc.weight"])


@pytest.mark.parametrize("patience", [None, 1])
def test_a_frozen_batch_norm_keeps_its_running_statistics(make_model, make_crops, cpu, patience):
    model = make_model(norm="batch")
    for name, p in model.named_parameters():
        p.requires_grad_("fc" in name)
    before, crops = get_tensors(model), make_crops()
    training = Training(lr=1e-3, patience=patience, epochs=3)
    fit(model, crops, training=training, device=cpu, address=(1,), validation=crops)
    after = get_tensors(model)
    assert {name for name in before if not np.array_equal(before[name], after[name])} == {"fc.weight", "fc.bias"}


class Anchor(Plain):
    """Pulls hard towards the model received; brings its own optimiser; counts and hands on."""

    def optimiser(self, parameters, lr):
        return torch.optim.SGD(parameters, lr)

    def start(self, model, control=None, kept=None):
        assert float(control["c"]) == 2.0
        return {name: p.detach().clone() for name, p in model.named_parameters()}

    def correct(self, model, state):
        for name, p in model.named_parameters():
            p.grad = 100 * (p.detach() - state[name])

    def finish(self, model, state, *, steps, lr):
        return Learned(kept={"steps": np.array(steps), "lr": np.array(lr)})


def test_the_local_part_corrects_gradients_and_hands_on_what_it_learned(make_model, make_crops, cpu):
    before, done, model = trained(make_model, make_crops(), cpu, local=Anchor(), control={"c": np.array(2.0)})
    assert same(before, get_tensors(model))  # its gradient replaced the loss's, and is 0 at the start
    assert done.learned.kept == {"steps": 3, "lr": 1e-3}


def test_the_plain_local_part_changes_nothing(make_model, make_crops, cpu):
    _, _, without = trained(make_model, make_crops(), cpu)
    _, done, plain = trained(make_model, make_crops(), cpu, local=Plain())
    assert same(get_tensors(without), get_tensors(plain))
    assert done.learned == Learned()


def test_threads_are_set_for_the_fit_and_restored(make_model, make_crops, cpu):
    before, inside = torch.get_num_threads(), []

    def note(x, _rng):
        inside.append(torch.get_num_threads())
        return x

    training = Training(lr=1e-3, threads=before + 1)
    fit(make_model(), make_crops(4), training=training, device=cpu, address=(1,), augment=note)
    assert inside == [before + 1]
    assert torch.get_num_threads() == before


def test_half_precision_is_reported_where_it_was_used(make_model, make_crops, cpu, monkeypatch):
    monkeypatch.setattr("app.training.precision.bf16_error", lambda _kernel, _device: 0.0)
    training = Training(lr=1e-3, amp="bf16")
    # One step, and its weights are not looked at: the kernels called right here may not be.
    assert fit(make_model(), make_crops(4), training=training, device=cpu, address=(1,)).precision == "bfloat16"
    assert fit(make_model(), make_crops(4), training=ADAMW, device=cpu, address=(1,)).precision == "float32"


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda:0", marks=pytest.mark.gpu)])
def test_half_precision_trains_step_after_step(make_crops, monkeypatch, device):
    # Autocast's cache would keep the first step's weights: the loss would stay where it began.
    if device != "cpu" and not torch.cuda.is_available():
        pytest.skip("needs a GPU")
    monkeypatch.setattr("app.training.precision.bf16_error", lambda _kernel, _device: 0.0)
    losses = {}
    for amp in ("off", "bf16"):
        torch.manual_seed(0)
        model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(make_crops(1).batch([0])[0].size, 1))
        training = Training(lr=1e-3, amp=amp, epochs=20, threads=1)
        losses[amp] = fit(model, make_crops(40), training=training, device=torch.device(device), address=(1,)).loss
    assert losses["off"] < 0.4
    assert losses["bf16"] == pytest.approx(losses["off"], rel=0.1)


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("lr", 0.0, "write a number above 0"),
        ("lr", float("nan"), "write a number above 0"),
        ("optimiser", "adam", "write adamw or sgd"),
        ("momentum", 1.0, "write 0, or a number below 1"),
        ("weight_decay", -0.1, "write 0 or more"),
        ("epochs", 0, "write 1 or more"),
        ("batch_size", 0, "write 1 or more"),
        ("clip_norm", 0.0, "write null, or a number above 0"),
        ("amp", "fp16", "write auto, off, bf16"),
        ("threads", 0, "write null, or 1 or more"),
    ],
)
def test_settings_out_of_range_are_refused_with_the_remedy(name, value, said):
    with pytest.raises(ValueError, match=f"training.{name}: got {value!r}; {said}"):
        Training(**{"lr": 1e-3, name: value})


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize(("amp", "tolerance"), [("off", 1e-3), ("auto", 3e-2)])
def test_a_gpu_trains_the_model_that_a_cpu_does(make_model, make_crops, cpu, amp, tolerance):
    crops, scores = make_crops(40), []
    training = Training(lr=1e-2, optimiser="sgd", epochs=2, batch_size=8, amp=amp, threads=1)
    for device in (torch.device("cuda:0"), cpu):
        model = make_model()
        fit(model, crops, training=training, device=device, address=(1,))
        scores.append(probabilities(model, crops, device=device))
    np.testing.assert_allclose(scores[0], scores[1], atol=tolerance)
