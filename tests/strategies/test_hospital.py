import numpy as np

from strategies import records
from strategies.hospital import leaving, to_load
from strategies.local import Learned
from strategies.sharing import FedBN, Partial
from strategies.types import Report
from strategies.wire.topk import TopK
from tests.strategies.fakes import FakeGrid, course, federated

KINDS = {"w": "conv", "n": "norm", "seen": "counter"}
MODEL = {"w": np.float32([1, 2]), "n": np.float32([1]), "seen": np.int64(0)}


def trained(**changes):
    return {**MODEL, **changes}


def test_everything_leaves_as_a_difference_but_for_counters():
    out = leaving(federated(), KINDS, received=MODEL, trained=trained(w=np.float32([2, 5])), learned=Learned(), kept={})
    assert {name: t.tolist() for name, t in out.encoded["values"].items()} == {"w": [1, 3], "n": [0]}
    assert (out.control, out.kept) == ({}, {})


def test_norm_layers_stay_home_and_are_loaded_again():
    strategy = federated(sharing=FedBN())
    after = trained(n=np.float32([9]), seen=np.int64(4))
    out = leaving(strategy, KINDS, received=MODEL, trained=after, learned=Learned(), kept={})
    assert set(out.encoded["values"]) == {"w"}
    again = to_load(strategy, KINDS, {"w": np.float32([7, 7])}, out.kept)
    assert (again["w"].tolist(), again["n"].tolist(), int(again["seen"])) == ([7, 7], [9], 4)


def test_a_tensor_that_travels_is_never_replaced_by_an_old_one():
    kept = {"home": {"w": np.float32([0, 0])}}
    assert to_load(federated(), KINDS, MODEL, kept)["w"].tolist() == [1, 2]


def test_what_the_wire_loses_and_what_the_local_part_keeps_stay():
    strategy = federated(wire=TopK(0.5))
    learned = Learned(control={"w": np.float32([5, 5])}, kept={"w": np.float32([3, 3])})
    out = leaving(strategy, KINDS, received=MODEL, trained=trained(w=np.float32([9, 3])), learned=learned, kept={})
    assert out.control is learned.control
    assert out.kept["local"] is learned.kept
    assert out.kept["residual"]["w"].tolist() == [0, 1]
    more = leaving(strategy, KINDS, received=MODEL, trained=MODEL, learned=Learned(), kept=out.kept)
    assert more.encoded["values"]["w"].tolist() == [1]


def test_a_hospital_gets_the_whole_model_once_and_then_only_what_travels():
    strategy, got, kept = federated(sharing=FedBN()), [], {}

    def hospital(message):
        plan, received = records.read_plan(message), records.read_model(message)
        got.append(set(received))
        model = to_load(strategy, KINDS, received, kept)
        after = {"w": model["w"] + 1, "n": model["n"] * 2, "seen": model["seen"] + 1}
        out = leaving(strategy, KINDS, received=received, trained=after, learned=Learned(), kept=kept)
        kept.update(out.kept)
        return records.reply(message, out.encoded, Report(plan.hospital, plan.round, 1, 1, steps=1, loss=0.1))

    settings = course({"A": 10}, MODEL, rounds=3, kinds=KINDS)
    state, _ = strategy.run(FakeGrid({10: hospital}), settings)
    assert got == [{"w", "n", "seen"}, {"w"}, {"w"}]
    assert state.model["w"].tolist() == [4, 5]
    assert state.model["n"].tolist() == [1]
    assert kept["home"]["n"].tolist() == [8]


def test_only_named_layers_travel_in_transfer_learning():
    strategy = federated(sharing=Partial(["w"]))
    out = leaving(strategy, KINDS, received=MODEL, trained=trained(w=np.float32([2, 2])), learned=Learned(), kept={})
    assert set(out.encoded["values"]) == {"w"}
    assert set(out.kept["home"]) == {"n", "seen"}
