"""A server that does not keep to its own rules asks hospitals what `fedvox run` would refuse: they look themselves."""

import json

import numpy as np
import pytest
from flwr.app import Context, RecordDict
from flwr.supercore.task_identity import TaskIdentity

from app.client_app import app as client
from app.config import build, compose, to_line
from app.fingerprint import code_hash, config_hash
from app.site import place
from models.parameters import get_tensors
from strategies import records
from strategies.records.arrays import to_record
from strategies.types import Plan
from tests.federation.conftest import PRIVATE, SMALL

TRUNK_KEPT = ["model.norm=batch", "strategy/sharing=partial", 'strategy.sharing.layers=["fc*","*running*"]']


@pytest.fixture
def ask(hospitals, monkeypatch):
    """ask(kind, *overrides, weights=…, fold=…) → the hospital's answer, its log and what its ledger holds."""
    folder = hospitals()
    for name in ("_task_id", "_run_id", "_node_id"):
        monkeypatch.setattr(TaskIdentity, name, 1)  # Flower's messages ask which task makes them

    def do(kind, *overrides, weights=None, fold=-1):
        place.forget()
        plain = [text for text in SMALL if not text.startswith(("federation=", "source", "partition="))]
        site = f'++federation.hospitals.GE={{site: "{folder / "GE" / "site.yaml"}"}}'
        settings = ["federation=sites", "federation.sites=null", *plain, *PRIVATE, site, *overrides]
        config = compose(settings)
        model = get_tensors(build(config["model"]))
        model = {name: np.full_like(tensor, weights) if weights else tensor for name, tensor in model.items()}
        plan = Plan(
            run="altered", leg="", round=1, rounds=config["rounds"], hospital="GE", seed=0, fold=fold,
            code=code_hash(), config=config_hash(config),
        )  # fmt: skip
        message = records.request(1, kind, plan, model=to_record(model), ttl_s=600)
        message.metadata.__dict__.update(_run_id=1, _message_id="1")
        reply = client(message, Context(1, 1, {}, RecordDict(), {"overrides": to_line(settings)}))
        ledger = folder / "GE" / "state" / "ledger.jsonl"
        return reply, ledger.read_text().splitlines() if ledger.exists() else []

    return do


@pytest.mark.parametrize(
    ("overrides", "fold", "code"),
    [
        (["model.norm=batch"], -1, "declined"),
        (TRUNK_KEPT, -1, "declined"),
        ([], 0, "policy-fold"),
        (["split.official=true"], 3, "policy-fold"),
    ],
    ids=["batch norm", "batch norm that is frozen", "a fold", "an official fold"],
)
def test_what_no_clipping_bounds_is_not_trained_and_nothing_is_spent(ask, overrides, fold, code):
    reply, ledger = ask("train", *overrides, fold=fold)
    assert records.declined(reply) == code
    assert ledger == []


def test_what_may_be_asked_is_answered(ask):
    reply, ledger = ask("train")
    assert records.declined(reply) == ""
    assert json.loads(ledger[-1])


def test_scores_that_are_not_finite_tell_of_no_patient(ask):
    # The answer looks like any other: a refusal would say that somebody's crops are among the scored ones.
    reply, _ = ask("evaluate", weights=3e38)
    assert records.declined(reply) == ""
    assert np.isfinite(records.read_scores(reply).arrays["test"]).all()
