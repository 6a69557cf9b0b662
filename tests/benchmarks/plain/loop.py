"""`python -m tests.benchmarks.plain.loop CUBES SPLIT ROUNDS`: FedAvg in one process, in plain torch."""

import sys

import numpy as np
import torch

from tests.benchmarks.plain import task


def main(cubes: str, split: str, rounds: int) -> None:
    """Prints the accuracy on all test cubes."""
    torch.set_num_threads(1)
    x, y = task.load(cubes)
    hospitals = task.rows(split)
    model = task.build()
    rng = np.random.default_rng(0)
    sizes = {name: len(mine["train"]) for name, mine in hospitals.items()}
    current = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    for _ in range(rounds):
        mean = {key: torch.zeros_like(tensor) for key, tensor in current.items()}
        for name, mine in hospitals.items():
            model.load_state_dict(current)
            task.score(model, x, y, mine["validation"])
            task.train(model, x, y, mine["train"], rng)
            for key, tensor in model.state_dict().items():
                mean[key] += tensor * (sizes[name] / sum(sizes.values()))
        current = mean
    model.load_state_dict(current)
    print(np.mean([task.score(model, x, y, mine["test"]) for mine in hospitals.values()]))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
