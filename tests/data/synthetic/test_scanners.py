"""Vendors differ in what a reader must cope with, and each can store what it reconstructs."""

import numpy as np
import pytest

from data.synthetic.scanners import SCANNERS, Kernel

SPACING = (2.0, 1.4, 1.4)


def _uniform(hu: float) -> np.ndarray:
    return np.full((6, 64, 64), hu, np.float32)


@pytest.mark.parametrize("name", SCANNERS)
def test_a_scanner_can_store_what_it_reconstructs(name):
    scanner = SCANNERS[name]
    steps = np.tile(np.linspace(-2000, 5000, 64, dtype=np.float32), (6, 64, 1))
    hu = scanner.acquire(steps, SPACING, np.random.default_rng(0))
    stored = scanner.encoding.stored(hu)
    np.testing.assert_array_equal(hu, stored * scanner.encoding.slope + scanner.encoding.intercept)


@pytest.mark.parametrize("name", SCANNERS)
def test_noise_is_as_strong_as_the_profile_says(name):
    scanner = SCANNERS[name]
    hu = scanner.acquire(_uniform(0), SPACING, np.random.default_rng(1))[:, 16:48, 16:48]
    low, high = scanner.noise_hu
    # A sharp kernel does not sharpen the noise, which is drawn at its final strength.
    assert 0.85 * low < hu.std() < 1.15 * high
    assert abs(hu.mean()) < 5


@pytest.mark.parametrize("name", SCANNERS)
def test_outside_the_round_field_stands_the_padding(name):
    scanner = SCANNERS[name]
    corners = scanner.acquire(_uniform(0), SPACING, np.random.default_rng(2))[:, :3, :3]
    if scanner.padding_hu is None:
        assert corners.min() > -500
    else:
        assert (corners == scanner.padding_hu).all()


def test_profiles_differ_in_everything_that_shifts_a_model():
    for differs in (
        lambda s: s.slice_mm,
        lambda s: s.kernel,
        lambda s: s.noise_hu,
        lambda s: s.padding_hu,
        lambda s: (s.encoding.intercept, s.encoding.is_signed, s.encoding.padding_hu),
    ):
        assert len({differs(scanner) for scanner in SCANNERS.values()}) >= 3
    tagged = [s.encoding.padding_hu for s in SCANNERS.values() if s.padding_hu is not None]
    assert None in tagged  # padding that no tag announces
    assert any(padding is not None for padding in tagged)


def test_sharp_kernels_overshoot_and_soft_ones_blur():
    edge = np.tile(np.where(np.arange(64) < 32, -800.0, 0.0).astype(np.float32), (6, 64, 1))
    profile = {
        name: SCANNERS[name].acquire(edge.copy(), SPACING, np.random.default_rng(3)).mean(axis=(0, 1))
        for name in ("TOSHIBA", "PHILIPS")
    }
    assert profile["PHILIPS"][30:34].max() > profile["TOSHIBA"][30:34].max() + 30
    slope = {name: np.diff(values[24:40]).max() for name, values in profile.items()}
    assert slope["PHILIPS"] > 1.3 * slope["TOSHIBA"]


def test_a_kernel_without_sharpening_keeps_densities():
    assert Kernel("soft", 0.7, 0.0, 0.9).sharpening == 0
    hu = SCANNERS["GE"].acquire(_uniform(-850), SPACING, np.random.default_rng(4))[:, 20:44, 20:44]
    assert hu.mean() == pytest.approx(-850, abs=3)
