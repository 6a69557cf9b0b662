"""The private step and what it is measured beside: one gradient of one batch, each its own way.

`python -m tests.benchmarks.private_contenders CONTENDER LOAD` takes three steps in a process of its own and prints how
many MiB they needed beyond the model and the batch. Linux only: the kernel keeps the high-water mark, and lets a
process reset its own.
"""

import copy
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from opacus import GradSampleModule
from opacus.grad_sample import GradSampleModuleFastGradientClipping
from opacus.optimizers import DPOptimizer, DPOptimizerFastGradientClipping
from opacus.utils.fast_gradient_clipping_utils import DPLossFastGradientClipping
from torch import Tensor, nn
from torch.nn import functional

from models.private import Precision, clipped_sum
from models.private.precision import computing, mixed
from models.resnet3d import resnet

CLIP = 1.0
CROPS_A_PATIENT = 4
WIDTHS = {"full": (64, 128, 256, 512), "quarter": (16, 32, 64, 128)}
STEPS = 3

# Opacus listens to the first layer too, whose input has no gradient to show; and its hooks replace the ordinary ones.
warnings.filterwarnings("ignore", "Full backward hook is firing", UserWarning)


@dataclass(frozen=True)
class Load:
    """A network, stem of stride 2, and its batch."""

    depth: int
    widths: str
    size: int
    batch: int

    def __str__(self) -> str:
        return f"resnet{self.depth} {self.widths} width, {self.size}³, batch {self.batch}"

    def build(self, device: torch.device) -> tuple[nn.Module, Tensor, Tensor]:
        generator = torch.Generator().manual_seed(0)
        x = torch.rand(self.batch, 1, self.size, self.size, self.size, generator=generator)
        y = (torch.arange(self.batch) % 2).float()
        return resnet(self.depth, WIDTHS[self.widths], stem_stride=2).to(device), x.to(device), y.to(device)


Step = Callable[[], object]


def ordinary(model: nn.Module, x: Tensor, y: Tensor, precision: Precision = "float32") -> Step:
    """Forward and backward of the mean loss."""

    def step() -> None:
        model.zero_grad(set_to_none=True)
        with computing(precision, x.device):
            with mixed(precision, x.device):
                loss = _losses(model(x), y).mean()
            loss.backward()

    return step


def ours(model: nn.Module, x: Tensor, y: Tensor, precision: Precision = "float32") -> Step:
    """Every crop a patient."""
    return lambda: clipped_sum(model, _losses, x, y, [1] * len(x), CLIP, precision=precision)


def ours_by_four(model: nn.Module, x: Tensor, y: Tensor, precision: Precision = "float32") -> Step:
    """Four crops a patient."""
    units = [CROPS_A_PATIENT] * (len(x) // CROPS_A_PATIENT)
    return lambda: clipped_sum(model, _losses, x, y, units, CLIP, precision=precision)


def opacus_hooks(model: nn.Module, x: Tensor, y: Tensor) -> Step:
    """Per-sample gradients, clipped and summed by Opacus' own optimiser."""
    hooked = GradSampleModule(copy.deepcopy(model), loss_reduction="mean")
    optimiser = DPOptimizer(
        torch.optim.SGD(hooked.parameters(), 0.1), noise_multiplier=0.0, max_grad_norm=CLIP, expected_batch_size=len(x)
    )

    def step() -> None:
        optimiser.zero_grad(set_to_none=True)
        with computing("float32", x.device):
            _losses(hooked(x), y).mean().backward()
            optimiser.clip_and_accumulate()

    return step


def opacus_ghost(model: nn.Module, x: Tensor, y: Tensor) -> Step:
    """Norms first, a second backward for the sum."""
    hooked = GradSampleModuleFastGradientClipping(copy.deepcopy(model), max_grad_norm=CLIP, loss_reduction="mean")
    optimiser = DPOptimizerFastGradientClipping(
        torch.optim.SGD(hooked.parameters(), 0.1), noise_multiplier=0.0, max_grad_norm=CLIP, expected_batch_size=len(x)
    )
    loss_of = DPLossFastGradientClipping(hooked, optimiser, nn.BCEWithLogitsLoss())

    def step() -> None:
        optimiser.zero_grad(set_to_none=True)
        with computing("float32", x.device):
            loss_of(hooked(x).squeeze(1), y).backward()

    return step


def _losses(output: Tensor, y: Tensor) -> Tensor:
    return functional.binary_cross_entropy_with_logits(output.squeeze(1).float(), y, reduction="none")


CONTENDERS: dict[str, Callable[[nn.Module, Tensor, Tensor], Step]] = {
    "ordinary": ordinary,
    "ours": ours,
    "ours, four crops a patient": ours_by_four,
    "Opacus hooks": opacus_hooks,
    "Opacus ghost": opacus_ghost,
}


def main(contender: str, *load: str) -> None:
    depth, widths, size, batch = load
    torch.set_num_threads(1)
    wanted = Load(int(depth), widths, int(size), int(batch))
    # Libraries fetch memory of their own at the first call; a tiny network makes them.
    _take(contender, Load(10, "quarter", 16, CROPS_A_PATIENT), steps=1)
    print(_take(contender, wanted, steps=STEPS))


def _take(contender: str, load: Load, *, steps: int) -> float:
    step = CONTENDERS[contender](*load.build(torch.device("cpu")))
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # proc(5): forget the high-water mark
    before = _resident_mib("VmRSS")
    for _ in range(steps):
        step()
    return _resident_mib("VmHWM") - before


def _resident_mib(field: str) -> float:
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{field}:")) / 1024


if __name__ == "__main__":
    main(*sys.argv[1:])
