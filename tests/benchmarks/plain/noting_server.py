"""The coordinator of `plain`, noting when each round ended; takes its place in the bundle of a deployment."""

import time
from pathlib import Path

from flwr.app import ArrayRecord, Context, MetricRecord
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg

from . import task

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """FedAvg over all hospitals, as in Flower's quick start."""
    outcome = Path(str(context.run_config["outcome"]))

    def noted(round: int, _: ArrayRecord) -> MetricRecord | None:
        with outcome.open("a", encoding="utf-8") as file:
            file.write(f"{round} {time.time()}\n")
        return None

    strategy = FedAvg(fraction_train=1.0, fraction_evaluate=1.0, min_available_nodes=3)
    initial = ArrayRecord(task.build().state_dict())
    strategy.start(grid, initial, num_rounds=int(context.run_config["rounds"]), evaluate_fn=noted)
