import numpy as np
import pytest

from data.augment import Augment, Drawn, Turn, jitter
from data.errors import BadSetting

CUBE = np.random.default_rng(0).random((5, 5, 5)).astype(np.float32)


def turns_of(augment, draws=3000):
    rng = np.random.default_rng(1)
    return {augment.draw(rng).turn for _ in range(draws)}


def results(turns):
    return {turn(CUBE).tobytes() for turn in turns}


@pytest.mark.parametrize(
    "switches, turns",
    [
        ({"flips": True, "rotations": True}, 48),
        ({"flips": False, "rotations": True}, 24),
        ({"flips": True, "rotations": False}, 8),
        ({"flips": False, "rotations": False}, 1),
        ({"flips": True, "rotations": True, "axial_only": True}, 16),
        ({"flips": False, "rotations": True, "axial_only": True}, 4),
    ],
)
def test_the_switches_allow_as_many_turns_as_there_are(switches, turns):
    drawn = turns_of(Augment(**switches))
    assert len(drawn) == turns
    assert len(results(drawn)) == turns  # no two are the same turn


@pytest.mark.parametrize("flips", [True, False])
@pytest.mark.parametrize("axial_only", [True, False])
def test_turns_are_a_group(flips, axial_only):
    turns = turns_of(Augment(flips=flips, rotations=True, axial_only=axial_only))
    reached = {second(first(CUBE)).tobytes() for first in turns for second in turns}
    assert reached == results(turns)


def test_rotations_without_flips_are_no_mirror_images():
    # Handedness of three marks on the axes: their triple product keeps its sign under rotations only.
    for turn in turns_of(Augment(flips=False, rotations=True)):
        axes = np.array([[turn_of_point(turn, axis) for axis in np.eye(3)]])
        assert np.linalg.det(axes[0]) == pytest.approx(1.0)


def turn_of_point(turn, point):
    """Where a mark in a 3³ cube, one step from the middle, comes to lie."""
    marked = np.zeros((3, 3, 3))
    marked[tuple((point + 1).astype(int))] = 1
    return np.argwhere(turn(marked))[0] - 1


def test_axial_rotations_leave_slices_in_their_order():
    stack = np.broadcast_to(np.arange(5.0)[:, None, None], (5, 5, 5))
    for turn in turns_of(Augment(flips=False, rotations=True, axial_only=True)):
        np.testing.assert_array_equal(turn(stack), stack)


def test_the_same_drawing_gives_the_same_crop_again():
    augment = Augment(intensity=0.2, shift=0.1)
    drawn = augment.draw(np.random.default_rng(4))
    assert drawn == augment.draw(np.random.default_rng(4))
    np.testing.assert_array_equal(augment.apply(CUBE, drawn), augment.apply(CUBE, drawn))


def test_applying_leaves_the_crop_it_was_given():
    before = CUBE.copy()
    changed = Augment().apply(CUBE, Drawn(Turn(), factor=0.5, offset=0.1))
    np.testing.assert_array_equal(CUBE, before)
    assert not np.shares_memory(changed, CUBE)
    np.testing.assert_allclose(changed, CUBE * 0.5 + 0.1, atol=1e-6)
    assert not np.shares_memory(Augment().apply(CUBE, Drawn()), CUBE)


def test_intensity_stays_inside_its_bounds_and_the_window():
    augment = Augment(intensity=0.3, shift=0.2)
    rng = np.random.default_rng(2)
    drawings = [augment.draw(rng) for _ in range(2000)]
    factors, offsets = np.array([d.factor for d in drawings]), np.array([d.offset for d in drawings])
    assert (np.abs(factors - 1) <= 0.3).all()
    assert (np.abs(offsets) <= 0.2).all()
    assert factors.std() == pytest.approx(0.3 / np.sqrt(3), rel=0.05)  # of a uniform draw
    for drawn in drawings[:50]:
        changed = augment.apply(CUBE, drawn)
        assert changed.min() >= 0
        assert changed.max() <= 1


def test_each_crop_of_a_batch_gets_its_own_intensity():
    batch = np.stack([CUBE, CUBE])
    changed = jitter(batch.copy(), [Drawn(factor=0.5), Drawn(offset=0.25)])
    np.testing.assert_allclose(changed[0], CUBE * 0.5, atol=1e-6)
    np.testing.assert_allclose(changed[1], np.clip(CUBE + 0.25, 0, 1), atol=1e-6)


def test_a_switch_does_not_shift_the_other_drawings():
    with_turns = Augment(intensity=0.2).draw(np.random.default_rng(9))
    without = Augment(flips=False, rotations=False, intensity=0.2).draw(np.random.default_rng(9))
    assert with_turns.factor == without.factor


@pytest.mark.parametrize(
    "amplitude", [{"intensity": -0.1}, {"intensity": 1.0}, {"shift": 2.0}, {"shift": float("nan")}]
)
def test_amplitudes_that_make_no_sense_are_refused(amplitude):
    with pytest.raises(BadSetting, match=next(iter(amplitude))):
        Augment(**amplitude)
