"""Retrieval-GRPO: the policy retrieves, a judge grades live, and the group-relative reward moves the encoder.

Paper section 3: for each query the Top-K items by the current model form a group; r = relevance + quality +
exclusivity; Â = (r − mean) / std within the group; the clipped ratio objective with a KL to the frozen start.

Judging overlaps the optimiser: with staleness s, the groups of step t are retrieved s updates earlier and judged while
those updates run; the scores of the policy that retrieved them are kept, so that the clipped ratio does real work.

Run it as `python -m taoemb.training.grpo --data DIR --release DIR --out DIR --set judge.url=URL`, alone, under
torchrun or the DeepSpeed launcher.
"""

import copy
import sys
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from torch import Tensor

from taoemb.config import GRPOConfig, JudgeConfig
from taoemb.encoder.release import Release, save_release
from taoemb.errors import InputError
from taoemb.judge.admission import Admission
from taoemb.judge.client import JudgeClient, JudgeFailure
from taoemb.judge.identity import known_among
from taoemb.judge.probe import pairs_of, probe
from taoemb.training.context import Batches, Context
from taoemb.training.distributed import first_trouble, on_main, sum_over_ranks
from taoemb.training.engine import Engine
from taoemb.training.groups import BatchPool, Group, Retriever, group_scores, pack, unpack
from taoemb.training.heldout import HeldOut, Probe, held_out_rows
from taoemb.training.identity import check, of_judges
from taoemb.training.index import Index
from taoemb.training.policy import PolicyUpdate, reward_metrics
from taoemb.training.rewarding import Rewarder, Scored
from taoemb.training.run import StopTraining
from taoemb.training.teacher import admit
from taoemb.training.timing import Stopwatch
from taoemb.training.towers import open_towers, start

PROBE_QUERIES = 64


