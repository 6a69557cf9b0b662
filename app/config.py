"""The one door between configuration and code: `compose` reads conf/, `build` turns a node into an object.

The result is a plain nested dict; no class of ours ever sees a Hydra object. Both sides of a federation compose
from their own conf/ and compare fingerprints (`app.fingerprint`).
"""

import difflib
import hashlib
import itertools
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import hydra
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from hydra.utils import get_object, instantiate
from omegaconf import OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

from strategies.errors import StrategyError

CONF = Path(__file__).resolve().parent.parent / "conf"

ALLOWED = ("strategies.", "models.", "data.", "app.", "torch.optim.")
"""What configuration may name. Hydra 1.3 has a blocklist only, and a run's overrides come from another machine."""

PATH_KEYS = frozenset({"path", "sites", "site", "weights"})
"""Keys that hold a path: made absolute before a run leaves the shell's working directory."""

OPTION = re.compile(r"[A-Za-z0-9_-]+")
"""Name of a group's option: a file of conf/GROUP, without its ending."""

Config = dict[str, Any]


class ConfigError(ValueError):
    """The configuration cannot be used as it was given. One line, with what to write instead."""


def compose(overrides: Sequence[str] = ()) -> Config:
    """Compose conf/config.yaml with Hydra overrides into a plain, resolved dict.

    Raises:
        ConfigError: an override that names nothing, with the nearest valid name; a value of the wrong type; a
            mandatory value that is missing; what `check_options` refuses.
    """
    try:
        check_options(overrides)
        config = _compose(overrides)
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError(_explain(error, overrides)) from error
    _check_types(config)
    return config


def check_options(overrides: Sequence[str]) -> None:
    """Raise ConfigError where a group is asked for anything but options of conf/, by their plain names.

    Hydra puts what it is given behind conf/GROUP/ as it stands: `augment=../../../srv/site` would read that file. The
    overrides of a run come from another machine.
    """
    try:
        read = OverridesParser.create().parse_overrides(list(overrides))
    except HydraException as error:
        raise ConfigError(f"cannot read the settings: {str(error).splitlines()[0]}") from error
    for override in read:
        value = override.value()
        is_choice = not (override.is_sweep_override() or override.is_delete() or isinstance(value, Mapping))
        if is_choice and (CONF / override.key_or_group).is_dir():
            _check_choice(override.key_or_group, value)


def build(node: Mapping[str, Any], /, **runtime: Any) -> Any:
    """Turn one node into one object. Only our packages and torch's optimisers may be named.

    Raises:
        ConfigError: a target outside `ALLOWED`, or values that its constructor refuses.
        StrategyError: a part of a strategy, or the whole of it, refuses them: its own sentence says which.
    """
    for where, target in _targets(node, "config"):
        _refuse_unless_allowed(where, target)
    try:
        return instantiate(dict(node), _convert_="all", **runtime)
    except HydraException as error:
        if isinstance(error.__cause__, StrategyError):
            raise error.__cause__ from None
        raise ConfigError(f"{node.get('_target_')}: {error.__cause__ or error}".splitlines()[0]) from error


@dataclass(frozen=True)
class Point:
    """One point of a grid: all its overrides, and those that vary over the grid."""

    overrides: tuple[str, ...]
    varied: Mapping[str, str]

    def name(self) -> str:
        """A folder name; equal points, equal names."""
        text = ",".join(f"{key.rpartition('.')[2]}={value}" for key, value in self.varied.items()) or "only"
        plain = re.sub(r"[^A-Za-z0-9=,._-]+", "-", text)[:120]
        if plain == text:
            return plain
        # Something was folded or cut off, as something else of another point may have been.
        return f"{plain}-{hashlib.sha256(repr(sorted(self.varied.items())).encode()).hexdigest()[:6]}"


def grid(overrides: Sequence[str]) -> list[Point]:
    """Expand overrides like `training.lr=0.01,0.03` into every combination, in order; a key's last override counts.

    Raises:
        ConfigError: an override that cannot be read, or a grid without bounds (`interval`).
    """
    try:
        last = {override.partition("=")[0]: override for override in overrides}
        parsed = OverridesParser.create().parse_overrides(list(last.values()))
        axes = [
            [f"{o.get_key_element()}={value}" for value in o.sweep_string_iterator()] if o.is_sweep_override()
            else [str(o.input_line)]
            for o in parsed
        ]  # fmt: skip
    except HydraException as error:
        raise ConfigError(f"cannot read the grid: {str(error).splitlines()[0]}") from error
    swept = [o.get_key_element() for o in parsed if o.is_sweep_override()]
    return [Point(point, _varied(point, swept)) for point in itertools.product(*axes)]


def sweep_overrides(name: str) -> list[str]:
    """The grid that conf/sweep/NAME.yaml holds, as overrides.

    Raises:
        ConfigError: there is no such file.
    """
    if name not in _options("sweep"):
        raise ConfigError(
            f"no sweep {name!r}{_nearest(name, _options('sweep'))}; there are: {', '.join(_options('sweep'))}"
        )
    node = OmegaConf.load(CONF / "sweep" / f"{name}.yaml")
    return [f"{key}={value}" for key, value in node.hydra.sweeper.params.items()]


def to_yaml(config: Config) -> str:
    """The resolved configuration as YAML, as it is written into a run folder."""
    return str(OmegaConf.to_yaml(OmegaConf.create(config)))


def to_line(overrides: Sequence[str]) -> str:
    """Overrides as the one string that travels in Flower's flat run configuration."""
    return shlex.join(overrides)


