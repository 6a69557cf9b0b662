"""Batches follow from an address; the background thread changes when they are made, not what they are."""

import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.training.batches import ahead, batches, cut


@given(count=st.integers(0, 200), size=st.integers(1, 40))
def test_a_cut_keeps_every_crop_once_and_in_order(count, size):
    parts = cut(np.arange(count), size)
    assert np.concatenate([*parts, np.empty(0, int)]).tolist() == list(range(count))


@given(count=st.integers(2, 200), size=st.integers(2, 40))
def test_no_crop_is_left_alone_and_no_batch_grows_by_more_than_it(count, size):
    sizes = [len(part) for part in cut(np.arange(count), size)]
    assert all(s == size for s in sizes[:-1])
    assert 2 <= sizes[-1] <= size + 1


def test_a_batch_size_of_one_is_kept():
    assert [len(part) for part in cut(np.arange(3), 1)] == [1, 1, 1]


def test_each_epoch_has_an_order_of_its_own_and_all_crops(make_crops, cpu):
    crops = make_crops(20)

    def order(epoch):
        return [
            tuple(x.flatten()[:3].tolist())
            for x_B, _ in batches(crops, 6, address=(1, "a", epoch), device=cpu)
            for x in x_B
        ]

    assert order(0) == order(0)
    assert order(0) != order(1)
    assert sorted(order(0)) == sorted(order(1))


def test_labels_stay_with_their_crops(make_crops, cpu):
    crops = make_crops(20)
    label_of = {float(x.flat[0]): y for x, y in zip(crops.x_BCZYX, crops.labels, strict=True)}
    for x_B, y_B in batches(crops, 6, address=(1,), device=cpu):
        assert y_B.tolist() == [label_of[float(x.flatten()[0])] for x in x_B]


def test_augmentation_of_a_batch_depends_on_its_address_alone(make_crops, cpu):
    crops = make_crops(8)
    drawn = []

    def note(x, rng):
        drawn.append(rng.random())
        return x

    for address in ((1, "a"), (1, "a"), (1, "b")):
        list(batches(crops, 4, address=address, device=cpu, augment=note))
    assert drawn[0:2] == drawn[2:4]
    assert len(set(drawn)) == 4


def test_batches_made_ahead_come_in_order_from_another_thread():
    makers = []

    def make(step):
        makers.append(threading.current_thread())
        return step

    assert list(ahead(make, 5)) == [0, 1, 2, 3, 4]
    assert threading.main_thread() not in makers
    assert list(ahead(make, 0)) == []


def test_the_next_batch_is_made_while_this_one_is_used():
    made = [threading.Event() for _ in range(3)]

    def make(step):
        made[step].set()
        return step

    coming = ahead(make, 3)
    assert next(coming) == 0
    assert made[1].wait(timeout=5)  # nobody has asked for it yet
    assert list(coming) == [1, 2]


def test_an_error_of_the_background_thread_reaches_the_loop():
    def make(step):
        if step == 1:
            raise OSError("disk gone")
        return step

    coming = ahead(make, 3)
    assert next(coming) == 0
    with pytest.raises(OSError, match="disk gone"):
        next(coming)
