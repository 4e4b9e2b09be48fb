"""A cluster as a discrete simulation: one driver hands out batches, GPUs segment them, cores refine them."""

import heapq
import random
from dataclasses import dataclass

from pipeline.runtime.plan import GPU_BATCH, REFINER_BATCH

BATCH = GPU_BATCH
"""Images that a GPU takes at once."""

BATCHES_A_GPU = 400
SPREAD = 0.3
"""Standard deviation of the logarithm of a batch's time."""

LOSSES_AN_HOUR = 0.05
"""Of one GPU machine: spot machines of the common types live 20 hours."""

RETURN_SECONDS = 300.0


@dataclass(frozen=True)
class Costs:
    """Seconds an image: of a GPU, of a core that refines, 0 where none does, and of the driver's one thread."""

    segment_seconds: float
    refine_seconds: float
    driver_seconds: float


@dataclass(frozen=True)
class Simulated:
    """What came of it; `driver_busy` is the share of the time."""

    images_per_second: float
    driver_busy: float


def simulate(gpus: int, costs: Costs, seed: int = 0) -> Simulated:
    """A run of BATCHES_A_GPU batches for each GPU, on machines of one GPU that are lost now and then.

    Each GPU has two batches waiting, and the cores that keep up with it, if any; the driver serves whoever asks first.
    A batch whose machine is lost is done again by another.
    """
    rng = random.Random(seed)
    cores = gpus * -(-costs.refine_seconds // costs.segment_seconds)
    refining = [0.0] * int(cores)  # when each core is free
    gpu_free = [0.0] * gpus
    asking = [(0.0, gpu) for gpu in range(gpus) for _ in range(2)]  # when a GPU has room for another batch
    heapq.heapify(asking)
    driver_free = driver_worked = finished = 0.0
    left = gpus * BATCHES_A_GPU
    while left:
        asked, gpu = heapq.heappop(asking)
        given = max(asked, driver_free) + BATCH * costs.driver_seconds
        driver_free, driver_worked = given, driver_worked + BATCH * costs.driver_seconds
        takes = BATCH * costs.segment_seconds * rng.lognormvariate(-(SPREAD**2) / 2, SPREAD)
        begun = max(given, gpu_free[gpu])
        if rng.random() < takes * LOSSES_AN_HOUR / 3600:
            gpu_free[gpu] = begun + RETURN_SECONDS
            heapq.heappush(asking, (gpu_free[gpu], gpu))
            continue
        gpu_free[gpu] = begun + takes
        heapq.heappush(asking, (begun, gpu))
        finished = max(finished, _refine(refining, gpu_free[gpu], costs, rng))
        left -= 1
    return Simulated(gpus * BATCHES_A_GPU * BATCH / finished, driver_worked / finished)


def _refine(refining: list[float], ready: float, costs: Costs, rng: random.Random) -> float:
    """Give a GPU's batch, in those of a core, to the cores that are free first; returns when the last of it is done."""
    done = ready
    for _ in range(BATCH // REFINER_BATCH if refining else 0):
        takes = REFINER_BATCH * costs.refine_seconds * rng.lognormvariate(-(SPREAD**2) / 2, SPREAD)
        ended = max(ready, refining[0]) + takes
        heapq.heapreplace(refining, ended)
        done = max(done, ended)
    return done
