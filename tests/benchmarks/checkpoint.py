"""What a checkpoint costs beside writing and syncing the same bytes: 14 million parameters and their momentum."""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from app.rounds.checkpoint import save_state
from strategies.types import ServerState
from tests.benchmarks.aggregation import full_model, parameters
from tests.benchmarks.clock import interleaved
from tests.benchmarks.row import Row, at_most, compared


def rows(full: bool) -> Iterator[Row]:
    """Serialising, the checksum, the second name for the former state, and the rename are on our side alone."""
    model = full_model("resnet10")
    velocity = {name: np.full_like(tensor, 0.5) for name, tensor in model.items()}
    state = ServerState(round=1, model=model, server_opt={"velocity": velocity})
    with tempfile.TemporaryDirectory(prefix="fedvox-bench-") as temporary:
        folder = Path(temporary)
        save_state(folder / "ours", state)
        content = (folder / "ours" / "state.safetensors").read_bytes()
        took = interleaved(
            {
                "ours": lambda: save_state(folder / "ours", state),
                "write and sync": lambda: _write_and_sync(folder / "plain", content),
            },
            repeats=21 if full else 9,
        )
    yield compared(
        "checkpoint, time against write and sync",
        ours=took["ours"].wall,
        reference=took["write and sync"].wall,
        unit="s",
        target=at_most(1.3),
        note=f"{len(content) / 1e6:.0f} MB: {parameters(model) / 1e6:.1f} M parameters and as many moments; medians of "
        f"{len(took['ours'].times)}, ours {took['ours'].spread}, reference {took['write and sync'].spread}",
    )


def _write_and_sync(path: Path, content: bytes) -> None:
    path.unlink(missing_ok=True)
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
