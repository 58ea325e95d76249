"""Supervised fine-tuning: tokens a second and peak memory of our step against sentence-transformers' trainer.

    python -m benchmarks.speed.training [--quick]

The same model (all-MiniLM-L6-v2), pairs, order, batch of 64 pairs without further negatives, AdamW, threads; dropout is
off for all. Each contender is a process of its own; they train round by round in turn. `--quick` saves nothing.
"""

import json
import statistics
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from benchmarks.record import Aim, Ratio, Record, Table, options, ratio
from benchmarks.speed.training_contenders import QUERIES, SEED, TEMPLATES
from benchmarks.speed.training_pace import Plan, Trainer

AIM = 1.5
LOSS_TOLERANCE = {"fp32": 1e-4, "bf16-autocast": 2e-2}
PLANS = (Plan("titles", steps=1, rounds=5), Plan("long", steps=1, rounds=5))
QUICK = (Plan("titles", steps=1, rounds=2), Plan("long", steps=1, rounds=2))
KINDS = {
    "ours": "taoemb sft",
    "earlier": "taoemb sft, before",
    "mnrl": "MultipleNegativesRankingLoss",
    "cached": "CachedMultipleNegativesRankingLoss",
}
TRIED = (
    "What the profile showed and was changed: (1) bf16 spent a third of the step in the backward pass of fused "
    "attention on the CPU: plain attention instead, for texts of up to 128 tokens; (2) DeepSpeed flattened all "
    "gradients for an all-reduce even on one rank, 9% of the step: now left out there; (3) each forward pass had a "
    "vocabulary-sized gradient of its own: now one lookup serves all passes; (4) queries and items went in two passes "
    "each: now four passes over both in one pool, with less padding. Six and eight passes pad less still and were "
    "no faster. Float32 gains only from (2) to (4): its time is matrix products."
)
LEFT = (
    "What is left: two thirds of our step are matrix products, which both sides do alike; only padding (see the table; "
    "theirs is a batch as long as its longest text) and bookkeeping can still be saved."
)
MEMORY = (
    "Plain attention keeps its scores for the backward pass: on long texts it takes more memory than fused attention "
    "(compare `before`). Where memory is short: encoder.attention=sdpa."
)


@dataclass(frozen=True)
class Contender:
    """A trainer and its settings."""

    kind: str
    precision: str
    optim: str = "adamw_torch_fused"
    attention: str = "sdpa"

    @property
    def ours(self) -> bool:
        """Whether this is what users of taoemb get."""
        return self.kind == "ours"

    @property
    def theirs(self) -> bool:
        """Whether this is sentence-transformers."""
        return self.kind in ("mnrl", "cached")

    @property
    def settings(self) -> str:
        """For a cell of the table."""
        changed = [self.optim] if self.theirs else []
        changed += ["eager attention"] if self.attention != "sdpa" else []
        return ", ".join([self.precision, *changed])


CONTENDERS = (
    Contender("ours", "bf16-autocast"),
    Contender("ours", "fp32"),
    Contender("earlier", "bf16-autocast"),
    Contender("mnrl", "bf16-autocast"),
    Contender("mnrl", "bf16-autocast", attention="eager"),
    Contender("mnrl", "fp32"),
    Contender("cached", "bf16-autocast"),
    Contender("cached", "fp32"),
)


@dataclass
class Found:
    """What one contender measured on one kind of text."""

    tokens_per_s: list[float] = field(default_factory=list)
    peak_mib: int = 0
    first_loss: float = 0.0


