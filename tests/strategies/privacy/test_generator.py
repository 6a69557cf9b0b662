"""Statistical bounds are five standard deviations or p > 1e-6: each fails by chance less than once in 10^6 runs."""

import copy
import os
import subprocess
import sys
from itertools import combinations
from multiprocessing.reduction import ForkingPickler
from pathlib import Path

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from scipy import stats

from strategies.privacy import generator
from strategies.privacy.generator import FixedSeed, Generator, SystemRandomness

DRAWS = 2_000_000
SIGMAS = 5.0
P_VALUE = 1e-6
ROOT = Path(__file__).parents[3]


def test_normals_have_mean_zero_and_deviation_one():
    x = SystemRandomness().open().normals(DRAWS).astype(np.float64)
    assert abs(x.mean()) < SIGMAS / np.sqrt(DRAWS)
    assert abs(x.std() - 1.0) < SIGMAS / np.sqrt(2 * DRAWS)


def test_normals_are_normal():
    x = SystemRandomness().open().normals(DRAWS)
    assert stats.kstest(x, "norm").pvalue > P_VALUE
    assert abs(stats.skew(x.astype(np.float64))) < SIGMAS * np.sqrt(6 / DRAWS)
    assert abs(stats.kurtosis(x.astype(np.float64))) < SIGMAS * np.sqrt(24 / DRAWS)


@pytest.mark.parametrize("beyond", [3.0, 4.0])
def test_large_normals_come_as_often_as_they_should(beyond):
    hits = int((np.abs(SystemRandomness().open().normals(DRAWS)) > beyond).sum())
    expected = DRAWS * 2 * stats.norm.sf(beyond)
    assert abs(hits - expected) < SIGMAS * np.sqrt(expected) + 1


def test_no_large_draw_is_cut_off(monkeypatch):
    # A radius word of 0 is the smallest uniform, 2^-65: radius sqrt(2 * 65 * ln 2) = 9.493; angle word 0: cosine 1.
    zeros = Generator(bytes(32), claims_epsilon=False)
    monkeypatch.setattr(zeros, "_stream", lambda count: np.zeros(count, dtype=np.uint8))
    np.testing.assert_allclose(zeros.normals(2), [9.4927, 0.0], rtol=1e-4)


def test_an_odd_number_of_normals_is_as_good_as_an_even_one():
    x = np.concatenate([SystemRandomness().open().normals(3) for _ in range(20_000)]).astype(np.float64)
    assert abs(x.mean()) < SIGMAS / np.sqrt(x.size)
    assert abs(x.std() - 1.0) < SIGMAS / np.sqrt(2 * x.size)


@pytest.mark.parametrize("count", [0, 1, 2, 2 * generator.PAIRS_AT_ONCE, 2 * generator.PAIRS_AT_ONCE + 1])
def test_any_number_of_normals_may_be_asked_for(count):
    assert SystemRandomness().open().normals(count).shape == (count,)
    assert np.isfinite(SystemRandomness().open().normals(count)).all()


def test_uniforms_are_uniform_and_never_reach_the_ends():
    u = SystemRandomness().open().uniforms(DRAWS)
    assert stats.kstest(u, "uniform").pvalue > P_VALUE
    assert u.min() > 0.0
    assert u.max() < 1.0


@pytest.mark.parametrize("rate", [0.01, 0.3])
def test_units_are_drawn_at_their_rate_and_without_regard_to_each_other(rate):
    drawn = np.zeros((2, DRAWS), dtype=bool)
    stream = SystemRandomness().open()
    for row in drawn:
        row[stream.draw_units(DRAWS, rate)] = True
    sd = np.sqrt(DRAWS * rate * (1 - rate))
    assert abs(drawn[0].sum() - DRAWS * rate) < SIGMAS * sd
    both = rate**2
    assert abs((drawn[0] & drawn[1]).sum() - DRAWS * both) < SIGMAS * np.sqrt(DRAWS * both * (1 - both))
    assert abs((drawn[0, 1:] & drawn[0, :-1]).sum() - DRAWS * both) < 2 * SIGMAS * np.sqrt(DRAWS * both)


def test_rate_one_draws_every_unit_and_rate_zero_none():
    stream = SystemRandomness().open()
    np.testing.assert_array_equal(stream.draw_units(5, 1.0), np.arange(5))
    assert stream.draw_units(1000, 0.0).size == 0


@pytest.mark.parametrize("rate", [-0.1, 1.1, float("nan")])
def test_a_rate_that_is_no_probability_is_refused(rate):
    with pytest.raises(ValueError, match="sampling rate"):
        SystemRandomness().open().draw_units(3, rate)


