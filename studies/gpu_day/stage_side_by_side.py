"""How many runs at once the device serves best: SASRec with CE by 1, 2, 4 and 8 processes, the same steps each."""

import multiprocessing
import os
from multiprocessing.synchronize import Barrier
from typing import Any

from studies.gpu_day.stage import stage
from studies.gpu_day.stage_bench import SMALL

#: A larger number must pay at least this much.
WORTH = 1.05


def _train(index: int, numbers: tuple[int, ...], device: str, barrier: Barrier, answers: Any) -> None:
    import torch

    from studies.shared.measurements import MEASUREMENTS
    from studies.shared.timed import Asked, loaded, set_up

    steps = 1 if device == "cpu" else None
    measurement = MEASUREMENTS["ce-float32"]
    asked = Asked(1, steps, None, SMALL if device == "cpu" else (), device)
    config, data, _ = loaded(measurement.choices, asked)
    work = set_up(config, data, measurement, device)[1]
    work(2)
    for number in numbers:
        torch.set_num_threads(max(1, (os.cpu_count() or 1) // number))
        barrier.wait()
        if index < number:
            # The first epoch warms up, and the last may run beside fewer others.
            seconds = [work(steps) for _ in range(4)]
            answers.put((number, 2 / (seconds[1] + seconds[2])))
        barrier.wait()


def main() -> None:
    """Measure, and name the best number."""
    this = stage()
    if this.device == "cpu":
        import recsys_lt.training.build  # noqa: F401  # forks start with it
    numbers = (1, 2, 4, 8) if this.device == "cuda" else (1, 2)
    # Once a library has asked for the GPU, a fork cannot use one.
    context: Any = multiprocessing.get_context("fork" if this.device == "cpu" else "spawn")
    barrier, answers = context.Barrier(numbers[-1], timeout=100), context.SimpleQueue()
    processes = [
        context.Process(target=_train, args=(index, numbers, this.device, barrier, answers), daemon=True)
        for index in range(numbers[-1])
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    rates: dict[int, list[float]] = {number: [] for number in numbers}
    while not answers.empty():
        number, rate = answers.get()
        rates[number].append(rate)
    together = {number: sum(found) for number, found in rates.items() if len(found) == number}
    best = 1
    for number, rate in sorted(together.items()):
        if rate > WORTH * together.get(best, 0.0):
            best = number
    for number, rate in together.items():
        this.save(str(number), {"epochs_per_second": rate})
    this.save("best", {"number": best})
    print(together, best)


if __name__ == "__main__":
    main()
