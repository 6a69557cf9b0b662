"""A hospital, after Flower's quick start."""

import numpy as np
from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from . import task

app = ClientApp()


@app.train()
def train(message: Message, context: Context) -> Message:
    """One epoch from the model received."""
    (x, y), mine = task.load(str(context.run_config["cubes"])), _mine(context)
    model = task.build()
    model.load_state_dict(message.content["arrays"].to_torch_state_dict())  # type: ignore[union-attr]
    loss = task.train(model, x, y, mine["train"], np.random.default_rng())
    metrics = MetricRecord({"train_loss": loss, "num-examples": len(mine["train"])})
    return Message(RecordDict({"arrays": ArrayRecord(model.state_dict()), "metrics": metrics}), reply_to=message)


@app.evaluate()
def evaluate(message: Message, context: Context) -> Message:
    """Score the model received on validation cubes."""
    (x, y), mine = task.load(str(context.run_config["cubes"])), _mine(context)
    model = task.build()
    model.load_state_dict(message.content["arrays"].to_torch_state_dict())  # type: ignore[union-attr]
    accuracy = task.score(model, x, y, mine["validation"])
    metrics = MetricRecord({"accuracy": accuracy, "num-examples": len(mine["validation"])})
    return Message(RecordDict({"metrics": metrics}), reply_to=message)


def _mine(context: Context) -> dict[str, list[int]]:
    return list(task.rows(str(context.run_config["split"])).values())[int(context.node_config["partition-id"])]
