"""The hospital's half of a round: which tensors to load, and what leaves and what stays after training.

`kept` is what the hospital stored after its last round, in groups:

    home        the tensors that do not travel (FedBN's norm layers, a frozen or personal part)
    local       what the local part keeps (SCAFFOLD's control variate)
    residual    what the wire's encoding has lost so far
"""

from collections.abc import Mapping
from dataclasses import dataclass

from strategies.local import Learned
from strategies.parts import Parts
from strategies.tensors import difference
from strategies.types import Encoded, Tensor, Tensors

Kept = Mapping[str, Tensors]


@dataclass(frozen=True)
class Leaving:
    """What training led to, divided."""

    encoded: Encoded
    """Leaves: the update."""
    control: Tensors
    """Leaves: the change of the control variate; empty for most methods."""
    kept: dict[str, Tensors]
    """Stays, and is handed in again in the next round."""


def to_load(parts: Parts, kinds: Mapping[str, str], received: Tensors, kept: Kept) -> Tensors:
    """What to load before training or scoring: what came, but the hospital's own where a tensor stays home."""
    shared = set(parts.sharing.shared(kinds))
    return {**received, **{name: t for name, t in kept.get("home", {}).items() if name not in shared}}


def leaving(
    parts: Parts,
    kinds: Mapping[str, str],
    *,
    received: Tensors,
    trained: Mapping[str, Tensor],
    learned: Learned,
    kept: Kept,
) -> Leaving:
    """Divide the trained tensors into the update that leaves, encoded and sealed, and what stays for next time."""
    shared = parts.sharing.shared(kinds)
    delta = difference(trained, received, shared)
    encoded, residual = parts.wire.encode(delta, kept.get("residual", {}))
    at_home = {name: trained[name] for name in kinds if name not in set(shared)}
    groups = {"home": at_home, "local": learned.kept, "residual": residual}
    return Leaving(
        parts.exchange.seal(encoded), learned.control, {name: group for name, group in groups.items() if group}
    )
