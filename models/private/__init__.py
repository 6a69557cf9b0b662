"""Per-unit clipped gradients for networks on volumes: the private step before its noise.

    from models.private import clipped_sum

    clipped = clipped_sum(model, loss_per_crop, x, y, units=[3, 1, 4], clip=1.0)
    clipped.sum       # {name: Σ over units of the unit's gradient, scaled to L2 norm ≤ clip}
    clipped.norms     # (3,) float64, before clipping; as sensitive as the crops

A unit is a patient: a run of crops that lie together in the batch, whose mean loss is one gradient. The engine runs
one forward and one backward. Each layer's backward computes the input's gradient only, and keeps the unit's own
weight gradient (large maps) or its norm by Gram matrices (deep layers); afterwards everything is scaled by
min(1, clip / norm) and summed. No hook, no wrapper, no change of the model: any `nn.Module` made of conv1d, conv2d,
conv3d, linear, group_norm and layer_norm, the rest free of parameters.

Noise, sampling of units and accounting are the caller's: for DP-SGD add Gaussian noise of standard deviation
noise_multiplier · clip to `sum`, once for each draw of units, and divide by a constant.

`models.private.check.check_model` refuses models that cannot be trained so, `self_test` kernels that are wrong in
a lower precision, and `models.private.opacus_engine.clipped_sum` is a second engine behind the same signature; the
first and the last import Opacus, and are therefore not imported here.
"""

from models.private.engine import Engine, LossPerCrop, clipped_sum
from models.private.errors import Fault, KernelError, ModelError, PrivateStepError, UnitsError
from models.private.kernels import self_test
from models.private.precision import Precision
from models.private.release import Clipped

__all__ = [
    "Clipped",
    "Engine",
    "Fault",
    "KernelError",
    "LossPerCrop",
    "ModelError",
    "Precision",
    "PrivateStepError",
    "UnitsError",
    "clipped_sum",
    "self_test",
]
