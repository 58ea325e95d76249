"""Groups reach the judge when they are handed in, and get their own rewards whatever the order of the answers."""

import threading
import time
from concurrent.futures import Future, wait

import numpy as np
import pytest

from taoemb.config import JudgeConfig, RewardConfig
from taoemb.data.dataset import open_dataset
from taoemb.judge.client import JudgeClient, Judged, JudgeUnavailable
from taoemb.training.rewarding import Rewarder


class SlowJudge:
    """Answers when the test says so."""

    def __init__(self):
        self.asked, self.answers = [], []

    def submit(self, queries, items):
        self.asked.append([(query, item["item_id"]) for query, item in zip(queries, items, strict=True)])
        self.answers.append(Future())
        return self.answers[-1]


def until_asked(judge, batches):
    deadline = time.monotonic() + 10
    while len(judge.answers) < batches:
        assert time.monotonic() < deadline, "the judge was not asked"
        time.sleep(0.002)


def judged(relevance):
    probs_P4 = np.zeros((len(relevance), 4), dtype=np.float32)
    return Judged(np.array(relevance, dtype=np.float32), probs_P4, 1, 2, 0, 0.5, probs_P4.sum(1))


@pytest.fixture
def scoring(shop):
    """A judge, a rewarder that pays for relevance alone, and the shop's data."""
    judge = SlowJudge()
    data = open_dataset(shop, need=("items", "queries"))
    rewarder = Rewarder(data, judge, RewardConfig(quality=0, exclusivity=0), at_once=2)
    yield judge, rewarder, data
    rewarder.close()


def test_later_groups_are_asked_before_earlier_ones_are_answered(scoring):
    judge, rewarder, data = scoring
    first = rewarder.submit(np.array([3]), np.array([[5, 6]]))
    until_asked(judge, 1)
    second = rewarder.submit(np.array([4]), np.array([[7, 5]]))
    until_asked(judge, 2)
    assert judge.asked == [
        [(data.queries.texts[3], "i5"), (data.queries.texts[3], "i6")],
        [(data.queries.texts[4], "i7"), (data.queries.texts[4], "i5")],
    ]
    judge.answers[1].set_result(judged([1, 0]))
    assert second.result(10).rewards.total_QK.tolist() == [[1, 0]]
    judge.answers[0].set_result(judged([0, 1]))
    scored = first.result(10)
    assert scored.rewards.total_QK.tolist() == [[0, 1]]
    assert (scored.cached, scored.asked, scored.unanswered, scored.judge_s) == (1, 2, 0, 0.5)


def test_a_judge_that_stays_away_is_the_groups_error(scoring):
    judge, rewarder, _ = scoring
    group = rewarder.submit(np.array([0]), np.array([[0, 1]]))
    until_asked(judge, 1)
    judge.answers[0].set_exception(JudgeUnavailable("gone"))
    with pytest.raises(JudgeUnavailable, match="gone"):
        group.result(10)


def test_awkward_judge_that_never_answers_keeps_no_thread_after_the_end(shop, judge):
    judge.delay_s = 60
    data = open_dataset(shop, need=("items", "queries"))
    client = JudgeClient(JudgeConfig(url=judge.url))
    rewarder = Rewarder(data, client, RewardConfig(), at_once=2)
    waiting = [rewarder.submit(np.array([query]), np.array([[0, 1]])) for query in (0, 1)]
    deadline = time.monotonic() + 10
    while judge.running < 4:
        assert time.monotonic() < deadline, "the judge was not asked"
        time.sleep(0.01)
    rewarder.close()
    client.close()
    done, pending = wait(waiting, timeout=10)
    assert not pending
    assert all(future.exception() is not None for future in done)
    while any(thread.name.startswith("rewards") for thread in threading.enumerate()):
        assert time.monotonic() < deadline + 10, "a thread would keep the process alive"
        time.sleep(0.01)
