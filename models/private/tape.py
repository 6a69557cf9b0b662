"""One forward and one backward in which every trainable parameter's per-unit gradients are kept account of.

While a `Tape` is open, calls of covered functions on trainable parameters run through `_Recorded`, whose backward
computes the input's gradient only and writes down shares (`models.private.shares`) in place of the weight gradient.
Nothing of the model is touched: no hook, no attribute, no `.grad`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from models.private.covered import COVERED, Call
from models.private.errors import Fault, ModelError
from models.private.layers import Layer, Wanted
from models.private.shares import Share
from models.private.units import Units

COVERED_WORDS = "the private step covers conv1d, conv2d, conv3d, linear, group_norm and layer_norm"


@dataclass(frozen=True)
class Seen:
    """A covered call by shapes alone: a tape must not keep activations alive."""

    layer: Layer
    x_shape: torch.Size
    weight_shape: torch.Size | None
    is_norm: bool

    @classmethod
    def of(cls, call: Call) -> "Seen":
        return cls(call.layer, call.x.shape, None if call.weight is None else call.weight.shape, call.is_norm)


class Tape(TorchFunctionMode):
    """Collects shares of `trained`, a model's trainable parameters by name, over one batch of `units`.

    `dtype` is the precision of convolutions and linear layers; None leaves it as the model has it.
    """

    def __init__(self, trained: Mapping[str, nn.Parameter], units: Units, dtype: torch.dtype | None = None) -> None:
        super().__init__()
        self.units = units
        self.seen: dict[str, Seen] = {}
        """The covered calls so far, by the name of each of their parameters."""
        self.shares: dict[str, Share] = {}
        self._trained = dict(trained)
        self._names = {id(parameter): name for name, parameter in trained.items()}
        self._dtype = dtype
        self._anchor = torch.zeros((), requires_grad=True)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func not in COVERED:
            return func(*args, **(kwargs or {}))
        call = COVERED[func](*args, **(kwargs or {}))
        if not self._is_ours(call):
            return func(*args, **(kwargs or {}))
        return self._record(call)

    def _is_ours(self, call: Call) -> bool:
        """Some of the call's tensors are trained parameters themselves, and none is made from one."""
        tensors = [t for t in (call.weight, call.bias) if t is not None]
        ours = [id(t) in self._names for t in tensors]
        return any(ours) and all(is_ours or not t.requires_grad for is_ours, t in zip(ours, tensors, strict=True))

    def _record(self, call: Call) -> Tensor:
        names = [None if t is None else self._names.get(id(t)) for t in (call.weight, call.bias)]
        for name in filter(None, names):
            self._check(name, call)
            self.seen[name] = Seen.of(call)
        y: Tensor = _Recorded.apply(self._cast(call, call.x), self._anchor, self, call, *names)  # type: ignore[no-untyped-call]
        return y

    def _check(self, name: str, call: Call) -> None:
        if name in self.seen:
            raise ModelError(Fault(name, "is used twice in one forward", "give each use a layer of its own"))
        if call.crops != self.units.rows:
            reason = f"sees {call.crops} rows where {self.units.rows} crops went in"
            raise ModelError(Fault(name, reason, "keep the crops on the first dimension of every layer's input"))

    def _cast(self, call: Call, tensor: Tensor) -> Tensor:
        """To the precision the call is computed in."""
        if self._dtype is None:
            return tensor
        return tensor.to(_parameter_dtype(call) if call.is_norm else self._dtype)

    def low(self, call: Call) -> tuple[Tensor | None, Tensor | None]:
        """The call's weight and bias, detached, in the precision it is computed in."""
        weight, bias = (None if t is None else self._cast(call, t.detach()) for t in (call.weight, call.bias))
        return weight, bias

    def backward(self, losses_B: Tensor, weights_B: Tensor) -> None:
        """Backpropagate Σ weight · loss, filling `shares`.

        Raises ModelError for a trained parameter whose gradient came another way than through a covered call.
        """
        if not losses_B.requires_grad:
            return
        inputs = (self._anchor, *self._trained.values())
        found: Sequence[Tensor | None] = torch.autograd.grad(losses_B, inputs, weights_B, allow_unused=True)
        astray = [name for name, gradient in zip(self._trained, found[1:], strict=True) if gradient is not None]
        if astray:
            remedy = f"{COVERED_WORDS}, called on the parameter itself; freeze it or build the layer from these"
            raise ModelError(*(Fault(name, "is not covered", remedy) for name in astray))


def _parameter_dtype(call: Call) -> torch.dtype:
    return next(t.dtype for t in (call.weight, call.bias) if t is not None)


class _Recorded(torch.autograd.Function):
    """A covered call. `anchor` requires a gradient, so that a layer fed by the crops themselves is reached too."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, anchor: Tensor, tape: Tape, call: Call, weight_name: str | None, bias_name: str | None
    ) -> Tensor:
        weight, bias = tape.low(call)
        y, saved = call.layer.forward(x, weight, bias)
        ctx.save_for_backward(x, *saved)
        ctx.tape, ctx.layer, ctx.weight, ctx.names = tape, call.layer, weight, (weight_name, bias_name)
        return y

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        # Detached: a share that held on to the graph, which holds the tape, would never be freed.
        x, *saved = (t.detach() for t in ctx.saved_tensors)
        weight_name, bias_name = ctx.names
        wanted = Wanted(ctx.needs_input_grad[0], weight_name is not None, bias_name is not None)
        found = ctx.layer.backward(gradients[0], x, ctx.weight, tuple(saved), units=ctx.tape.units, wanted=wanted)
        for name, share in ((weight_name, found.weight), (bias_name, found.bias)):
            if name is not None and share is not None:
                ctx.tape.shares[name] = share
        return found.x, None, None, None, None, None
