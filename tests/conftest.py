"""What all tests share: a home of their own, one thread, and small hospitals on disk."""

import os
from pathlib import Path

# Before torch: two test processes with two threads each would fight for two cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pytest
from hypothesis import settings

settings.register_profile("gate", derandomize=True, deadline=None)  # the gate says the same of the same code
settings.register_profile("explore", deadline=None)  # new examples each time: HYPOTHESIS_PROFILE=explore make test
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "gate"))

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(autouse=True, scope="session")
def home(tmp_path_factory):
    """FEDVOX_HOME of the whole session: nothing of a test run reaches the user's own."""
    folder = tmp_path_factory.mktemp("home")
    os.environ["FEDVOX_HOME"] = str(folder)
    return folder


@pytest.fixture(scope="session")
def cubes(tmp_path_factory):
    """An .npz of 90 patients, 2 cubes of 16³ each, three vendors; bright centres are positive, the rest is noise."""
    rng = np.random.default_rng(7)
    n = 180
    y = np.tile([0, 1], n // 2)
    x = rng.integers(0, 90, (n, 16, 16, 16)).astype(np.uint8)
    x[y == 1, 5:11, 5:11, 5:11] += 120
    patient = np.repeat([f"p{i:03d}" for i in range(n // 2)], 2)
    vendor = np.repeat(np.array(["GE", "SIEMENS", "PHILIPS"])[np.arange(n // 2) % 3], 2)
    path = tmp_path_factory.mktemp("cubes") / "cubes.npz"
    np.savez(path, x=x, y=y, patient=patient, vendor=vendor)
    return path


@pytest.fixture(scope="session")
def lidc_nodules():
    """The real LIDC nodules, where they are."""
    path = SHARED / "lidc-nodules" / "lidc_nodules_32.npz"
    if not path.exists():
        pytest.skip(f"needs the real LIDC nodules ({path.name}) in ../shared/data")
    return path
