import pytest

from strategies.errors import PartError
from strategies.sharing import All, FedBN, Partial

KINDS = {
    "stem.weight": "conv",
    "stem_norm.weight": "norm",
    "stem_norm.running_mean": "norm-statistic",
    "stem_norm.num_batches_tracked": "counter",
    "layer4.0.conv.weight": "conv",
    "layer4.0.n.weight": "norm",
    "fc.weight": "linear",
    "fc.bias": "linear",
}


def test_all_shares_and_trains_everything_in_order():
    assert All().shared(KINDS) == All().trained(KINDS) == tuple(KINDS)


def test_fedbn_keeps_norm_layers_home_by_kind_and_trains_them():
    assert FedBN().shared(KINDS) == ("stem.weight", "layer4.0.conv.weight", "fc.weight", "fc.bias")
    assert FedBN().trained(KINDS) == tuple(KINDS)


@pytest.mark.parametrize(
    ("layers", "names"),
    [
        (["fc"], ("fc.weight", "fc.bias")),
        (["fc.bias"], ("fc.bias",)),
        (["layer4"], ("layer4.0.conv.weight", "layer4.0.n.weight")),
        (["fc", "stem"], ("stem.weight", "fc.weight", "fc.bias")),
        (["layer4.*.weight"], ("layer4.0.conv.weight", "layer4.0.n.weight")),
    ],
)
def test_partial_shares_named_modules_tensors_and_patterns_in_the_models_order(layers, names):
    assert Partial(layers).shared(KINDS) == names
    assert Partial(layers).trained(KINDS) == names
    assert Partial(layers, freeze=False).trained(KINDS) == tuple(KINDS)


def test_a_module_is_not_taken_for_another_that_begins_like_it():
    assert "stem_norm.weight" not in Partial(["stem"]).shared(KINDS)


@pytest.mark.parametrize(("layer", "nearest"), [("layer5", "layer4"), ("fc.weigth", "fc.weight"), ("stm", "stem")])
def test_a_layer_that_is_not_there_is_refused_with_the_nearest_names(layer, nearest):
    with pytest.raises(PartError, match=rf"no layer '{layer}'; nearest: .*{nearest}"):
        Partial([layer]).shared(KINDS)


@pytest.mark.parametrize("layers", [[], "fc"])
def test_partial_needs_a_list_of_names(layers):
    with pytest.raises(PartError, match="list"):
        Partial(layers)
