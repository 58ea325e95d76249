"""Requests for vectors as passes of one model over a queue."""

from collections.abc import Sequence

from prometheus_client import REGISTRY, CollectorRegistry

from taoemb.config import EncoderServerConfig
from taoemb.hosting.batching import MicroBatcher
from taoemb.hosting.metrics import batch_metrics
from taoemb.serving.encoder.metrics import PREFIX, encoder_metrics
from taoemb.serving.encoder.model import Embedded, QueryModel

Texts = Sequence[str]


def encoder_batcher(
    model: QueryModel, config: EncoderServerConfig, registry: CollectorRegistry = REGISTRY
) -> MicroBatcher[Texts, Embedded]:
    """A queue before `model`: its `ask` gives the vectors of a request's texts, or raises Overloaded."""
    metrics = encoder_metrics(registry)

    def run(requests: Sequence[Texts]) -> list[Embedded]:
        whole = model.embed([text for texts in requests for text in texts])
        metrics.tokens.inc(int(whole.tokens_N.sum()))
        metrics.padding.inc(whole.padding)
        parts, start = [], 0
        for texts in requests:
            parts.append(whole.part(start, start + len(texts)))
            start += len(texts)
        return parts

    return MicroBatcher(
        run,
        size=len,
        pass_size=config.batch_texts,
        budget_s=config.latency_budget_ms / 1000,
        queue_size=config.queue_texts,
        metrics=batch_metrics(PREFIX, "texts", registry),
    )
