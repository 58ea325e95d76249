"""The queue before the model: what waits together is judged together, and failures stay where they belong."""

import asyncio
import threading
from collections.abc import Sequence

import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from taoemb.errors import InputError
from taoemb.hosting.batching import MicroBatcher, Overloaded
from taoemb.judge.batcher import judge_batcher
from taoemb.judge.protocol import FirstTokens


class Model:
    """Answers with the number in the message; holds its breath until let go."""

    kind, digest, max_tokens = "test", "d", 10

    def __init__(self) -> None:
        self.passes: list[int] = []
        self.go = threading.Event()
        self.go.set()

    def prepare(self, messages: Sequence[dict]) -> float:
        if messages[0]["content"] == "bad":
            raise InputError("can't be judged")
        return float(messages[0]["content"])

    def prompt_tokens(self, prepared: float) -> int:
        return 2

    def first_tokens(self, prepared: Sequence[float]) -> FirstTokens:
        self.go.wait(10)
        self.passes.append(len(prepared))
        if -1.0 in prepared:
            raise RuntimeError("out of memory")
        return FirstTokens(np.array(prepared)[:, None] * np.ones(4))


def conversations(*numbers: object) -> list[list[dict[str, str]]]:
    return [[{"role": "user", "content": str(number)}] for number in numbers]


def batcher(model: Model, *, batch_pairs: int = 8, wait_s: float = 0.01, queue_pairs: int = 100) -> MicroBatcher:
    limits = {"batch_pairs": batch_pairs, "wait_s": wait_s, "queue_pairs": queue_pairs}
    return judge_batcher(model, **limits, registry=CollectorRegistry())


def test_requests_that_wait_together_are_one_pass() -> None:
    model = Model()

    async def run() -> list[list[float]]:
        queue = batcher(model)
        answers = await asyncio.gather(*(queue.ask(conversations(i, i + 100)) for i in range(6)))
        assert {answer.prompt_tokens for answer in answers} == {4}
        return [answer.logprobs[:, 0].tolist() for answer in answers]

    assert asyncio.run(run()) == [[i, i + 100] for i in range(6)]
    assert model.passes == [8, 4]


def test_a_request_larger_than_a_pass_goes_alone() -> None:
    model = Model()

    async def run() -> None:
        queue = batcher(model, batch_pairs=4)
        one, other = await asyncio.gather(queue.ask(conversations(*range(10))), queue.ask(conversations(1)))
        assert (len(one.logprobs), len(other.logprobs)) == (10, 1)

    asyncio.run(run())
    assert model.passes == [10, 1]


def test_a_bad_conversation_fails_only_its_own_request() -> None:
    async def run() -> None:
        queue = batcher(Model())
        good, bad, lone = await asyncio.gather(
            queue.ask(conversations(1)),
            queue.ask(conversations(2, "bad")),
            queue.ask(conversations("bad")),
            return_exceptions=True,
        )
        assert good.logprobs[0, 0] == 1
        assert str(bad) == "conversation 1: can't be judged"
        assert str(lone) == "can't be judged"

    asyncio.run(run())


def test_after_a_failed_pass_the_next_one_works() -> None:
    async def run() -> None:
        queue = batcher(Model())
        with pytest.raises(RuntimeError, match="out of memory"):
            await queue.ask(conversations(-1))
        assert (await queue.ask(conversations(3))).logprobs[0, 0] == 3

    asyncio.run(run())


def test_a_full_queue_is_said_and_the_loop_stays_free() -> None:
    model = Model()
    model.go.clear()

    async def run() -> None:
        queue = batcher(model, batch_pairs=1, wait_s=0, queue_pairs=3)
        tasks = [asyncio.create_task(queue.ask(conversations(i))) for i in range(3)]
        await asyncio.sleep(0.05)  # the first one is with the model, two wait
        with pytest.raises(Overloaded):
            await queue.ask(conversations(1, 2))
        gone = asyncio.create_task(queue.ask(conversations(9)))
        await asyncio.sleep(0)
        gone.cancel()
        model.go.set()
        assert [answer.logprobs[0, 0] for answer in await asyncio.gather(*tasks)] == [0, 1, 2]

    asyncio.run(run())
    assert sum(model.passes) == 3  # what nobody waits for is not judged
