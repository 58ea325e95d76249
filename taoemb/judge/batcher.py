"""Requests as passes of a judge over a queue; a conversation that can't be judged fails its own request only."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from prometheus_client import REGISTRY, CollectorRegistry

from taoemb.errors import InputError
from taoemb.hosting.batching import MicroBatcher
from taoemb.hosting.metrics import batch_metrics
from taoemb.judge.protocol import Backend, FirstTokens, Message

Conversations = Sequence[Sequence[Message]]


@dataclass(frozen=True)
class Scored:
    """The answers to one request of n conversations."""

    logprobs: np.ndarray  # (n, 4) of the labels 1, 2, 3, 4
    prompt_tokens: int  # of all conversations together
    others: Sequence[tuple[str, float] | None] = ()  # as in FirstTokens


def judge_batcher(
    backend: Backend, *, batch_pairs: int, wait_s: float, queue_pairs: int, registry: CollectorRegistry = REGISTRY
) -> MicroBatcher[Conversations, Scored]:
    """A queue before `backend`: passes of about `batch_pairs` pairs.

    Its `ask` raises InputError when a conversation can't be judged, Overloaded when `queue_pairs` wait.
    """
    return MicroBatcher(
        partial(_score, backend),
        size=len,
        pass_size=batch_pairs,
        budget_s=wait_s,
        queue_size=queue_pairs,
        metrics=batch_metrics("taoemb_judge_server", "pairs", registry),
    )


def _score(backend: Backend, requests: Sequence[Conversations]) -> list[Scored | Exception]:
    prepared = [_prepare(backend, conversations) for conversations in requests]
    pairs = [pair for request in prepared if not isinstance(request, InputError) for pair in request]
    said = backend.first_tokens(pairs) if pairs else FirstTokens(np.empty((0, 4)))
    outcomes: list[Scored | Exception] = []
    start = 0
    for request in prepared:
        if isinstance(request, InputError):
            outcomes.append(request)
        else:
            end = start + len(request)
            tokens = sum(map(backend.prompt_tokens, request))
            outcomes.append(Scored(said.labels_P4[start:end], tokens, said.others[start:end]))
            start = end
    return outcomes


def _prepare(backend: Backend, conversations: Conversations) -> list | InputError:
    prepared = []
    for number, messages in enumerate(conversations):
        try:
            prepared.append(backend.prepare(messages))
        except InputError as error:
            return InputError(f"conversation {number}: {error}" if len(conversations) > 1 else str(error))
    return prepared
