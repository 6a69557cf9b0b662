"""Our optimisers beside torch's: the same numbers, without torch's compiler."""

import subprocess
import sys

import pytest
import torch
from torch import nn

from app.training.optimiser import SGD, AdamW

PAIRS = {
    "adamw": (lambda p: AdamW(p, 0.01, 0.1), lambda p: torch.optim.AdamW(p, 0.01, weight_decay=0.1, fused=True)),
    "sgd": (lambda p: SGD(p, 0.01, 0.1), lambda p: torch.optim.SGD(p, 0.01, weight_decay=0.1, fused=True)),
    "momentum": (lambda p: SGD(p, 0.01, momentum=0.9), lambda p: torch.optim.SGD(p, 0.01, momentum=0.9, fused=True)),
}


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv3d(1, 4, 3), nn.Flatten(), nn.Linear(4 * 27, 1))


@pytest.mark.parametrize("ours, theirs", PAIRS.values(), ids=PAIRS)
def test_five_steps_are_torchs_bit_for_bit(ours, theirs):
    x = torch.randn(8, 1, 5, 5, 5, generator=torch.Generator().manual_seed(1))
    ends = []
    for make in (ours, theirs):
        model = network()
        optimiser = make(list(model.parameters()))
        for _ in range(5):
            optimiser.zero_grad()
            model(x).square().mean().backward()
            optimiser.step()
        ends.append([p.detach() for p in model.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*ends, strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(ends[0], network().parameters(), strict=True))


@pytest.mark.parametrize("make", [ours for ours, _ in PAIRS.values()], ids=PAIRS)
def test_a_parameter_without_a_gradient_stays_where_it_is(make):
    moved, left = nn.Parameter(torch.ones(3)), nn.Parameter(torch.ones(3))
    optimiser = make([left, moved])
    moved.square().sum().backward()
    optimiser.step()
    assert torch.equal(left, torch.ones(3))
    assert (moved < 1).all()


def test_a_step_loads_no_compiler():
    step = (
        "import sys, torch; from torch import nn; from app.training.optimiser import AdamW, SGD\n"
        "for kind in (AdamW, SGD):\n"
        "    p = nn.Parameter(torch.ones(3)); o = kind([p], 0.1); p.square().sum().backward(); o.step()\n"
        "sys.exit('torch._dynamo' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", step], check=False).returncode == 0