def from_line(line: str) -> list[str]:
    """The overrides back from `to_line`."""
    return shlex.split(line)


def absolute_paths(config: Config) -> list[str]:
    """Overrides that make every relative path of `config` absolute, seen from the current folder."""
    made = []
    for key, value in leaves(config):
        if key.rpartition(".")[2] in PATH_KEYS and isinstance(value, str) and not Path(value).is_absolute():
            made.append(f"{key}={quoted(str(Path(value).expanduser().resolve()))}")
    return made


def quoted(text: str) -> str:
    """`text` as a Hydra string literal, whatever it contains."""
    # Hydra reads a backslash as one, except before a quote: there, and at the end, each is doubled.
    escaped = re.sub(r"(\\*)('|$)", lambda run: run[1] * 2 + ("\\'" if run[2] else ""), text)
    return f"'{escaped}'"


def leaves(node: Any, where: str = "") -> Iterator[tuple[str, Any]]:
    """Every value of a nested dict with its dotted key."""
    if isinstance(node, Mapping) and node:
        for key, child in node.items():
            yield from leaves(child, f"{where}.{key}" if where else str(key))
    else:
        yield where, node


def _check_choice(group: str, value: Any) -> None:
    """`value` as Hydra reads it: it takes a name, or a list of names."""
    for option in value if isinstance(value, list) else [value]:
        if not isinstance(option, str) or not OPTION.fullmatch(option):
            raise ConfigError(f"{group}={value}: an option goes by its plain name; {_there_are(group)}")


def _varied(point: Sequence[str], swept: Sequence[str]) -> dict[str, str]:
    pairs = (override.partition("=") for override in point)
    return {key: value for key, _, value in pairs if key in swept}


def _compose(overrides: Sequence[str], *, complete: bool = True) -> Config:
    GlobalHydra.instance().clear()
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        composed = hydra.compose("config", overrides=list(overrides))
    plain = OmegaConf.to_container(composed, resolve=True, throw_on_missing=complete)
    return {str(key): value for key, value in plain.items() if key not in ("experiment", "sweep")}  # type: ignore[union-attr]


@lru_cache(maxsize=1)
def _defaults() -> Config:
    return _compose(())


def _check_types(config: Config) -> None:
    """A number stays a number: Hydra would let `rounds=ten` through as text."""
    for key, default in _defaults().items():
        got = config[key]
        if isinstance(default, bool) or not isinstance(default, int) or got is None:
            continue
        if not isinstance(got, int) or isinstance(got, bool) or got < 0:
            raise ConfigError(f"{key}={got}: a whole number ≥ 0 is needed, like {key}={default}")
    if config["rounds"] is None or config["rounds"] < 1:
        raise ConfigError(f"rounds={config['rounds']}: at least one round is needed")


def _explain(error: Exception, overrides: Sequence[str]) -> str:
    first = str(error).splitlines()[0]
    if isinstance(error, MissingMandatoryValue):
        return f"{error.full_key} is not set; add {error.full_key}=…"
    names = _names(overrides)
    for override in overrides:
        key, _, value = override.lstrip("+~").partition("=")
        is_new = override.startswith("+")
        if key not in names and not is_new:
            return f"unknown setting {key!r}{_nearest(key, names)}"
        if (CONF / key).is_dir() and value not in _options(key):
            return f"{key}={value}: no such choice{_nearest(value, _options(key))}; {_there_are(key)}"
    return f"the configuration cannot be composed: {first}"


def _names(overrides: Sequence[str]) -> list[str]:
    """Every key and group that may be set, given the group choices among `overrides`."""
    groups = {str(folder.relative_to(CONF)) for folder in CONF.rglob("*") if folder.is_dir()}
    choices = [o for o in overrides if (key := o.partition("=")[0]) in groups and o.partition("=")[2] in _options(key)]
    keys = [key for key, _ in leaves(_compose(choices, complete=False))]
    inner = {".".join(key.split(".")[:depth]) for key in keys for depth in range(1, key.count(".") + 2)}
    return sorted(inner | groups)


def _options(group: str) -> list[str]:
    return sorted(path.stem for path in (CONF / group).glob("*.yaml"))


def _there_are(group: str) -> str:
    return f"there are: {', '.join(_options(group))}"


def _nearest(word: str, among: Sequence[str]) -> str:
    near = difflib.get_close_matches(word, among, n=1, cutoff=0.5)
    return f"; did you mean {near[0]!r}?" if near else ""


def _targets(node: Any, where: str) -> Iterator[tuple[str, Any]]:
    if isinstance(node, Mapping):
        if "_target_" in node:
            yield where, node["_target_"]
        for key, child in node.items():
            yield from _targets(child, f"{where}.{key}")
    elif isinstance(node, list):
        for index, child in enumerate(node):
            yield from _targets(child, f"{where}[{index}]")


def _refuse_unless_allowed(where: str, target: Any) -> None:
    # A prefix alone is not enough: `app.logging.os.system` is `os.system`. Every step of the path must be ours.
    plain = isinstance(target, str) and re.fullmatch(r"[A-Za-z_][A-Za-z0-9_.]*", target)
    if not plain or not target.startswith(ALLOWED) or not _is_defined_there(target):
        raise ConfigError(f"{where}: {target!r} may not be built from configuration (allowed: {', '.join(ALLOWED)})")


def _is_defined_there(target: str) -> bool:
    try:
        found = get_object(target)
    except (ImportError, AttributeError, ValueError):
        return False
    home = getattr(found, "__module__", "")
    return isinstance(home, str) and f"{home}.".startswith(ALLOWED)
