"""What crosses the borders of this package: plain values, no Flower, no configuration.

A round, seen from here: the server sends a `Plan` with the model; a hospital answers with a `Report` of facts and a
delta (its model minus the model it received); both together are an `Update`. `Federated` turns a round's updates
into the next model and writes what happened into `RoundFacts`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from numpy.typing import NDArray

Tensor = NDArray[Any]
Tensors = dict[str, Tensor]
"""Named tensors, as in a `state_dict`: the only shape in which a model crosses a border."""

Encoded = dict[str, Tensors]
"""An update as it stands on the wire: group → tensors, {"values": …, "scale": …}. Group "values" is always there."""

Scalar = str | int | float | bool


@dataclass(frozen=True)
class Plan:
    """What the server asks of one hospital in one round. Scalars only: it travels as one Flower record."""

    run: str
    """Name of the run; hospitals key their state by it."""
    leg: str
    """Which model of the run is trained ("" where a run trains one; folds and local-only runs train several)."""
    round: int
    """1-based; the round whose model is sent along."""
    rounds: int
    """How many rounds are planned."""
    hospital: str
    """Who is asked. In simulation any node may play any hospital; in a deployment a node refuses another's name."""
    seed: int
    fold: int
    """Which fold is held out for the test; -1 where patients are split by a keyed hash instead."""
    score: bool = False
    """Score the hospital's own model after training too (quality weighting reads it)."""
    lr_scale: float = 1.0
    """Factor on the local learning rate in this round (the schedule over rounds lives at the server)."""
    code: str = ""
    """Hash of the server's code; a hospital that runs other code refuses."""
    config: str = ""
    """Hash of the configuration shared by all; a hospital that composes another one refuses."""
    strength: float = float("nan")
    """Strength of the local part in this round (FedProx's adaptive μ); NaN: as configured."""
    taken: int = 0
    """The last round whose update of this hospital went into the model; 0: none did. What the server's sums hold of the
    hospital is of that round, so the hospital's half is taken from there too, not from a round that was lost since."""

    def record(self) -> dict[str, Scalar]:
        """As plain scalars, for the wire."""
        return {f.name: getattr(self, f.name) for f in fields(self)}


@dataclass(frozen=True)
class Report:
    """What a hospital says about its round: facts, never text about patients."""

    hospital: str
    round: int
    """The round whose model the update started from."""
    patients: int
    """Patients trained on."""
    crops: int
    """Training samples (crops) of those patients."""
    steps: int = 0
    """Optimiser steps taken."""
    loss: float = float("nan")
    """Mean training loss of the last local epoch."""
    seconds: float = 0.0
    """Wall time of local work."""
    device: str = "cpu"
    norm: float | None = None
    """L2 norm of the update as it is sent, so that the server can check it while adding; None: the server measures."""
    score: float | None = None
    """AUC of the hospital's own model on its validation patients; None where it was not asked for or cannot be told."""
    data_age_months: float | None = None
    """Age of the hospital's data; None where the hospital does not state it."""
    histogram: tuple[int, ...] = ()
    """Scores of the received model on the validation patients, counted per bin: negatives, then positives."""
    run: str = ""
    """The plan's run and leg, given back: an answer to another run is refused. Filled in when the reply is built."""
    leg: str = ""
    code: str = ""
    """Hash of the code the hospital runs; "" where it does not say."""
    memory_mb: float | None = None
    """Memory the hospital has free for training; None where it does not say (dynamic selection reads it)."""
    epsilon: float | None = None
    """What this run has cost a patient so far, by the hospital's ledger; None where nothing is charged there."""
    spent: float | None = None
    """What all runs together have, as it counts against the cap."""
    delta: float | None = None
    cap: float | None = None
    """The hospital's lifetime limit on ε."""
    ledger: str = ""
    """Length and last MAC of the hospital's ledger, "LENGTH:MAC": shows later whether it was rolled back."""
    salt: str = ""
    """Random, so that two equal reports are two different objects in Flower's content-addressed store."""

    def record(self) -> dict[str, Scalar | list[int]]:
        """As Flower records carry it: None is left out, the histogram is a list."""
        plain = {f.name: getattr(self, f.name) for f in fields(self) if getattr(self, f.name) is not None}
        return {**plain, "histogram": list(self.histogram)}


@dataclass(frozen=True)
class Update:
    """One hospital's answer, decoded: the report and the change it made to the tensors that are shared."""

    report: Report
    delta: Tensors
    control: Tensors = field(default_factory=dict)
    """Change of the hospital's control variate (SCAFFOLD); empty otherwise."""


MEMORY_LOST = "memory-lost"
"""A hospital's code: it no longer has what the plan counts on (its control variate, the tensors that stay home)."""


@dataclass(frozen=True)
class Refusal:
    """Why a hospital's answer of a round is not in the model: a code, never a hospital's own text."""

    hospital: str
    round: int
    code: str


@dataclass(frozen=True)
class Evaluation:
    """One hospital's answer to an evaluation: plain values, meaning given by the application."""

    report: Mapping[str, Any]
    """Scalars and lists of scalars."""
    arrays: Tensors = field(default_factory=dict)


@dataclass(frozen=True)
class Stop:
    """Why a run ends before its last round."""

    reason: str
    """One of rounds, patience, target, budget, quorum, time, interrupted."""
    detail: str = ""


@dataclass(frozen=True)
class RoundFacts:
    """One line of the journal: what was asked, what came, what was done with it."""

    round: int
    seconds: float
    asked: tuple[str, ...]
    reports: Mapping[str, Report]
    weights: Mapping[str, float]
    """Normalised weights really used, by hospital."""
    norms: Mapping[str, float]
    """L2 norm of each accepted delta."""
    bytes_down: Mapping[str, int]
    bytes_up: Mapping[str, int]
    refused: tuple[Refusal, ...] = ()
    failed: str = ""
    """Why the model did not change in this round: "quorum"; "" where it did."""
    late: Mapping[str, int] = field(default_factory=dict)
    """Updates of earlier rounds that went into this one: hospital → rounds late."""
    benched: tuple[str, ...] = ()
    """Hospitals left out of this round after failing several rounds in a row."""
    strength: float = float("nan")
    """Strength of the local part that the plans carried; NaN: as configured."""
    privacy: Mapping[str, Any] = field(default_factory=dict)
    """What the privacy part released, as facts (sensitivity, noise, clipping bound); empty where it did nothing."""


@dataclass(frozen=True)
class ServerState:
    """Everything the server needs to go on after `round`: saved each round, handed back on resume."""

    round: int
    """Rounds done; 0 before the first."""
    model: Tensors
    server_opt: Mapping[str, Tensors] = field(default_factory=dict)
    """The server optimiser's tensors, by name of the moment (velocity, m, v …)."""
    control: Tensors = field(default_factory=dict)
    """Sum of the hospitals' control variates, each times its weight (SCAFFOLD); empty otherwise."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """JSON-able rest: selection history, counters, ledger references."""
