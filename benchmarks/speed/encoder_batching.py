"""What the wait after a shared pass brings to clients that ask again once they are answered, through the real queue.

    python benchmarks/speed/encoder_batching.py [MODEL_MS_A_PASS MODEL_MS_A_TEXT]

The model is a clock: so many milliseconds a pass and a text (default: 4 and 0.5), so that a busy machine does not blur
the comparison. `at once` is a latency budget of 0: a pass starts whenever the model is idle. `budget` is the server's
default.
"""

import asyncio
import random
import statistics
import sys
import time
from collections.abc import Sequence

from prometheus_client import CollectorRegistry

from taoemb.config import EncoderServerConfig
from taoemb.hosting.batching import MicroBatcher
from taoemb.hosting.metrics import batch_metrics

SECONDS = 3.0
AWAY_S = 0.001  # what the network and the client take, on average


async def measure(clients: int, budget_s: float, pass_s: float, text_s: float) -> tuple[float, float]:
    """Requests a second, and the median request in milliseconds."""

    def run(requests: Sequence[str]) -> list[str]:
        time.sleep(pass_s + text_s * len(requests))
        return list(requests)

    limits = {"pass_size": EncoderServerConfig().batch_texts, "queue_size": 10_000}
    metrics = batch_metrics("bench", "texts", CollectorRegistry())
    queue = MicroBatcher(run, size=lambda _: 1, budget_s=budget_s, metrics=metrics, **limits)
    took: list[float] = []
    rng = random.Random(0)
    end = time.perf_counter() + SECONDS

    async def client() -> None:
        while (start := time.perf_counter()) < end:
            await queue.ask("text")
            took.append(time.perf_counter() - start)
            await asyncio.sleep(rng.expovariate(1 / AWAY_S))

    await asyncio.gather(*(client() for _ in range(clients)))
    return len(took) / SECONDS, statistics.median(took) * 1e3


def main(pass_ms: float, text_ms: float) -> None:
    """Print a Markdown table."""
    budget_s = EncoderServerConfig().latency_budget_ms / 1e3
    print("| clients | at once: requests/s | median, ms | budget: requests/s | median, ms |")
    print("| --- | --- | --- | --- | --- |")
    for clients in (1, 2, 8, 32):
        cells = []
        for budget in (0.0, budget_s):
            rate, median = asyncio.run(measure(clients, budget, pass_ms / 1e3, text_ms / 1e3))
            cells += [f"{rate:.0f}", f"{median:.1f}"]
        print(f"| {clients} | {' | '.join(cells)} |")


if __name__ == "__main__":
    given = [float(value) for value in sys.argv[1:]]
    main(*(given or (4.0, 0.5)))
