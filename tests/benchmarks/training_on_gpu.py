"""Local training on a GPU, as hospitals with one have it: crops a second, peak memory, bfloat16 against float32.

`python -m tests.benchmarks.training_on_gpu` prints the table; where there is no GPU, it says so. Crops come from
memory, so that the numbers are the network's and the loop's, not the disk's.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch

from app.training.fit import Fit, Training, fit
from models.resnet3d import resnet
from tests.benchmarks.row import Row, at_least, compared, skipped

CROPS = 256
NAME = "training on a GPU, bfloat16 against float32"


@dataclass(frozen=True)
class Load:
    """What is trained: the network and its batches."""

    depth: int
    widths: tuple[int, ...]
    size: int
    batch: int

    def __str__(self) -> str:
        return f"resnet{self.depth} {'-'.join(map(str, self.widths))}, {self.size}³, batch {self.batch}"


LOADS = (
    Load(10, (16, 32, 64, 128), 32, 32),
    Load(10, (64, 128, 256, 512), 64, 16),
    Load(18, (64, 128, 256, 512), 64, 16),
    Load(34, (64, 128, 256, 512), 64, 16),
    Load(50, (64, 128, 256, 512), 64, 16),
)


class InMemory:
    """Crops that need no disk."""

    def __init__(self, count: int, size: int) -> None:
        rng = np.random.default_rng(0)
        self.labels = np.arange(count) % 2
        self._x = rng.random((count, 1, size, size, size), dtype=np.float32)
        self._x[self.labels == 1, :, size // 3 : -size // 3, size // 3 : -size // 3, size // 3 : -size // 3] += 0.5

    def __len__(self) -> int:
        return len(self.labels)

    def batch(self, indices, *, augment=None, rng=None):
        return self._x[indices], self.labels[indices].astype(np.float32)


def rows(full: bool = False) -> Iterator[Row]:
    """bfloat16 against float32 for every load; skipped where there is no GPU."""
    if not torch.cuda.is_available():
        yield skipped(NAME, at_least(1.0), "no GPU here")
        return
    for load in LOADS:
        yield _compared(load)


def _compared(load: Load) -> Row:
    crops = InMemory(CROPS, load.size)
    half, half_mib = _measured(load, crops, "bf16")
    single, single_mib = _measured(load, crops, "off")
    memory = f"peak {half_mib:.0f} MiB against {single_mib:.0f}"
    note = f"{half.precision}; {memory}; loss {half.loss:.3f} against {single.loss:.3f}"
    return compared(
        f"{NAME}: {load}",
        ours=len(crops) * EPOCHS / half.seconds,
        reference=len(crops) * EPOCHS / single.seconds,
        unit="crops/s",
        target=at_least(1.0),
        note=note,
    )


EPOCHS = 4


def _measured(load: Load, crops: InMemory, amp: str) -> tuple[Fit, float]:
    """The second of two trainings: the first pays for kernel selection."""
    device = torch.device("cuda:0")
    training = Training(lr=1e-4, epochs=1, batch_size=load.batch, amp=amp)
    fit(resnet(load.depth, load.widths), crops, training=training, device=device, address=(0, "warm-up"))
    torch.cuda.reset_peak_memory_stats()
    model = resnet(load.depth, load.widths)
    done = fit(model, crops, training=replace(training, epochs=EPOCHS), device=device, address=(0, "measured"))
    return done, torch.cuda.max_memory_allocated() / 2**20


if __name__ == "__main__":
    for row in rows(full=True):
        print(row.name, f"{row.ours or 0:.0f} {row.reference or 0:.0f} {row.unit} ratio {row.ratio or 0:.2f}", row.note)