def test_parameters_rounds_and_hospitals_share_no_noise():
    hospital_a, hospital_b = SystemRandomness().open(), SystemRandomness().open()
    streams = [hospital_a.normals(DRAWS // 2), hospital_a.normals(DRAWS // 2), hospital_b.normals(DRAWS // 2)]
    streams.append(np.roll(streams[0], 1))
    for x, y in combinations(streams, 2):
        assert abs(np.corrcoef(x, y)[0, 1]) < SIGMAS / np.sqrt(DRAWS // 2)


FORKS = """
import os, sys
from strategies.privacy.generator import {source}
stream = {opened}
stream.normals(1000)                     # used before the fork, as a worker's would be
def draw():
    sys.stdout.buffer.write(stream.normals({draws}).tobytes())
    sys.stdout.flush()
for _ in range(2):
    if os.fork() == 0:
        draw()
        os._exit(0)
    os.wait()
draw()
"""


def _draws_of_two_children_and_their_parent(source, opened, draws):
    """(3, draws), from a process that is started for it."""
    script = FORKS.format(source=source, opened=opened, draws=draws)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, env=environment, check=True)
    return np.frombuffer(done.stdout, dtype=np.float32).reshape(3, draws)


PROCESS_DRAWS = 1 << 20
"""Of each process; a power of two, for the Fourier transform."""
SHIFT_SIGMAS = 7.0
"""Six pairs of streams at 2^20 shifts each: 6.3e6 · P(|z| > 7) = 6.3e6 · 2.6e-12, so that 1.6e-5 fail by chance."""


def largest_correlation(x, y):
    """Over all circular shifts of one against the other, in standard deviations: 1 / √n for independent normals."""
    spectra = np.fft.rfft(x.astype(np.float64)) * np.conj(np.fft.rfft(y.astype(np.float64)))
    return np.abs(np.fft.irfft(spectra, n=x.size)).max() / np.sqrt(x.size)


def test_this_process_one_that_it_starts_and_the_forks_of_that_draw_noise_of_their_own_at_any_shift():
    started = _draws_of_two_children_and_their_parent("SystemRandomness", "SystemRandomness().open()", PROCESS_DRAWS)
    here = SystemRandomness().open().normals(PROCESS_DRAWS)
    for x, y in combinations([here, *started], 2):
        assert largest_correlation(x, y) < SHIFT_SIGMAS


def test_a_stream_that_is_another_s_further_on_would_be_seen():
    x = FixedSeed(7).open().normals(PROCESS_DRAWS + 50_000)
    assert largest_correlation(x[:PROCESS_DRAWS], x[50_000:]) > 100 * SHIFT_SIGMAS


def test_without_a_new_key_the_fork_test_would_fail():
    first, second, parent = _draws_of_two_children_and_their_parent("FixedSeed", "FixedSeed(7).open()", 1000)
    np.testing.assert_array_equal(first, second)
    np.testing.assert_array_equal(first, parent)


def test_a_fixed_seed_repeats_by_address_and_claims_nothing():
    one, same = FixedSeed(5).open("run", 3, "A"), FixedSeed(5).open("run", 3, "A")
    np.testing.assert_array_equal(one.normals(10), same.normals(10))
    assert not np.isin(FixedSeed(5).open("run", 4, "A").normals(10), FixedSeed(5).open("run", 3, "A").normals(10)).any()
    assert not one.claims_epsilon


def test_seeds_that_agree_in_their_low_bits_give_different_streams():
    # torch's CPU generator gives one stream for 5 and 5 + 2**32
    assert not np.isin(FixedSeed(5).open().normals(100), FixedSeed(5 + 2**32).open().normals(100)).any()


def test_two_openings_of_the_system_source_never_agree():
    assert SystemRandomness().open("run", 1).bits(4).tolist() != SystemRandomness().open("run", 1).bits(4).tolist()
    assert SystemRandomness().open().claims_epsilon


def test_the_stream_is_aes_256_in_counter_mode():
    key = bytes(range(32))
    expected = Cipher(algorithms.AES(key), modes.CTR(bytes(16))).encryptor().update(bytes(48))
    stream = Generator(key, claims_epsilon=False)
    assert stream.bits(4).tobytes() + stream.bits(2).tobytes() == expected


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, ForkingPickler.dumps])
def test_a_generator_cannot_be_copied(copied):
    with pytest.raises(TypeError, match="same noise"):
        copied(SystemRandomness().open())
