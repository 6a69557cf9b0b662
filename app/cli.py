"""`fedvox`: one explicit list of verbs. Errors are one line; the exit code says what happened.

0 done · 1 findings, or a run that failed · 2 wrong usage or configuration · 130 interrupted
"""

import argparse
import logging
import os
import sys
from collections.abc import Sequence

from app.commands import audit, budget, compare, coordinator, data, run, site, sweep, verify
from app.processes import ending_like_an_interrupt

VERBS = (run, sweep, compare, budget, audit, data, verify, coordinator, site)

OK, FAILED, USAGE, INTERRUPTED = 0, 1, 2, 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb. Returns the exit code."""
    parser = _parser()
    args, rest = parser.parse_known_args(argv)
    # argparse does not take `run rounds=5 --json seed=1`: settings after an option are left over.
    if rest and (any(text.startswith("-") for text in rest) or not hasattr(args, "overrides")):
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    if rest:
        args.overrides += rest
    logging.basicConfig(level=logging.DEBUG if args.debug else logging.WARNING, format="%(levelname)s %(message)s")
    ending_like_an_interrupt()
    try:
        return int(args.run(args))
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        # The reader of our output is gone (`fedvox … | head`): say nothing more, to nobody.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return OK
    except _expected() as error:
        if args.debug:
            raise
        print(f"fedvox: {' '.join(str(error).split())}", file=sys.stderr)
        return _exit_code(error)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="fedvox",
        description="Hospitals train one 3D model on their CT volumes together; no scan leaves its hospital.",
        epilog="Start with `fedvox run experiment=demo`: three synthetic hospitals, a few minutes on two cores.",
    )
    parser.add_argument("--debug", action="store_true", help="show tracebacks and debug messages")
    verbs = parser.add_subparsers(title="verbs", metavar="VERB", required=True)
    for verb in VERBS:
        verb.add_parser(verbs)
    return parser


def _expected() -> tuple[type[Exception], ...]:
    """Errors that are the user's to mend; anything else is ours, and keeps its traceback."""
    from app.commands.errors import RunFailed
    from app.config import ConfigError
    from app.deploy.errors import DeployError
    from app.files import DiskFull
    from app.flower import FlowerError
    from app.rounds.checkpoint import BrokenCheckpoint
    from app.site.ledger_file import BudgetError
    from data.errors import DataError
    from models.weights import WeightsError
    from strategies.errors import StrategyError

    ours = (ConfigError, WeightsError, DataError, DiskFull, FlowerError, BrokenCheckpoint, BudgetError, RunFailed)
    # The folders of a deployment are one account's; its message names the file.
    return (*ours, DeployError, StrategyError, PermissionError)


def _exit_code(error: Exception) -> int:
    from app.config import ConfigError
    from models.weights import WeightsError
    from strategies.errors import StrategyError

    return USAGE if isinstance(error, ConfigError | WeightsError | StrategyError) else FAILED
