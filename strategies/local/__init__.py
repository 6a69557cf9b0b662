"""What is learned: what a strategy adds to a hospital's own training.

The training loop belongs to the application. It calls a local part at four places:

    local = strategy.local.at(plan)                        settings of this round
    optimiser = local.optimiser(parameters, lr) or …       None: the configured one
    state = local.start(model, control, kept)              once, with the received model loaded
    … loss.backward(); local.correct(model, state); optimiser.step() …
    learned = local.finish(model, state, steps=…, lr=…)    once, after the last step

`control` is what the server sent beside the model, `kept` what the hospital stored after its last round.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Protocol, Self

from strategies.types import Plan, Tensor, Tensors

if TYPE_CHECKING:
    import torch
    from torch import nn, optim

NOTHING: Mapping[str, Tensor] = MappingProxyType({})
"""No control variate, nothing kept."""


def like_parameter(tensor: Tensor, parameter: "nn.Parameter") -> "torch.Tensor":
    """A tensor of ours as torch's, where the parameter is and in its dtype; a copy."""
    import torch

    return torch.tensor(tensor, dtype=parameter.dtype, device=parameter.device)


@dataclass(frozen=True)
class Learned:
    """What local training yields beside the model."""

    control: Tensors = field(default_factory=dict)
    """Travels with the update (the change of the control variate); empty where nothing does."""
    kept: Tensors = field(default_factory=dict)
    """Stays in the hospital until its next round."""


class Local(Protocol):
    @property
    def uses_control(self) -> bool:
        """Whether a control variate travels both ways."""

    @property
    def personal(self) -> "Local | None":
        """What trains a model of the hospital's own beside the global one; None where there is no such model."""

    def strength(self, losses: Sequence[float]) -> float:
        """What the plan of the next round carries, from the mean training losses so far; NaN: as configured."""

    def at(self, plan: Plan) -> Self:
        """This part with the settings that the plan carries for the round."""

    def optimiser(self, parameters: Iterable["nn.Parameter"], lr: float) -> "optim.Optimizer | None":
        """The optimiser that the method needs; None: the configured one."""

    def start(
        self, model: "nn.Module", control: Mapping[str, Tensor] = NOTHING, kept: Mapping[str, Tensor] = NOTHING
    ) -> Any:
        """Remember what corrections need; the received model is loaded."""

    def correct(self, model: "nn.Module", state: Any) -> None:
        """Add the method's term to the gradients, between backward and the optimiser's step."""

    def finish(self, model: "nn.Module", state: Any, *, steps: int, lr: float) -> Learned:
        """What travels and what stays, after `steps` steps at learning rate `lr`."""
