"""Places that are no finding, for data that have findings alone: drawn inside the lungs, away from every finding.

Lungs are those of `data.statistics.anatomy`, on its grid of about 4 mm. What is drawn for one scan depends on the seed
and the scan's uid, and on no other scan.
"""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from data.errors import BadSetting
from data.preprocess.orient import oriented
from data.samples import Candidate
from data.statistics.anatomy import anatomy_of
from data.volume import CtVolume, Point


@dataclass(frozen=True)
class Negatives:
    """How places are drawn.

    Args:
        count: a scan; fewer where the lungs have no more room.
        apart_mm: from the surface of every finding, and between two of them.
        seed: decides which.

    Raises:
        BadSetting
    """

    count: int
    apart_mm: float = 10.0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.count < 1 or not self.apart_mm >= 0:
            raise BadSetting(f"{self.count} negatives a scan, {self.apart_mm} mm apart; at least 1 and 0 are needed")

    def draw(self, volume: CtVolume, findings: Sequence[Candidate], *, uid: str) -> list[Candidate]:
        """Candidates of label 0; none where the scan shows no lungs."""
        volume = oriented(volume)
        taken = [(finding.centre_xyz_mm, (finding.diameter_mm or 0.0) / 2) for finding in findings]
        drawn: list[Candidate] = []
        for place in self._places(volume, uid):
            if len(drawn) == self.count:
                break
            if all(math.dist(place, centre) >= self.apart_mm + radius for centre, radius in taken):
                drawn.append(Candidate(place, 0))
                taken.append((place, 0.0))
        return drawn

    def _places(self, volume: CtVolume, uid: str) -> list[Point]:
        """A place in every block of lung, in an order of chance."""
        anatomy = anatomy_of(volume)
        address = hashlib.sha256(f"{self.seed}/{uid}".encode()).digest()
        rng = np.random.default_rng(int.from_bytes(address[:8], "big"))
        blocks = rng.permutation(np.argwhere(anatomy.lung_ZYX))
        a_block = np.array(anatomy.spacing_zyx_mm) / np.array(volume.spacing_zyx_mm)
        voxels = (blocks + rng.random(blocks.shape)) * a_block - 0.5
        return [volume.voxel_to_world((z, y, x)) for z, y, x in voxels.tolist()]
