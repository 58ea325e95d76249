"""How questions reach the judge: bounded concurrency, batches, retries, the circuit breaker, one request a pair.

Everything here belongs to the event loop of one client.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import stamina

from taoemb.config import JudgeConfig
from taoemb.errors import TaoembError
from taoemb.judge.answers import Judgment, NoAnswer
from taoemb.judge.breaker import Breaker, State
from taoemb.judge.endpoint import Conversation, Endpoint, NoBatchRoute
from taoemb.judge.failures import JudgeChanged, JudgeUnavailable
from taoemb.judge.metrics import JudgeMetrics
from taoemb.judge.patience import Patience, RetryPolicy
from taoemb.judge.replies import Refused, Transient

T = TypeVar("T")
_log = logging.getLogger(__name__)
logging.getLogger("stamina").setLevel(logging.ERROR)  # it would log a line a retry; the breaker says what matters

LONG_WAIT_S = 5.0
Answer = asyncio.Future[Judgment | NoAnswer]


@dataclass(frozen=True)
class Question:
    """One distinct pair on its way."""

    key: bytes
    messages: Conversation
    answer: Answer


class _GaveUp(Exception):
    """The request's own retries ran out while the judge works."""


class Dispatcher:
    """Sends questions and settles their answers: a judgment, why there is none, or the error that ends the run."""

    def __init__(self, config: JudgeConfig, metrics: JudgeMetrics, policy: RetryPolicy) -> None:
        self._config, self._metrics, self._policy = config, metrics, policy
        self._endpoint = Endpoint(config, metrics)
        self._release = config.release
        self._slots = asyncio.Semaphore(config.concurrency)
        self._proven = False  # whether it ever graded; until then failures speak of its settings, not of its absence
        self._said = ""  # what the server calls itself, where the settings name it
        self._naming = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()
        self._warned: set[str] = set()
        self._breaker = Breaker(
            self._endpoint.url,
            config.wait_s,
            threshold=policy.breaker_failures,
            cooldown_s=policy.breaker_cooldown,
            on_state=self._say_state,
        )

    @property
    def url(self) -> str:
        """The judge's base URL."""
        return self._endpoint.url

    async def release(self) -> str:
        """The judge's name; asked once, waited for up to `wait_s`."""
        async with self._naming:
            self._breaker.renew_patience()
            while self._release is None:
                try:
                    self._release = await self._through_breaker(0, self._endpoint.release)
                except Transient:
                    self._breaker.trip()
            return self._release

    async def names(self) -> frozenset[str]:
        """The release, and, where the settings name it, also what the server says of itself now."""
        release = await self.release()
        if self._config.release is not None and not self._said:
            try:
                async with self._slots:
                    self._said = await self._endpoint.release()
            except (Transient, JudgeUnavailable):
                return frozenset({release})
        return frozenset({release, self._said or release})

    def start(self, pairs: Iterable[tuple[bytes, Conversation]]) -> list[Question]:
        """Send `pairs` (key, conversation) on their way in batches."""
        loop = asyncio.get_running_loop()
        self._breaker.renew_patience()
        questions = [Question(key, messages, loop.create_future()) for key, messages in pairs]
        for question in questions:
            question.answer.add_done_callback(_mark_seen)
        size = self._config.batch_size
        for first in range(0, len(questions), size):
            task = loop.create_task(self._settle(questions[first : first + size]))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return questions

    async def close(self) -> None:
        """Drop what is under way and close the connections."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._endpoint.close()

    async def _settle(self, questions: Sequence[Question]) -> None:
        try:
            await self._answer(questions)
        except TaoembError as error:
            for question in questions:
                if not question.answer.done():
                    question.answer.set_exception(error)
        finally:
            for question in questions:
                question.answer.cancel()  # nothing waits for ever; no-op when settled

    async def _answer(self, questions: Sequence[Question]) -> None:
        if len(questions) > 1 and not self._endpoint.batches:
            await asyncio.gather(*(self._settle([question]) for question in questions))
            return
        try:
            answers = await self._with_retries([question.messages for question in questions])
        except NoBatchRoute:
            self._endpoint.batches = False
            self._warn_once("batch", f"the judge at {self.url} has no …/chat/completions/batch: one pair a request")
            await self._answer(questions)
        except (Refused, _GaveUp) as failure:
            if len(questions) > 1:  # one bad conversation fails its whole batch: find it
                half = len(questions) // 2
                await asyncio.gather(self._settle(questions[:half]), self._settle(questions[half:]))
                return
            reason = "refused" if isinstance(failure, Refused) else "retries"
            self._leave_unanswered(questions[0], reason, NoAnswer(str(failure)))
        else:
            for question, answer in zip(questions, answers, strict=True):
                if isinstance(answer, NoAnswer):
                    self._leave_unanswered(question, "malformed", answer)
                else:
                    self._proven = True
                    question.answer.set_result(answer)

    async def _with_retries(self, conversations: Sequence[Conversation]) -> list[Judgment | NoAnswer]:
        policy, config = self._policy, self._config
        patience = Patience(config.wait_s, config.timeout_s, self._say_wait)
        before: int | None = None

        async def ask() -> list[Judgment | NoAnswer]:
            nonlocal before
            before = self._breaker.successes if before is None else before
            return await self._endpoint.ask(conversations)

        while True:
            before = None
            try:
                async for attempt in stamina.retry_context(
                    on=patience.backoff,
                    attempts=policy.attempts,
                    timeout=None,
                    wait_initial=policy.wait_initial,
                    wait_max=policy.wait_max,
                    wait_jitter=policy.wait_jitter,
                ):
                    with attempt:
                        return await self._through_breaker(id(conversations), ask)
            except Transient as failure:
                patient = failure.away and patience.left(failure) > 0
                others_answered = before is not None and self._breaker.successes > before
                if others_answered and patient:
                    continue  # a judge that is going, coming or busy: not this request's fault
                if others_answered or await self._lives_without(failure):
                    raise _GaveUp(str(failure)) from None
            self._breaker.trip()  # the judge is away: wait for it

    async def _lives_without(self, failure: Transient) -> bool:
        """Whether the judge is up although nothing but this failing request has been asked of it lately."""
        if failure.away or self._breaker.state is not State.CLOSED:
            return False
        try:
            await self._endpoint.release()
        except Transient:
            return False
        except JudgeUnavailable:
            return True  # it answered, if only that it lists no models
        return True

    async def _through_breaker(self, who: int, call: Callable[[], Awaitable[T]]) -> T:
        """Run one request in a free slot when the breaker lets it, and tell the breaker how it went."""
        async with self._slots:
            probe = await self._breaker.admit()
            told = False
            try:
                if probe:
                    await self._check_same_judge()
                result = await call()
                told = True
                self._breaker.success()
                return result
            except Transient as failure:
                told = True
                one = who if self._proven or failure.away else 0  # as of one request: they don't open the breaker
                self._breaker.failure(one, str(failure), away=failure.away, after_s=failure.after_s)
                raise
            except (Refused, NoBatchRoute):
                told = True
                self._breaker.success()
                raise
            finally:
                if probe and not told:
                    self._breaker.release_probe()

    async def _check_same_judge(self) -> None:
        if self._config.release is not None or self._release is None:
            return
        now = await self._endpoint.release()
        if now != self._release:
            raise JudgeChanged(
                f"the judge at {self.url} changed from {self._release} to {now} during the run; start the first one "
                "again, or name the judge with judge.release if they are the same"
            )

    def _leave_unanswered(self, question: Question, reason: str, answer: NoAnswer) -> None:
        self._warn_once(reason, f"the judge at {self.url} left a pair unanswered: {answer}")
        self._metrics.unanswered.labels(self.url, reason).inc()
        question.answer.set_result(answer)

    def _say_wait(self, failure: Transient, wait_s: float) -> None:
        """A wait that somebody at the screen would wonder about is said before it begins."""
        if wait_s >= LONG_WAIT_S or (failure.after_s or 0.0) > self._config.wait_s:
            asked = f"asks for {failure.after_s:.0f} s" if failure.after_s else "asks to wait"
            self._warn_once("wait", f"the judge at {self.url} {asked} ({failure}); waiting {wait_s:.0f} s")

    def _warn_once(self, topic: str, message: str) -> None:
        if topic not in self._warned:
            self._warned.add(topic)
            _log.warning("%s", message)

    def _say_state(self, state: State) -> None:
        self._metrics.breaker.labels(self.url).set(state.value)
        if state is State.OPEN and "away" not in self._warned:
            wait = f"waiting up to {self._config.wait_s:.0f} s"
            self._warn_once("away", f"the judge at {self.url} is away ({self._breaker.reason}); {wait}")
        elif state is State.CLOSED:
            self._warned.discard("away")
            _log.warning("the judge at %s is back", self.url)


def _mark_seen(answer: Answer) -> None:
    """Keep asyncio from reporting an error that nobody awaited (the first error of a call already ended it)."""
    if not answer.cancelled():
        answer.exception()
