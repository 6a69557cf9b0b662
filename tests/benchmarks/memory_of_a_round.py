"""`python -m tests.benchmarks.memory_of_a_round HOSPITALS AGGREGATE MODEL`: a round at the server, and what it needed.

Prints {"extra_mb", "model_mb"}. Linux only: the kernel keeps the high-water mark, and lets a process reset its own.
"""

import json
import sys
from pathlib import Path

from tests.benchmarks import aggregation

RESET_PEAK = "5"
"""See proc(5), clear_refs."""


def main(hospitals: int, aggregate: str, named: str) -> None:
    """Replies come one at a time and are dropped, as on the real way."""
    model = aggregation.full_model(named)
    size = sum(tensor.nbytes for tensor in model.values()) / 1e6
    asked = aggregation.requests(model, hospitals)
    round, before, extra = aggregation.open_round(model, hospitals, aggregate), resident_mb("VmRSS"), 0.0
    for number, request in enumerate(asked):
        answer = aggregation.reply_to(request, aggregation.update_record(model, number), number)
        reset_peak()
        round.take(answer)
        extra = max(extra, resident_mb("VmHWM") - before - size)
        del answer
    reset_peak()
    state, facts = round.close()
    if len(facts.weights) != hospitals or not state.model:
        raise RuntimeError(f"not all replies were used: {facts.refused}")
    extra = max(extra, resident_mb("VmHWM") - before)
    print(json.dumps({"extra_mb": extra, "model_mb": size}))


def resident_mb(field: str) -> float:
    """VmRSS: now; VmHWM: the most since the last reset."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{field}:")) * 1024 / 1e6


def reset_peak() -> None:
    Path("/proc/self/clear_refs").write_text(RESET_PEAK, encoding="ascii")


if __name__ == "__main__":
    main(int(sys.argv[1]), *sys.argv[2:])