class RetrievalGRPO:
    """The objective; see the module's words."""

    name = "grpo"

    def __init__(
        self,
        context: Context,
        config: GRPOConfig,
        judge: JudgeClient,
        heldout_judge: JudgeClient | None,
        admitted: Admission | None = None,
    ) -> None:
        self._context, self._config, self._judge, self._admitted = context, config, judge, admitted
        self._parent = _parent(context)
        _check_group_size(context, config)
        self.steps = config.steps
        held_out = np.empty(0, dtype=np.int64) if heldout_judge is None else held_out_rows(context, config)
        trained = np.setdiff1d(np.arange(len(context.data.queries)), held_out)
        self._batches = Batches(context, trained, config.queries, "grpo.queries")
        self._positives = context.positives()
        self._rewarder = Rewarder(context.data, judge, context.config.rewards, at_once=config.staleness + 1)
        self._queue: deque[Group] = deque()
        self._open_policy(trained)
        self._update = PolicyUpdate(context, config, self.engine, self._towers, self._batches, self._positives)
        self._heldout = None
        if heldout_judge is not None:
            self._heldout = HeldOut(context, heldout_judge, self._towers, self._bank, held_out)

    def _open_policy(self, trained: np.ndarray) -> None:
        """Embed the catalogue and the reference with the starting weights, then hand the encoder to DeepSpeed."""
        context, config = self._context, self._config
        self._encoder, self._bank = start(context, self._parent, config.towers)
        self._reference_bank = copy.deepcopy(self._bank) if config.towers != "query" else self._bank
        self._reference = self._reference_queries()
        updates = config.steps * config.updates
        self.engine = Engine(self._encoder, context.config.engine, config.optim, updates, context.ranks)
        self._towers = open_towers(context, config.towers, self.engine, self._encoder, self._bank)
        self._index = Index(
            self._bank,
            self._towers,
            moves=config.towers != "query",
            refresh=config.refresh,
            checkpoint_every=context.config.engine.checkpoint_every,
            steps=config.steps,
        )
        k = min(config.k, self._bank.n_items)
        self._probe = Probe(self._towers, self._bank, trained[:PROBE_QUERIES], k, context.ranks)

    def _reference_queries(self) -> dict[int, np.ndarray]:
        """Vectors by the starting policy of every query that this rank will see: no second model stays in memory."""
        rows = np.unique(np.concatenate([self._batches.of_rank(step) for step in range(self.steps)]))
        vectors = self._encoder.encode(self._context.query_texts(rows), "query")
        return dict(zip(rows.tolist(), vectors, strict=True))

    def step(self, step: int) -> dict[str, float]:
        """Retrieve ahead, wait for this step's rewards, update, and keep the index fresh."""
        watch = Stopwatch()
        metrics: dict[str, float] = {}
        with watch("refresh"):
            if self._index.begin(step):
                metrics |= self._probe.churn(step)
        self._retrieve_ahead(step, watch)
        with watch("judge_wait"):
            scored = self._collect(self._queue[0])
        metrics |= self._update.train(self._queue.popleft(), scored, watch)
        metrics |= reward_metrics(scored, self._context.ranks)
        self._index.end()
        if self._heldout is not None and step % self._config.heldout_every == 0:
            with watch("heldout"):
                metrics |= self._heldout.check()
        metrics |= {"index_age": float(self._bank.age), **watch.seconds()}
        return metrics | {"queries_per_s": self._config.queries / watch.total()}

    def _retrieve_ahead(self, step: int, watch: Stopwatch) -> None:
        first = self._queue[-1].step + 1 if self._queue else step
        for later in range(first, min(step + self._config.staleness + 1, self.steps)):
            self._queue.append(self._retrieve(later, watch))

    def _retrieve(self, step: int, watch: Stopwatch) -> Group:
        """Groups of `step` by the policy of now, on their way to the judge before anything else is done with them."""
        query_rows = self._batches.of_rank(step)
        with watch("encode"):
            vectors_QD = self._towers.queries_now(query_rows)
        with watch("topk"):
            items_QK = self._topk(step, vectors_QD)
            rows_QK = items_QK.cpu().numpy()
        scored = self._rewarder.submit(query_rows, rows_QK)
        with watch("encode"):
            old_QK = None  # on-policy: the update itself knows them
            if self._config.staleness:
                old_QK = group_scores(vectors_QD, self._towers.groups_now(rows_QK))
        reference_QD = torch.from_numpy(np.stack([self._reference[int(row)] for row in query_rows])).to(items_QK.device)
        reference_QK = group_scores(reference_QD, self._reference_bank.vectors(items_QK))
        return Group(step, query_rows, rows_QK, old_QK, reference_QK, scored)

    def _topk(self, step: int, vectors_QD: Tensor) -> Tensor:
        """Item rows (Q, K) of the groups of `step`."""
        retriever: Retriever = self._bank
        if self._config.pool == "batch":
            positives_M = self._positives.draw(self._batches.all_ranks(step), self._context.seed, step)
            retriever = BatchPool(self._towers, positives_M, self._context, self._config, step)
        return retriever.topk(vectors_QD, min(self._config.k, self._bank.n_items))[1]

    def _collect(self, group: Group) -> Scored:
        """Wait for the judge. Raises StopTraining on every rank when it failed on any: nothing is invented."""
        failure, scored, device = "", None, self._context.ranks.device
        try:
            scored = group.scored.result()
        except JudgeFailure as error:  # away, another one, its cache locked or full
            failure = str(error)
        failure = first_trouble(failure, self._context.ranks)
        if failure or scored is None:
            raise StopTraining(f"{failure}; checkpoint kept: resume with the same command")
        total = sum_over_ranks({"unanswered": scored.unanswered, "pairs": group.rows_QK.size}, device)
        share, allowed = total["unanswered"] / total["pairs"], self._context.config.judge.max_unanswered
        if share > allowed:
            raise StopTraining(
                f"step {group.step}: the judge left {share:.0%} of the pairs unanswered (judge.max_unanswered is "
                f"{allowed:.0%}): {scored.problem or 'see the other ranks'}; mend it, then resume with the same command"
            )
        return scored

    def state(self) -> dict[str, Any]:
        """Groups that are being judged, the index, and the probe's last Top-K."""
        groups = pack(list(self._queue), self._context.ranks)
        return {"groups": groups, "index": self._index.state(), "probe": self._probe.state()}

    def load_state(self, state: Mapping[str, Any], step: int) -> None:
        """Hand the groups to the judge again, and go back to the index and to what the probe saw."""
        self._queue = deque(unpack(state["groups"], self._context, self._rewarder.submit))
        self._index.load_state(state["index"], step)
        self._probe.load_state(state["probe"])

    def facts(self) -> dict[str, Any]:
        """What the manifest says of this training."""
        tried = {} if self._admitted is None else {"admission": asdict(self._admitted)}
        return {"queries_seen": self.steps * self._config.queries} | tried

    def reward_judges(self) -> list[str]:
        """The judge of this run, under every name that it has."""
        return sorted(self._judge.names)

    def judges(self) -> dict[str, str]:
        """The reward judge, and the one that watches."""
        watching = {} if self._heldout is None else {"heldout_judge": self._heldout.judge}
        return {"judge": self._judge.release} | watching

    def save_release(self, weights: Mapping[str, Tensor], training: Mapping[str, Any]) -> Release:
        """A release that keeps its parent's item encoder when only the query tower was trained."""
        source = self._parent if self._config.towers == "query" else None
        folder = self._context.folder.release
        return save_release(
            folder, self._encoder, item_source=source, parent=self._parent, training=training, state_dict=weights
        )

    def close(self) -> None:
        """Stop judging."""
        self._rewarder.close()
        self._judge.close()
        if self._heldout is not None:
            self._heldout.close()


