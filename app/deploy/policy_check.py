"""Whether a hospital answers a run's configuration: judged on what it resolves to here, not on its name.

The coordinator's settings arrive as one line of Hydra overrides. In this order, nothing being composed before:

1. no text that could read this machine or build something else: interpolations (`${oc.env:…}`), `_target_`, packages
2. only settings of the list: `policy.overrides` of site.yaml, else `CHANGEABLE`; groups take options of conf/ alone
3. composed here: no path of sources or sites; every `_target_` is one that conf/ names
4. the limits of `policy.accepted`, on the values; the hash, where only some configurations are accepted

What needs the patients (`min_patients`, ε of all runs) is judged later, by `app.site`.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any

import yaml

from app.config import CONF, Config, ConfigError, build, check_options, from_line
from app.fingerprint import approval_hashes
from app.privacy.policy import check_accepted
from app.privacy.terms import terms_of
from app.site.place import composed
from app.site.shield import Declined
from strategies.errors import StrategyError
from strategies.types import Plan

CHANGEABLE = (
    "experiment", "strategy", "model", "training", "augment", "preprocess", "federation", "split", "schedule", "seed",
    "rounds", "stopping", "engine", "deploy", "comparison", "budget", "weights", "quorum", "deadline_s", "wait_s",
    "validate_every", "device", "baseline", "replicates", "optimise",
)  # fmt: skip
"""What a coordinator may set where site.yaml has no list of its own. `weights` is read by the server alone; `device`
and the hospital's source are its own file's, whatever arrives."""

OVERRIDE = re.compile(r"\+{0,2}(?P<key>[A-Za-z_][\w-]*([./][\w-]+)*)=(?P<value>.*)", re.DOTALL | re.ASCII)
"""No step of a key is empty or "..", and none moves a group into another package ("@")."""

FORBIDDEN = ("$", "\\", "_target_", "_partial_", "_args_", "_recursive_", "_convert_", "hydra")
"""Interpolations read this machine (Hydra takes `$\\{` for `${`); the rest would build what no file of ours names."""

BY_ITSELF = re.compile(r"deploy=hospitals|federation=enrolled|\+\+federation\.hospitals\.[\w-]+=\{\}", re.ASCII)
"""What every run at a coordinator begins with: who takes part. It needs no place on a hospital's list."""

MOST_CHARACTERS = 20_000

RUN = re.compile(r"(?!\.)[^/\\]{1,200}")
"""Names of runs and legs, printable; the hospital's memory of them lies in folders of these names."""


def check_run(policy: Mapping[str, Any], run_config: Mapping[str, Any], only: Sequence[str] = ()) -> Config:
    """The configuration that a run resolves to at this hospital.

    Args:
        policy: of site.yaml.
        run_config: Flower's, as the coordinator sent it.
        only: hashes (`approval_hashes`) of the only configurations that the bundle was approved with; empty: any.

    Raises:
        Declined: policy-text, policy-override, policy-path, policy-target, policy-configuration, or the first limit
            of `policy.accepted` that is not kept.
    """
    line = str(run_config.get("overrides", ""))
    overrides = _read(line)
    for override in overrides:
        _check_override(override, policy.get("overrides", CHANGEABLE))
    try:
        config = composed(line)
        _check_resolved(config)
        check_accepted(policy, _unit(config), terms_of(config))
    except (ConfigError, StrategyError) as error:
        raise Declined("configuration", str(error)) from error
    _check_hash(config, (*policy.get("configurations", ()), *only))
    return config


def check_plan(plan: Plan, kind: str, config: Config) -> None:
    """Raise Declined (policy-plan) where what names a run could name another place, or numbers are none of the run's.

    `kind` is the message's: the final scoring is of the last round's model, data are asked after before the first.
    """
    values: dict[str, Any] = vars(plan)
    for name in ("round", "rounds", "seed", "fold", "taken"):
        if type(values[name]) is not int:
            raise Declined("policy-plan", f"a plan whose {name} is no whole number: {values[name]!r:.400}")
    for name in ("run", *(("leg",) if values["leg"] else ())):
        if not _is_name(values[name]):
            raise Declined("policy-plan", f"a plan whose {name} is no name: {values[name]!r:.400}")
    first = 1 if kind.partition(".")[0] == "train" else 0
    if not first <= plan.round <= config["rounds"]:
        raise Declined("policy-plan", f"{kind} in round {plan.round} of a run of {config['rounds']} rounds")


def _is_name(text: Any) -> bool:
    return isinstance(text, str) and text.isprintable() and RUN.fullmatch(text) is not None


def _read(line: str) -> list[str]:
    if len(line) > MOST_CHARACTERS or not line.isprintable():
        raise Declined("policy-text", f"{len(line)} characters of overrides, or unprintable ones: {line[:400]!r}")
    try:
        overrides = from_line(line)
    except ValueError as error:
        raise Declined("policy-text", f"overrides that cannot be read ({error}): {line[:400]!r}") from error
    # Looked at after the shell's quotes are gone: $''{…} would be an interpolation then.
    if found := [word for word in FORBIDDEN if any(word in override for override in overrides)]:
        raise Declined("policy-text", f"overrides with {', '.join(found)}: {line[:400]!r}")
    return overrides


def _check_override(override: str, allowed: Sequence[str]) -> None:
    read = OVERRIDE.fullmatch(override)
    if read is None:
        raise Declined("policy-text", f"{override!r} is not KEY=VALUE")
    if not (BY_ITSELF.fullmatch(override) or any(_is_inside(read["key"], name) for name in allowed)):
        raise Declined("policy-override", f"{override!r}: a coordinator may set {', '.join(allowed)} here")
    try:
        check_options([override])
    except ConfigError as error:
        raise Declined("policy-text", str(error)) from error


def _is_inside(key: str, name: str) -> bool:
    """`strategy` covers strategy=…, strategy.momentum=… and strategy/local=…; a longer name covers less."""
    return key == name or (key.startswith(name) and key[len(name)] in "./")


def _check_resolved(config: Config) -> None:
    federation = config["federation"]
    paths = [name for name, facts in federation["hospitals"].items() if {"site", "source"} & set(facts or {})]
    if federation["sites"] is not None or paths:
        raise Declined("policy-path", f"the run says where hospitals' data lie: {federation['sites'] or paths}")
    for where, target in _targets({key: value for key, value in config.items() if key != "source"}):
        if target not in _known_targets():
            raise Declined("policy-target", f"{where} would build {target!r}, which no file of conf/ names")


def _check_hash(config: Config, accepted: Sequence[str]) -> None:
    if accepted and not set(approval_hashes(config)) & set(accepted):
        got = approval_hashes(config)[0]
        raise Declined("policy-configuration", f"configuration {got} is none of {', '.join(accepted)}")


def _unit(config: Config) -> str:
    return str(build(config["strategy"]).privacy.unit)


@lru_cache(maxsize=1)
def _known_targets() -> frozenset[Any]:
    files = (yaml.safe_load(path.read_text(encoding="utf-8")) for path in CONF.rglob("*.yaml"))
    return frozenset(target for content in files for _, target in _targets(content))


def _targets(node: Any, where: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(node, Mapping):
        if "_target_" in node:
            yield where, node["_target_"]
        for key, child in node.items():
            yield from _targets(child, f"{where}.{key}" if where else str(key))
    elif isinstance(node, list):
        for index, child in enumerate(node):
            yield from _targets(child, f"{where}[{index}]")
