"""Can this model be trained privately? Asked once, before the first step.

Four questions, the first to Opacus' validator, the others to the model itself on made-up crops: is a layer of a
kind known to be unsafe; does one crop change another's output; does a forward remember crops in a buffer; does every
trainable parameter get its gradient through calls the engine covers, each used once.
"""

import copy
from collections.abc import Iterator, Sequence

import torch
from opacus.validators import ModuleValidator
from torch import Tensor, nn

from models.private.engine import clipped_sum
from models.private.errors import Fault, ModelError

CROPS = 3
BATCH_NORMS = (nn.modules.batchnorm._BatchNorm, nn.SyncBatchNorm)  # the common parent has no public name


def check_model(model: nn.Module, crop_shape: Sequence[int]) -> None:
    """Refuse what cannot be trained privately, by name and with the remedy.

    `crop_shape` is that of one crop, (C, Z, Y, X). The model is not changed: a copy of it is tried, in training mode.

    Raises ModelError with every fault found by the first question that finds one.
    """
    trial = copy.deepcopy(model).train()
    device = next((p.device for p in trial.parameters()), torch.device("cpu"))
    x = torch.rand((CROPS, *crop_shape), generator=torch.Generator().manual_seed(0)).to(device)
    for question in (_unsafe_layers, _mixing, _remembering, _uncovered):
        if faults := list(question(trial, x)):
            raise ModelError(*faults)


def _unsafe_layers(model: nn.Module, _: Tensor) -> Iterator[Fault]:
    """Layers that Opacus knows to be unsafe; frozen ones too, which its own walk leaves out."""
    for name, layer in model.named_modules():
        if isinstance(layer, BATCH_NORMS):
            reason = "is a batch norm, which makes every crop's result depend on the other patients of its batch"
            yield Fault(name or "model", reason, "build the model with group norm (model.norm=group)")
            continue
        for error in ModuleValidator.VALIDATORS.get(type(layer), lambda _: [])(layer):
            reason = str(error).split(". ")[0].rstrip(".")
            yield Fault(name or "model", f"is unsafe ({reason})", "replace the layer")


def _mixing(model: nn.Module, x: Tensor) -> Iterator[Fault]:
    probe = x.clone().requires_grad_()
    with torch.random.fork_rng(_devices(x)):
        output = model(probe)
    if output.shape[0] != CROPS:
        yield Fault(
            "model", f"returns {output.shape[0]} rows for {CROPS} crops", "return one row of logits for each crop"
        )
        return
    gradient: Tensor | None = torch.autograd.grad(output[0].sum(), probe, allow_unused=True)[0]
    if gradient is not None and gradient[1:].any():
        reason = "lets one crop change the result of another of its batch"
        yield Fault("model", reason, "replace layers that compute over the batch, such as batch norm")


def _remembering(model: nn.Module, x: Tensor) -> Iterator[Fault]:
    before = {name: buffer.clone() for name, buffer in model.named_buffers()}
    with torch.no_grad(), torch.random.fork_rng(_devices(x)):
        model(x)
    for name, buffer in model.named_buffers():
        if name not in before or not torch.equal(buffer, before[name]):
            yield Fault(name, "is a buffer that keeps what it saw of the crops", "switch its running statistics off")


def _uncovered(model: nn.Module, x: Tensor) -> Iterator[Fault]:
    def losses(output: Tensor, _: Tensor) -> Tensor:
        return output.flatten(1).square().sum(1)

    # Two numbers of crops: a dimension of one of these sizes that is not the crops' would pass for theirs.
    for crops in (x, x[:-1]):
        try:
            with torch.random.fork_rng(_devices(x)):
                clipped_sum(model, losses, crops, crops, [1] * len(crops), 1.0)
        except ModelError as refused:
            yield from refused.faults
            return


def _devices(x: Tensor) -> list[torch.device]:
    return [x.device] if x.device.type == "cuda" else []
