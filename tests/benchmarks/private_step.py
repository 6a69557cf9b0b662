"""The private step against the ordinary one, and against both engines of Opacus: time and memory. Then its books.

On a CPU with one thread each, in CPU seconds: what else the machine does then is not charged. Opacus is slow, and
stands beside the deeper network with `--full` only. On a GPU, where there is one, at 64³ on the wall; lower precisions
only after their kernels passed the self-test, beside the ordinary step in the same precision.

`python -m tests.benchmarks.private_step [--full]` prints the rows.
"""

import statistics
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from functools import partial

import torch

from models.private import KernelError, Precision, self_test
from tests.benchmarks import private_books
from tests.benchmarks.clock import Series, interleaved
from tests.benchmarks.private_contenders import CONTENDERS, Load, Step, opacus_ghost, opacus_hooks, ordinary, ours
from tests.benchmarks.row import Row, at_least, at_most, compared, skipped

TIME, MEMORY, FOUR_CROPS, OPACUS = at_most(1.6), at_most(1.3), at_most(1.2), at_least(2.5)

SHALLOW = 10
LOADS = (Load(10, "full", 32, 16), Load(10, "full", 48, 8), Load(18, "full", 32, 16), Load(18, "full", 48, 8))
FURTHER_LOADS = tuple(Load(load.depth, "quarter", load.size, load.batch) for load in LOADS)
"""With --full: the narrow networks of the demonstrations, where fixed costs weigh most."""
GPU_LOADS = (Load(10, "full", 64, 16), Load(18, "full", 64, 16))
PRECISIONS: tuple[Precision, ...] = ("float32", "tf32", "bfloat16")

BESIDE_ORDINARY = ("ordinary", "ours", "ours, four crops a patient")
BESIDE_OPACUS = ("ours", "Opacus hooks", "Opacus ghost")


def rows(full: bool = False) -> Iterator[Row]:
    """Accountant and ledger; time of every load, and memory in processes of their own; then the GPU's rows."""
    yield from private_books.rows(full)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for load in LOADS + (FURTHER_LOADS if full else ()):
            yield from _time_rows(load, 15 if full else 3)
            if full or load.depth == SHALLOW:
                yield from _opacus_rows(load, 7 if full else 3)
            yield _memory_row(load, 3 if full else 1)
    finally:
        torch.set_num_threads(threads)
    yield from _gpu_rows(15 if full else 7)


def _time_rows(load: Load, repeats: int) -> Iterator[Row]:
    seconds = _cpu_seconds(load, BESIDE_ORDINARY, repeats)
    note = _note(repeats)
    yield _time_row(f"private step: {load}", seconds["ours"], seconds["ordinary"], f"{note}; aim ≤ 1.35")
    yield compared(
        f"private step, four crops a patient: {load}",
        ours=seconds["ours, four crops a patient"],
        reference=seconds["ours"],
        unit="s",
        target=FOUR_CROPS,
        note=f"{note}; reference: the same crops, each a patient",
    )


def _opacus_rows(load: Load, repeats: int) -> Iterator[Row]:
    seconds = _cpu_seconds(load, BESIDE_OPACUS, repeats)
    for name in BESIDE_OPACUS[1:]:
        yield compared(
            f"private step against {name}: {load}",
            ours=1 / seconds["ours"],
            reference=1 / seconds[name],
            unit="steps/s",
            target=OPACUS,
            note=_note(repeats),
        )


def _note(repeats: int) -> str:
    return f"median of {repeats}, turn and turn about, CPU seconds of one thread"


def _time_row(name: str, seconds: float, reference: float, note: str) -> Row:
    return compared(name, ours=seconds, reference=reference, unit="s", target=TIME, note=note)


def _cpu_seconds(load: Load, contenders: Sequence[str], repeats: int) -> dict[str, float]:
    batch = load.build(torch.device("cpu"))
    took = _interleaved({name: CONTENDERS[name](*batch) for name in contenders}, repeats)
    return {name: series.cpu for name, series in took.items()}


def _interleaved(steps: Mapping[str, Step], repeats: int) -> dict[str, Series]:
    for step in steps.values():
        step()  # the first of its kind pays for kernels and memory
    return interleaved(steps, repeats=repeats)


def _memory_row(load: Load, repeats: int) -> Row:
    mine, reference = (
        statistics.median(_peak_mib(name, load) for _ in range(repeats)) for name in ("ours", "ordinary")
    )
    return compared(
        f"private step, memory: {load}",
        ours=mine,
        reference=reference,
        unit="MiB",
        target=MEMORY,
        note=f"most resident memory beyond model and batch, three steps; median of {repeats} processes each",
    )


def _peak_mib(contender: str, load: Load) -> float:
    module = "tests.benchmarks.private_contenders"
    arguments = [contender, str(load.depth), load.widths, str(load.size), str(load.batch)]
    done = subprocess.run([sys.executable, "-m", module, *arguments], capture_output=True, text=True, check=True)
    return float(done.stdout)


def _gpu_rows(repeats: int) -> Iterator[Row]:
    if not torch.cuda.is_available():
        yield skipped("private step on a GPU, 64³", TIME, "no GPU here")
        return
    for load in GPU_LOADS:
        for precision in PRECISIONS:
            yield from _gpu_rows_of(load, precision, repeats)


def _gpu_rows_of(load: Load, precision: Precision, repeats: int) -> Iterator[Row]:
    name, device = f"private step on a GPU, {precision}: {load}", torch.device("cuda:0")
    model, x, y = load.build(device)
    try:
        self_test(model, x.shape, precision)
    except KernelError as error:
        yield skipped(name, TIME, f"the self-test refused {precision}: {error}")
        return
    steps: dict[str, Step] = {"ordinary": ordinary(model, x, y, precision), "ours": ours(model, x, y, precision)}
    if precision == "float32":
        steps |= {"Opacus hooks": opacus_hooks(model, x, y), "Opacus ghost": opacus_ghost(model, x, y)}
    took = _interleaved({contender: partial(_synchronised, step) for contender, step in steps.items()}, repeats)
    note = f"median of {repeats} on the wall, {torch.cuda.get_device_name(device)}; reference in the same precision"
    yield _time_row(name, took["ours"].wall, took["ordinary"].wall, note)
    for other in set(took) - {"ordinary", "ours"}:
        yield compared(
            f"{name}, against {other}",
            ours=1 / took["ours"].wall,
            reference=1 / took[other].wall,
            unit="steps/s",
            target=OPACUS,
            note=note,
        )
    yield compared(
        f"{name}, memory",
        ours=_gpu_peak_mib(steps["ours"]),
        reference=_gpu_peak_mib(steps["ordinary"]),
        unit="MiB",
        target=MEMORY,
        note="most allocated beyond what lay there before the step",
    )


def _synchronised(step: Step) -> None:
    step()
    torch.cuda.synchronize()


def _gpu_peak_mib(step: Step) -> float:
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    step()
    torch.cuda.synchronize()
    return (torch.cuda.max_memory_allocated() - before) / 2**20


if __name__ == "__main__":
    for row in rows("--full" in sys.argv):
        print(f"{row.name}: {row.ours or 0:.3g} / {row.reference or 0:.3g} {row.unit} = {row.ratio or 0:.3g}", end=" ")
        print(f"({row.target}) {row.verdict}; {row.note}", flush=True)