def _parent(context: Context) -> Release:
    if context.parent is None:
        raise InputError("grpo: needs --release DIR: Retrieval-GRPO starts from an SFT release (paper section 2)")
    return context.parent


def _check_group_size(context: Context, config: GRPOConfig) -> None:
    pool = len(context.data.items) if config.pool == "catalogue" else config.queries + config.batch_items
    if config.k > pool:
        raise InputError(f"grpo.k is {config.k}, more than the pool of {pool} items; lower it")
    if config.k > 0.05 * pool and context.ranks.main:
        print(
            f"warning: grpo.k {config.k} is {config.k / pool:.0%} of the candidate pool of {pool} items; most of a "
            "group will be irrelevant (docs/decisions.md): enlarge the pool or lower it",
            file=sys.stderr,
        )


def _remembering(judge: JudgeConfig, context: Context) -> JudgeConfig:
    """With a cache in the run's folder where the settings name none: the Top-K of a query changes little in a step."""
    cache = context.folder.judgments(context.ranks)
    return judge if judge.cache is not None else judge.model_copy(update={"cache": cache})


def _probe_all(judges: Sequence[JudgeClient], context: Context) -> None:
    for judge in judges:
        probe(judge, pairs_of(context.data))


def build(context: Context) -> RetrievalGRPO:
    """The objective from the settings; both judges must answer before anything is embedded."""
    config = context.config
    with ExitStack() as opened:  # a judge client is left open only by an objective that was made, and closes it
        judge = opened.enter_context(JudgeClient(_remembering(config.judge, context)))
        reward_release = judge.release
        check(context.folder, of_judges({"judge": reward_release}))
        heldout = None
        if config.grpo.heldout_every:
            if config.heldout_judge is None:
                raise InputError(
                    "grpo.heldout_every needs heldout_judge.url: a judge other than the one that gives reward"
                )
            heldout = opened.enter_context(JudgeClient(_remembering(config.heldout_judge, context)))
            same_place = (heldout.config.url, heldout.config.model) == (config.judge.url, config.judge.model)
            if same_place or known_among(heldout.names, judge.names):
                raise InputError(f"heldout_judge: is the reward judge itself ({reward_release[:12]}); give another one")
        asked = [client for client in (judge, heldout) if client is not None]
        on_main(context.ranks, lambda: _probe_all(asked, context))  # by one rank: a pair is paid for once
        admitted = admit(context, _parent(context), judge)
        objective = RetrievalGRPO(context, config.grpo, judge, heldout, admitted)
        opened.pop_all()
    return objective


if __name__ == "__main__":
    from taoemb.training.entry import main

    main("grpo")
