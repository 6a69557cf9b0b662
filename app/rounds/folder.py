"""A run's folder: what the run was, what happened, what it made.

config.yaml  overrides.txt  fingerprint.json     what it was
run.json                                         the name that hospitals know it by
partition.json                                   in a simulation: how many patients and crops each hospital has
comparison.json                                  what hospitals told of their data before round 1, and what was found
rounds.jsonl                                     one line of facts a round
repeated.jsonl                                   such lines of rounds that came once more after a resume
checkpoint/[LEG/]state.safetensors               to go on from
[legs/LEG/]model.safetensors, model.json         what it made
scores/[LEG].npz                                 score histograms of the final test, by hospital
summary.json                                     what each hospital got and paid
privacy.md                                       what was promised to patients, and what that rests on
"""

import json
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app.config import PATH_KEYS, Config, ConfigError, compose, from_line, leaves, to_line, to_yaml
from app.files import append_json, replacing, write_json, write_text
from app.fingerprint import binding, code_hash, fingerprint


@dataclass(frozen=True)
class RunFolder:
    """The folder, and where things lie in it."""

    path: Path

    @property
    def journal(self) -> Path:
        """One JSON line a round."""
        return self.path / "rounds.jsonl"

    @property
    def repeated(self) -> Path:
        """The lines of rounds that came once more after a resume."""
        return self.path / "repeated.jsonl"

    @property
    def summary(self) -> Path:
        """The outcome."""
        return self.path / "summary.json"

    @property
    def privacy(self) -> Path:
        """What was promised to whom, and what it cost: a page for people."""
        return self.path / "privacy.md"

    def checkpoint(self, leg: str) -> Path:
        """The folder of a leg's server state."""
        return self.path / "checkpoint" / leg

    def model(self, leg: str) -> Path:
        """Where a leg's final model goes."""
        return (self.path / "legs" / leg if leg else self.path) / "model.safetensors"

    def scores(self, leg: str) -> Path:
        """Where a leg's final scores go."""
        return self.path / "scores" / f"{leg or 'all'}.npz"

    def run_name(self) -> str:
        """What hospitals key their state by: two runs in folders of one name are still two runs."""
        return str(json.loads((self.path / "run.json").read_text(encoding="utf-8"))["run"])

    def overrides(self) -> list[str]:
        """The overrides that the run was started with."""
        return from_line((self.path / "overrides.txt").read_text(encoding="utf-8"))

    def append(self, facts: dict[str, Any]) -> None:
        """Add one line to the journal."""
        append_json(self.journal, facts)

    def lines(self) -> list[dict[str, Any]]:
        """The journal, oldest line first; a torn last line is left out."""
        return list(self._lines())

    def lines_of(self, leg: str) -> list[dict[str, Any]]:
        """A leg's part of the journal."""
        return [line for line in self._lines() if line["leg"] == leg]

    def forget_after(self, leg: str, round: int) -> None:
        """Drop journal lines of rounds that come once more: journalled but not checkpointed when the run was killed.

        They stay in repeated.jsonl: what a round released is released, whatever comes of it the next time.
        """
        lines = self.lines()
        kept = [line for line in lines if line["leg"] != leg or line["round"] <= round]
        for line in lines:
            if line not in kept:
                append_json(self.repeated, line)
        with replacing(self.journal) as file:
            file.write("".join(json.dumps(line) + "\n" for line in kept).encode())

    def released(self) -> list[dict[str, Any]]:
        """All that was done, and so released: the rounds that came once more first, then the journal."""
        return [*_read(self.repeated), *self._lines()]

    def _lines(self) -> Iterator[dict[str, Any]]:
        return _read(self.journal)


def _read(journal: Path) -> Iterator[dict[str, Any]]:
    """Its lines; a torn one ends them."""
    if not journal.exists():
        return
    for text in journal.read_text(encoding="utf-8").splitlines():
        try:
            yield json.loads(text)
        except json.JSONDecodeError:
            return


BEGINNINGS = ("config.yaml", "fingerprint.json", "run.json", "overrides.txt.")
"""What a folder holds where making it was cut short: `overrides.txt` is the last file, and makes it a run's."""


def create(path: Path, config: Config, overrides: list[str]) -> RunFolder:
    """Make a new run folder; one that was left half made is made again.

    Raises:
        ConfigError: the folder exists and is not empty.
    """
    if path.exists() and any(not file.name.startswith(BEGINNINGS) for file in path.iterdir()):
        raise ConfigError(f"the run folder {path} exists already; name another, or continue it with --resume {path}")
    path.mkdir(parents=True, exist_ok=True)
    write_text(path / "config.yaml", to_yaml(config))
    write_json(path / "fingerprint.json", fingerprint(config))
    write_json(path / "run.json", {"run": f"{path.name}-{secrets.token_hex(4)}"})
    write_text(path / "overrides.txt", to_line(overrides) + "\n")
    return RunFolder(path)


def opened(path: Path) -> RunFolder:
    """An existing run folder.

    Raises:
        ConfigError: it is none.
    """
    if not (path / "overrides.txt").exists():
        raise ConfigError(f"{path} is no run folder: it has no overrides.txt")
    return RunFolder(path)


def reopen(path: Path, config: Config) -> RunFolder:
    """An existing run folder, to go on with.

    Raises:
        ConfigError: it is no run folder, or was started with other settings (names the keys that differ) or by other
            code: one run would be of two kinds.
    """
    folder = opened(path)
    before, now = _bound(compose(folder.overrides())), _bound(config)
    if changed := sorted(key for key in before.keys() | now.keys() if before.get(key) != now.get(key)):
        raise ConfigError(
            f"{path} was started with other settings ({', '.join(changed[:5])}); resume with the same, or start anew"
        )
    began_with = json.loads((path / "fingerprint.json").read_text(encoding="utf-8"))["code"]
    if began_with != code_hash():
        raise ConfigError(
            f"{path} was started by code {began_with}, this is {code_hash()}; resume with the version that began it, "
            "or start anew"
        )
    return folder


def _bound(config: Config) -> dict[str, Any]:
    """What a resumed run must agree on with itself: also the data, wherever they lie by now."""
    source = {f"source.{key}": value for key, value in leaves(config["source"]) if key not in PATH_KEYS}
    return {**dict(leaves(binding(config))), **source}
