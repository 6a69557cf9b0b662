import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from strategies import records
from strategies.errors import PartError, WireError
from strategies.tensors import nbytes
from strategies.types import Report
from strategies.wire.chain import Chain
from strategies.wire.int8 import Int8
from strategies.wire.lowrank import LowRank
from strategies.wire.raw import Raw
from strategies.wire.topk import TopK
from tests.strategies.fakes import FakeGrid, course, federated

LOSSY = [Int8(7), TopK(0.3), LowRank(1), Chain([TopK(0.3), Int8(5)]), Chain([LowRank(2), Int8(5)])]
IDS = ["int8", "topk", "lowrank", "topk+int8", "lowrank+int8"]
each = pytest.mark.parametrize("wire", LOSSY, ids=IDS)
each_and_raw = pytest.mark.parametrize("wire", [Raw(), *LOSSY], ids=["raw", *IDS])

TENSORS = hnp.arrays(
    np.float32, hnp.array_shapes(min_dims=0, max_dims=4, max_side=6), elements=st.floats(-1e3, 1e3, width=32)
)
UPDATES = st.dictionaries(st.sampled_from(["a", "b.c", "d"]), TENSORS, min_size=1)


def size(encoded):
    return sum(nbytes(tensors) for tensors in encoded.values())


def example(*shape):
    rng = np.random.default_rng(0)
    return {
        "conv": rng.normal(size=(32, 16, 3, 3, 3)).astype(np.float32),
        "bias": rng.normal(size=32).astype(np.float32),
    }


@each_and_raw
@given(delta=UPDATES)
@settings(max_examples=25, deadline=None)
def test_names_shapes_and_dtypes_survive(wire, delta):
    encoded, _ = wire.encode(delta, {})
    got = wire.decode(encoded, delta)
    assert {n: (t.shape, t.dtype) for n, t in got.items()} == {n: (t.shape, t.dtype) for n, t in delta.items()}


@each
@given(delta=UPDATES)
@settings(max_examples=25, deadline=None)
def test_what_is_sent_and_what_is_kept_back_add_up_to_the_update(wire, delta):
    encoded, residual = wire.encode(delta, {})
    sent = wire.decode(encoded, delta)
    for name, tensor in delta.items():
        np.testing.assert_allclose(sent[name] + residual[name], tensor, rtol=1e-4, atol=1e-2)


@each
def test_nothing_is_lost_for_good(wire):
    # twenty equal updates: what arrived is twenty times the update, but for what is still kept back
    delta, residual, arrived = example(), {}, dict.fromkeys(example(), 0)
    for _ in range(20):
        encoded, residual = wire.encode(delta, residual)
        arrived = {name: arrived[name] + t for name, t in wire.decode(encoded, delta).items()}
    for name, tensor in delta.items():
        np.testing.assert_allclose(arrived[name] + residual[name], 20 * tensor, rtol=1e-3, atol=1e-3)


@each
def test_what_is_given_stays_as_it_is(wire):
    delta, residual = example(), example()
    for tensor in (*delta.values(), *residual.values()):
        tensor.flags.writeable = False
    wire.encode(delta, residual)


@each
def test_an_encoded_update_crosses_the_network(wire):
    delta = example()
    model = {name: np.zeros_like(t) for name, t in delta.items()}
    encoded, _ = wire.encode(delta, {})
    expected = wire.decode(encoded, delta)

    def answer(message):
        return records.reply(message, encoded, Report("A", 1, patients=1, crops=1))

    state, _ = federated(wire=wire).run(FakeGrid({10: answer}), course({"A": 10}, model))
    np.testing.assert_allclose(state.model["conv"], expected["conv"], rtol=1e-6)


# --- how small, how near ---


@pytest.mark.parametrize(
    ("wire", "share"),
    [(Raw(), 1.0), (Int8(1024), 0.26), (TopK(0.05), 0.11), (LowRank(4), 0.16), (Chain([TopK(0.05), Int8()]), 0.065)],
    ids=["raw", "int8", "topk", "lowrank", "topk+int8"],
)
def test_an_update_shrinks_to_its_share(wire, share):
    delta = {"conv": example()["conv"]}
    encoded, _ = wire.encode(delta, {})
    assert size(encoded) <= share * nbytes(delta)


@given(hnp.arrays(np.float32, (40,), elements=st.floats(-1e3, 1e3, width=32)))
@settings(deadline=None)
def test_eight_bits_err_by_at_most_half_a_step_of_their_block(tensor):
    wire = Int8(10)
    got = wire.decode(wire.encode({"t": tensor}, {})[0], {"t": tensor})["t"]
    half_a_step = np.abs(tensor).reshape(4, 10).max(axis=1) / 254
    assert (np.abs(got - tensor).reshape(4, 10) <= half_a_step[:, None] * 1.001 + 1e-30).all()


