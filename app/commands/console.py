"""What a person sees of a run: a line a round, a bar where the terminal can show one, the table at the end."""

import json
import math
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TextIO

from rich.console import Console as Rich
from rich.table import Table

from app.deploy.foreign import shown
from app.fingerprint import code_hash

QUIET_SECONDS = 20.0
"""Where there is no terminal, a line this often says that work goes on."""

WIDTH = 100
"""Columns where there is no terminal to ask."""


class Console:
    """Prints to `file`; plain lines where it is no terminal. Text is text: nothing in it is markup."""

    def __init__(self, file: TextIO = sys.stdout) -> None:
        self._rich = Rich(file=file, highlight=False, soft_wrap=True, markup=False, emoji=False)
        if not self._rich.is_terminal:
            self._rich.width = WIDTH
        self._status = self._rich.status("") if self._rich.is_terminal else None
        self._said = time.monotonic()

    def note(self, text: str) -> None:
        """Text, as it is; what would move the cursor is shown, not obeyed."""
        self._stop()
        self._rich.print("\n".join(shown(line, None) for line in text.split("\n")))
        self._said = time.monotonic()

    def show(self, what: Table) -> None:
        """A table."""
        self._stop()
        self._rich.print(what)

    def opening(self, config: Mapping[str, Any], folder: Path, engine: str) -> None:
        """What is about to run."""
        federation = config["federation"]
        hospitals = ", ".join(federation["hospitals"])
        where = "in this process" if engine == "inprocess" else "over Flower"
        self.note(f"{federation['mode']} run of {config['rounds']} rounds {where}: hospitals {hospitals}")
        self.note(f"run folder: {folder}")

    def prepared(self, what: str, done: int, of: int) -> None:
        """Progress of a counted piece of work."""
        self._pending(f"{what}: {done} of {of}", last=done == of)

    def waiting(self, seconds: float) -> None:
        """Nothing new for `seconds`."""
        self._pending(f"working ({seconds:.0f} s since the last line)", last=False)

    def round(self, line: Mapping[str, Any]) -> None:
        """One journal line."""
        losses = [
            x for x in (report["loss"] for report in line["reports"].values()) if x is not None and math.isfinite(x)
        ]
        plain = {
            "round": f"{line['leg'] + ' ' if line['leg'] else ''}round {line['round']}",
            "answered": f"{len(line['reports'])} of {len(line['asked'])} hospitals",
            "loss": f"loss {sum(losses) / len(losses):.3f}" if losses else "no loss",
            "auc": ""
            if line["validation_auc"] is None
            else f"validation AUC of the model before: {line['validation_auc']:.3f}",
            "seconds": f"{line['seconds']:.1f} s",
            "bytes": f"{_megabytes(line, 'bytes_up')} MB up, {_megabytes(line, 'bytes_down')} down",
        }
        self.note("  ".join(text for text in plain.values() if text))
        for refusal in line["refused"]:
            where = f"hospital {refusal['hospital']} is not in round {refusal['round']}"
            self.note(f"  {where}: {refusal['code']}{_hint(refusal['code'])}")
        for text in line["ledgers_back"]:
            self.note(f"  {text}")

    def outcome(self, summary: Mapping[str, Any], folder: Path, *, as_json: bool) -> None:
        """The table, and where everything lies."""
        if as_json:
            self._stop()
            print(json.dumps(summary, indent=2))
            return
        self.show(table(summary))
        for text in remarks(summary):
            self.note(text)
        self.note(f"run folder: {folder}")

    def _pending(self, text: str, *, last: bool) -> None:
        if self._status is not None:
            self._status.update(text)
            self._status.start()
        elif last or time.monotonic() - self._said > QUIET_SECONDS:
            self.note(text)

    def _stop(self) -> None:
        if self._status is not None:
            self._status.stop()