def write_data(folder: Path, plans: Sequence[Plan]) -> dict[str, np.ndarray]:
    """A shop where each query has one pair and no two pairs share a title, so that no batch holds a false negative.

    Beside it, for each plan, the texts in the order in which our objective draws them. Returns, for each plan, the
    real tokens of each step.
    """
    from transformers import AutoTokenizer

    from taoemb.data.dataset import open_dataset
    from taoemb.data.synth import synthesise
    from taoemb.encoder.sources import find_model
    from taoemb.encoder.text import ItemTemplate
    from taoemb.training.sampling import Positives, QueryOrder

    needed = max(plan.all_steps for plan in plans) * QUERIES
    synthesise(folder, items=8 * needed, queries=needed * 5 // 4, seed=SEED)
    pq.write_table(_one_each(folder), folder / "pairs.parquet")
    data = open_dataset(folder, need=("items", "queries", "pairs"))
    assert data.pairs is not None
    positives = Positives(data.pairs, len(data.queries))
    if len(positives.query_rows) < needed:
        raise RuntimeError(f"the shop gave {len(positives.query_rows)} pairs of the {needed} that are needed")
    tokenizer = AutoTokenizer.from_pretrained(find_model("all-MiniLM-L6-v2").folder)
    order = QueryOrder(positives.query_rows, SEED)
    tokens = {}
    for plan in plans:
        rows = [order.at(step, QUERIES) for step in range(plan.all_steps)]
        items = np.concatenate([positives.draw(part, SEED, step) for step, part in enumerate(rows)])
        texts = {
            "queries": [data.queries.texts[row] for row in np.concatenate(rows)],
            "items": data.items.texts(items, ItemTemplate(TEMPLATES[plan.texts])),
        }
        (folder / f"{plan.texts}.json").write_text(json.dumps(texts), encoding="utf-8")
        lengths = {name: [len(ids) for ids in tokenizer(part)["input_ids"]] for name, part in texts.items()}
        assert max(lengths["queries"]) <= 64, "our limit of a query: theirs is higher, and would read more"
        assert max(lengths["items"]) <= 128, "our limit of an item"
        tokens[plan.texts] = np.add(lengths["queries"], lengths["items"]).reshape(-1, QUERIES).sum(1)
    return tokens


def paddings(folder: Path, plan: Plan) -> dict[str, float]:
    """Share of padding in the passes of each kind of trainer, over the steps of a plan."""
    from taoemb.config import EncoderConfig, EngineConfig
    from taoemb.encoder.loading import load_encoder

    encoder = load_encoder(EncoderConfig())
    texts = json.loads((folder / f"{plan.texts}.json").read_text(encoding="utf-8"))
    passes: dict[str, list[torch.Tensor]] = {"ours": [], "earlier": [], "theirs": []}
    for start in range(0, plan.all_steps * QUERIES, QUERIES):
        queries, items = (texts[name][start : start + QUERIES] for name in ("queries", "items"))
        passes["ours"] += [b.mask_NT for b in encoder.tokenize_both(queries, items, EngineConfig().length_buckets)]
        for kind, buckets in (("earlier", 2), ("theirs", 1)):
            apart = [*encoder.tokenize(queries, "query", buckets), *encoder.tokenize(items, "item", buckets)]
            passes[kind] += [batch.mask_NT for batch in apart]
    return {
        kind: 1 - sum(float(m.sum()) for m in masks) / sum(m.numel() for m in masks) for kind, masks in passes.items()
    }


def _one_each(folder: Path) -> pa.Table:
    """Of each query the most clicked item whose title no query before it has taken."""
    pairs = pq.read_table(folder / "pairs.parquet").to_pylist()
    items = pq.read_table(folder / "items.parquet", columns=["item_id", "title"])
    title = dict(zip(items["item_id"].to_pylist(), items["title"].to_pylist(), strict=True))
    chosen: dict[str, dict] = {}
    taken = set()
    for pair in sorted(pairs, key=lambda pair: -pair["weight"]):
        if pair["query_id"] not in chosen and title[pair["item_id"]] not in taken:
            chosen[pair["query_id"]] = pair
            taken.add(title[pair["item_id"]])
    schema = pq.read_schema(folder / "pairs.parquet")
    return pa.Table.from_pylist([chosen[query_id] for query_id in sorted(chosen)], schema)


def measure(
    folder: Path, plans: Sequence[Plan], contenders: Sequence[Contender], tokens: dict[str, np.ndarray]
) -> dict[str, dict[Contender, Found]]:
    """Train all contenders in turn; the first round of each plan warms up. Raises when their losses differ."""
    found = {plan.texts: {contender: Found() for contender in contenders} for plan in plans}
    with ExitStack() as stack:
        trainers = {}
        for number, contender in enumerate(contenders):
            given = [str(folder), json.dumps([asdict(plan) for plan in plans])]
            given += [contender.kind, contender.precision, contender.optim, contender.attention]
            trainer = Trainer("benchmarks.speed.training_contenders", given, folder / f"{number}.log")
            stack.callback(trainer.close)
            trainers[contender] = trainer
        for plan in plans:
            for number in range(plan.rounds):
                at = number % len(contenders)
                for contender in (*contenders[at:], *contenders[:at]):
                    answer = trainers[contender].round()
                    result = found[plan.texts][contender]
                    result.peak_mib, result.first_loss = answer["peak_mib"], answer["first_loss"]
                    if number:
                        read = tokens[plan.texts][number * plan.steps : (number + 1) * plan.steps].sum()
                        result.tokens_per_s.append(float(read) / answer["seconds"])
            check_losses(found[plan.texts])
    return found


def check_losses(found: dict[Contender, Found]) -> None:
    """All contenders must have computed the same loss of the first batch. Raises RuntimeError."""
    expected = next(result.first_loss for contender, result in found.items() if contender.precision == "fp32")
    for contender, result in found.items():
        if abs(result.first_loss - expected) > LOSS_TOLERANCE[contender.precision] * expected:
            raise RuntimeError(f"{contender}: first loss {result.first_loss}, expected {expected}")


def fastest(found: dict[Contender, Found], precision: str | None = None, attention: str | None = None) -> Contender:
    """sentence-transformers' fastest setting, of one precision or attention or of all."""
    rates = {
        contender: statistics.median(result.tokens_per_s)
        for contender, result in found.items()
        if contender.theirs and precision in (None, contender.precision) and attention in (None, contender.attention)
    }
    return max(rates, key=rates.__getitem__)


def against(found: dict[Contender, Found], ours: Contender, theirs: Contender) -> Ratio:
    """Tokens a second of one over another, round by round."""
    return ratio(found[ours].tokens_per_s, found[theirs].tokens_per_s)


def table(title: str, found: dict[Contender, Found], padding: dict[str, float]) -> Table:
    """A row a contender; `padding` by kind of trainer."""
    best = fastest(found)
    rows = []
    for contender, result in found.items():
        rate = statistics.median(result.tokens_per_s)
        over = str(against(found, contender, best)) if contender != best else "1"
        share = f"{padding['theirs' if contender.theirs else contender.kind]:.0%}"
        cells = [f"{rate:,.0f}", over, share, f"{result.peak_mib:,}", f"{result.first_loss:.4f}"]
        rows.append([KINDS[contender.kind], contender.settings, *cells])
    text = (
        "Median over the rounds; ratio round by round to sentence-transformers' fastest row. Tokens are real ones, "
        "padding is not counted. Peak memory: the process's largest resident size so far. `before` is our step "
        "without the changes of this table."
    )
    head = ("trainer", "settings", "tokens/s", "against their fastest", "padding", "peak MiB", "first loss")
    return Table(title, head, rows, text)


def aims(found: dict[str, dict[Contender, Found]]) -> list[Aim]:
    """1.5 times their best, as it comes and tuned by hand, and no precision in which we lose."""
    ours = next(contender for contender in CONTENDERS if contender.ours)
    rows = []
    for texts, results in found.items():
        for said, best in (
            ("best precision and optimiser", fastest(results, attention="sdpa")),
            ("best, its attention also set by hand as ours is by default", fastest(results)),
        ):
            measured = against(results, ours, best)
            met = measured.median >= AIM
            rows.append(
                Aim(
                    f"SFT on {texts}: {AIM}× tokens/s at our best precision against sentence-transformers' {said}",
                    f"{measured} against {KINDS[best.kind]} ({best.settings})",
                    met,
                    "" if met else f"{TRIED} {LEFT}",
                )
            )
    each = {
        f"{texts}, {contender.precision}": against(results, contender, fastest(results, contender.precision))
        for texts, results in found.items()
        for contender in results
        if contender.ours
    }
    lost = [name for name, measured in each.items() if measured.median < 1]
    said = "; ".join(f"{name} {measured}" for name, measured in each.items())
    rows.append(
        Aim("SFT: no precision in which we lose on tokens/s", said, not lost, f"{TRIED} {LEFT}" if lost else "")
    )
    return rows


def main(quick: bool) -> None:
    """Measure, print and, unless `quick`, save."""
    record = Record(__file__, "Training speed: supervised fine-tuning")
    plans = QUICK if quick else PLANS
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "shop"
        tokens = write_data(folder, plans)
        found = measure(folder, plans, CONTENDERS, tokens)
        padding = {plan.texts: paddings(folder, plan) for plan in plans}
    names = {"titles": "Queries and item titles", "long": "Queries and long item texts"}
    for texts, results in found.items():
        each = tokens[texts].mean() / (2 * QUERIES)
        record.tables.append(table(f"{names[texts]} ({each:.0f} tokens a text on average)", results, padding[texts]))
    record.aims.extend(aims(found))
    record.notes += [TRIED, MEMORY]
    record.notes.append(
        "Dropout is off for all: ours has none, theirs is set to 0. adamw_torch_fused is sentence-transformers' "
        "default, and ours. Loading, the first round and saving are not in the times; data loading, tokenising, "
        "clipping and bookkeeping are."
    )
    record.finish(save=not quick)


if __name__ == "__main__":
    main(options(__doc__).parse_args().quick)