def test_eight_bits_by_hand():
    encoded, _ = Int8(2).encode({"t": np.float32([127, -1, 0, 0, 2.54])}, {})
    assert encoded["values"]["t"].tolist() == [127, -1, 0, 0, 127]
    np.testing.assert_allclose(encoded["values.scale"]["t"], [1, 0, 0.02])


def test_topk_keeps_the_largest_and_their_places():
    encoded, residual = TopK(0.4).encode({"t": np.float32([[1, -9, 2], [5, 0, -3]])}, {})
    assert encoded["positions"]["t"].tolist() == [1, 3, 5]
    assert encoded["values"]["t"].tolist() == [-9, 5, -3]
    assert residual["t"].tolist() == [[1, 0, 2], [0, 0, 0]]


def test_what_was_left_out_comes_first_next_time():
    wire = TopK(0.5)
    _, residual = wire.encode({"t": np.float32([3, 2])}, {})
    encoded, _ = wire.encode({"t": np.float32([3, 2])}, residual)
    assert encoded["values"]["t"].tolist() == [4]


def test_a_matrix_of_low_rank_passes_almost_whole():
    rng = np.random.default_rng(0)
    matrix = (rng.normal(size=(30, 2)) @ rng.normal(size=(2, 40))).astype(np.float32)
    wire = LowRank(2)
    got = wire.decode(wire.encode({"t": matrix}, {})[0], {"t": matrix})["t"]
    np.testing.assert_allclose(got, matrix, atol=1e-4)


def test_low_rank_is_near_the_best_there_is():
    matrix = np.random.default_rng(0).normal(size=(40, 60)).astype(np.float32) @ np.diag(0.8 ** np.arange(60)).astype(
        np.float32
    )
    wire = LowRank(5, iterations=4)
    got = wire.decode(wire.encode({"t": matrix}, {})[0], {"t": matrix})["t"]
    best = np.sqrt((np.linalg.svd(matrix, compute_uv=False)[5:] ** 2).sum())
    assert np.linalg.norm(got - matrix) < 1.2 * best


def test_small_tensors_are_not_made_larger_by_low_rank():
    delta = {"bias": np.ones(32, np.float32), "small": np.ones((3, 3), np.float32)}
    encoded, residual = LowRank(4).encode(delta, {})
    assert set(encoded["values"]) == set(delta)
    assert all((t == 0).all() for t in residual.values())


# --- what a server refuses ---


def broken(wire, change):
    delta = example()
    encoded, _ = wire.encode(delta, {})
    encoded = {group: dict(tensors) for group, tensors in encoded.items()}
    change(encoded)
    return encoded, delta


@pytest.mark.parametrize(
    ("wire", "change"),
    [
        (Raw(), lambda e: e.update(extra={})),
        (Int8(), lambda e: e.pop("values.scale")),
        (Int8(), lambda e: e.pop("values")),
        (Int8(), lambda e: e["values.scale"].update(conv=np.float32([1]))),
        (Int8(), lambda e: e["values"].update(conv=e["values"]["conv"].astype(np.float64))),
        (Int8(), lambda e: e["values"].update(conv=e["values"]["conv"][:3])),
        (TopK(), lambda e: e["positions"].update(conv=e["positions"]["conv"] + 10**6)),
        (TopK(), lambda e: e["positions"].update(conv=e["positions"]["conv"] - 10**6)),
        (TopK(), lambda e: e["positions"].update(conv=e["positions"]["conv"] * 0)),
        (TopK(), lambda e: e["positions"].update(conv=e["positions"]["conv"].astype(np.float32))),
        (TopK(), lambda e: e["positions"].update(conv=e["positions"]["conv"][:4])),
        (TopK(), lambda e: e.update(more={})),
        (LowRank(2), lambda e: e["left"].update(conv=np.ones((10**5, 2), np.float32))),
        (LowRank(2), lambda e: e["right"].pop("conv")),
        (LowRank(2), lambda e: e["values"].pop("bias")),
        (Int8(), lambda e: (e["values"].update(x=np.int8([1])), e["values.scale"].update(x=np.float32([1])))),
    ],
)  # fmt: skip
def test_an_update_that_does_not_decode_is_refused(wire, change):
    encoded, like = broken(wire, change)
    with pytest.raises(WireError):
        wire.decode(encoded, like)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Int8(0), lambda: TopK(0), lambda: TopK(1.5), lambda: LowRank(0), lambda: Chain([]),
        lambda: Chain([Int8(), Int8()]),
    ],
)  # fmt: skip
def test_settings_out_of_range_are_refused(make):
    with pytest.raises(PartError, match="got"):
        make()
