"""The queue before a model: nothing is lost, mixed up or judged for nobody; who waits, waits for a reason."""

import asyncio
import threading
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from taoemb.hosting.batching import MicroBatcher, Overloaded
from taoemb.hosting.metrics import batch_metrics

LONG_S = 30.0  # longer than any test may take


class Model:
    """Answers a request of numbers with its sum; a pass that holds a negative number breaks down."""

    def __init__(self) -> None:
        self.passes: list[list[tuple[int, ...]]] = []
        self.go = threading.Event()
        self.go.set()

    def run(self, requests: Sequence[tuple[int, ...]]) -> list[int | Exception]:
        assert self.go.wait(LONG_S)
        self.passes.append(list(requests))
        if any(number < 0 for request in requests for number in request):
            raise RuntimeError("out of memory")
        return [ValueError("zero") if 0 in request else sum(request) for request in requests]

    def batcher(self, *, pass_size: int = 8, budget_s: float = 0.0, queue_size: int = 1000) -> MicroBatcher:
        self.registry = CollectorRegistry()
        metrics = batch_metrics("test", "units", self.registry)
        limits = {"pass_size": pass_size, "budget_s": budget_s, "queue_size": queue_size}
        return MicroBatcher(self.run, size=len, **limits, metrics=metrics)


async def passes(model: Model, count: int) -> None:
    while len(model.passes) < count:
        await asyncio.sleep(0.005)


arrivals = st.lists(
    st.tuples(
        st.lists(st.integers(0, 9), min_size=1, max_size=6).map(tuple),
        st.integers(0, 3),  # turns of the loop before the request comes
        st.booleans(),  # whether its caller goes at once
    ),
    min_size=1,
    max_size=25,
)


@given(arrivals, st.integers(1, 8), st.sampled_from([0.0, 0.002]))
@settings(max_examples=60, deadline=None)
def test_everybody_who_stays_gets_the_own_answer(
    script: list[tuple[tuple[int, ...], int, bool]], pass_size: int, budget_s: float
) -> None:
    model = Model()

    async def run() -> list[object]:
        queue = model.batcher(pass_size=pass_size, budget_s=budget_s)
        tasks = []
        for request, turns, goes in script:
            for _ in range(turns):
                await asyncio.sleep(0)
            tasks.append(asyncio.create_task(queue.ask(request)))
            if goes:
                await asyncio.sleep(0)
                tasks[-1].cancel()
        return await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), LONG_S)

    for (request, _, goes), answer in zip(script, asyncio.run(run()), strict=True):
        if goes and isinstance(answer, asyncio.CancelledError):
            continue
        assert isinstance(answer, ValueError) if 0 in request else answer == sum(request)
    stayed = [request for request, _, goes in script if not goes]
    seen = [request for requests in model.passes for request in requests]
    kept = iter(seen)
    assert all(request in kept for request in stayed)  # in the order of arrival
    assert all(len(group) == 1 or sum(map(len, group)) <= pass_size for group in model.passes)
    assert model.registry.get_sample_value("test_waiting_units") == 0
    # A pass whose callers have all gone may still be under way when the loop ends.
    counted = model.registry.get_sample_value("test_units_total")
    assert counted is not None
    assert sum(map(len, stayed)) <= counted <= sum(map(len, seen))


def test_a_lone_request_does_not_wait() -> None:
    model = Model()

    async def run() -> None:
        queue = model.batcher(budget_s=LONG_S)
        for number in range(1, 4):
            assert await asyncio.wait_for(queue.ask((number,)), LONG_S / 2) == number

    asyncio.run(run())


def test_requests_gather_while_a_pass_runs() -> None:
    model = Model()
    model.go.clear()

    async def run() -> None:
        queue = model.batcher(budget_s=LONG_S)
        tasks = [asyncio.create_task(queue.ask((number,))) for number in (1,)]
        await asyncio.sleep(0.02)  # the first one is with the model
        tasks += [asyncio.create_task(queue.ask((number,))) for number in (2, 3, 4)]
        await asyncio.sleep(0)
        model.go.set()
        assert await asyncio.wait_for(asyncio.gather(*tasks), LONG_S / 2) == [1, 2, 3, 4]

    asyncio.run(run())
    assert model.passes == [[(1,)], [(2,), (3,), (4,)]]


def test_after_a_shared_pass_it_waits_for_as_many_again() -> None:
    model = Model()

    async def run() -> None:
        queue = model.batcher(budget_s=LONG_S)
        await asyncio.gather(queue.ask((1,)), queue.ask((2,)))
        early = asyncio.create_task(queue.ask((3,)))
        await asyncio.sleep(0.05)
        assert len(model.passes) == 1
        await asyncio.wait_for(asyncio.gather(early, queue.ask((4,))), LONG_S / 2)

    asyncio.run(run())
    assert model.passes == [[(1,), (2,)], [(3,), (4,)]]


def test_the_budget_bounds_the_wait_and_idling_ends_it() -> None:
    model = Model()

    async def run() -> None:
        queue = model.batcher(budget_s=0.05)
        await asyncio.gather(queue.ask((1,)), queue.ask((2,)))
        assert await asyncio.wait_for(queue.ask((3,)), LONG_S) == 3  # nobody else came
        await asyncio.gather(queue.ask((4,)), queue.ask((5,)))
        await asyncio.sleep(0.06)
        lone = asyncio.create_task(queue.ask((6,)))
        await passes(model, 4)
        assert await lone == 6

    asyncio.run(run())
    assert model.passes == [[(1,), (2,)], [(3,)], [(4,), (5,)], [(6,)]]


def test_a_full_queue_is_said_and_room_comes_back() -> None:
    model = Model()
    model.go.clear()

    async def run() -> None:
        queue = model.batcher(pass_size=1, queue_size=3)
        first = asyncio.create_task(queue.ask((1,)))
        await asyncio.sleep(0.02)
        waiting = [asyncio.create_task(queue.ask((2, 3))), asyncio.create_task(queue.ask((4,)))]
        await asyncio.sleep(0)
        with pytest.raises(Overloaded):
            await queue.ask((5,))
        waiting[0].cancel()
        await asyncio.sleep(0)
        waiting.append(asyncio.create_task(queue.ask((6, 7))))  # who goes makes room at once
        await asyncio.sleep(0)
        model.go.set()
        assert await asyncio.gather(first, *waiting[1:]) == [1, 4, 13]

    asyncio.run(run())
    assert (2, 3) not in [request for group in model.passes for request in group]


def test_a_failed_pass_fails_its_requests_and_no_others() -> None:
    model = Model()

    async def run() -> None:
        queue = model.batcher()
        outcomes = await asyncio.gather(queue.ask((-1,)), queue.ask((1,)), return_exceptions=True)
        assert [str(outcome) for outcome in outcomes] == ["out of memory"] * 2
        assert await queue.ask((2,)) == 2

    asyncio.run(run())