def table(summary: Mapping[str, Any]) -> Table:
    """One row a hospital and the pooled row."""
    made = Table(box=None, pad_edge=False)
    made.add_column("hospital", no_wrap=True)
    for name in ("patients", "tested", "AUC (95 %)", "ε", "MB up/down", "seconds", "device"):
        made.add_column(name, justify="right", no_wrap=True)
    rows = summary["hospitals"]
    for name, row in rows.items():
        made.add_row(name, *_cells(row), shown(row["device"] or "–"))
    total = {key: sum(row[key] or 0 for row in rows.values()) for key in TOTALS}
    made.add_row("pooled", *_cells({**total, **summary["pooled"], "privacy": _dearest(rows)}), "", style="bold")
    return made


TOTALS = ("patients", "test_patients", "bytes_up", "bytes_down", "seconds")


def _cells(row: Mapping[str, Any]) -> list[str]:
    megabytes = f"{row['bytes_up'] / 1e6:.1f}/{row['bytes_down'] / 1e6:.1f}"
    return [_count(row["patients"]), _count(row["test_patients"]), _auc(row), _epsilon(row["privacy"]), megabytes,
            f"{row['seconds']:.1f}"]  # fmt: skip


def remarks(summary: Mapping[str, Any]) -> list[str]:
    """What the table cannot say."""
    said = []
    said += _privacy(summary)
    for name, figures in summary.get("models", {}).items():
        said.append(f"the model of {name} alone, on the pooled test: AUC {_auc(figures)}")
    for name, row in summary["hospitals"].items():
        if "own_model" in row:
            said.append(f"the model that {name} keeps for itself, on its own test: AUC {_auc(row['own_model'])}")
    if baseline := summary.get("baseline"):
        said.append(f"baseline {baseline['name']}: AUC {baseline['auc']:.3f}")
    if summary["stopped"] != "rounds":
        said.append(f"stopped after round {summary['rounds']}: {summary['stopped']}")
    return said


def _privacy(summary: Mapping[str, Any]) -> list[str]:
    """Who is protected, and what is left of each hospital's budget."""
    paid = {name: row["privacy"] for name, row in summary["hospitals"].items() if row["privacy"] is not None}
    if not paid:
        return ["not private: no noise was added, and no ε is claimed"]
    said = [f"private: the unit is one {next(iter(paid.values()))['unit']}; privacy.md says what is covered"]
    for name, cost in paid.items():
        if cost["cap"] is not None and cost["spent"] is not None:
            left = max(0.0, cost["cap"] - cost["spent"])
            said.append(
                f"{name}: ε {_epsilon(cost)} in this run; over all runs {cost['spent']:.2f} of its cap {cost['cap']:g} "
                f"are spent, {left:.2f} left"
            )
    return said


def _megabytes(line: Mapping[str, Any], way: str) -> str:
    """Of all hospitals of a round."""
    return f"{sum(line.get(way, {}).values()) / 1e6:.1f}"


def _hint(code: str) -> str:
    """What a code leaves unsaid that the server knows."""
    if code.startswith("other-code-"):
        return f" (this run's code is {code_hash()}; install the same on both sides)"
    if code.startswith("other-configuration-"):
        return " (that hospital's conf/ composes another configuration; install the same on both sides)"
    return ""


def _auc(row: Mapping[str, Any]) -> str:
    if row["auc"] is None:
        return "–"
    return f"{row['auc']:.3f} ({_digits(row['auc_low'])}–{_digits(row['auc_high'])})"


def _digits(value: float | None) -> str:
    return "?" if value is None else f"{value:.3f}"


def _dearest(rows: Mapping[str, Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """What the hospital that paid most paid: each patient is at one, so ε are not added up."""
    paid = [row["privacy"] for row in rows.values() if row["privacy"] is not None]
    return max(paid, key=lambda one: math.inf if one["epsilon"] is None else one["epsilon"], default=None)


def _epsilon(privacy: Mapping[str, Any] | None) -> str:
    """Of this run. "∞" where a mechanism ran and nothing can be claimed for it."""
    if privacy is None:
        return "none"
    return "∞" if privacy["epsilon"] is None else f"{privacy['epsilon']:.2f}"


def _count(value: int | None) -> str:
    return "–" if value is None else str(value)
