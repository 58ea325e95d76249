"""The contenders of benchmarks/speed/training.py, one a process: `ours` (and `earlier`) and sentence-transformers'.

All read the folder that the parent wrote: the same pairs in the same order. Dropout is off for all.
"""

import json
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.speed.training_pace import Pace, Plan

QUERIES, LR, WEIGHT_DECAY, TAU, SEED = 64, 3e-5, 0.01, 0.05, 0
TEMPLATES = {"titles": "{title}", "long": "{title}[, {brand}][, {category}][. {attributes}][. {description}]"}


def train_ours(folder: Path, plans: Sequence[Plan], pace: Pace, precision: str, kind: str) -> None:
    """The real objective in the real training loop on the real engine; `kind` earlier: without what made it faster."""
    from taoemb.config import load_config
    from taoemb.data.dataset import open_dataset
    from taoemb.training.checkpoint import RunFolder
    from taoemb.training.context import Context, RunArguments, starting_encoder
    from taoemb.training.distributed import joined_ranks
    from taoemb.training.run import train
    from taoemb.training.sft import SFT

    class Paced(SFT):
        def step(self, step: int) -> dict[str, float]:
            metrics = super().step(step)
            if step == 0:
                pace.first_loss = metrics["loss"]
            pace.step()
            return metrics

    sft = {"queries": QUERIES, "random_negatives": 0, "tau": TAU}
    optim = {"lr": LR, "weight_decay": WEIGHT_DECAY}
    with joined_ranks() as ranks:
        for plan in plans:
            settings = [f"sft.{name}={value}" for name, value in sft.items()]
            settings += [f"sft.optim.{name}={value}" for name, value in optim.items()]
            settings += [f"sft.steps={plan.all_steps}", f"engine.precision={precision}", "engine.trackers=[]"]
            settings += [f"encoder.item_template={json.dumps(TEMPLATES[plan.texts])}", f"engine.seed={SEED}"]
            settings += ["encoder.attention=sdpa", "engine.length_buckets=2"] if kind == "earlier" else []
            config = load_config(None, settings)
            with tempfile.TemporaryDirectory() as out:
                arguments = RunArguments(folder, Path(out))
                data = open_dataset(folder, need=("items", "queries", "pairs"))
                context = Context(arguments, config, ranks, data, RunFolder(Path(out)), None)
                objective = Paced(context, config.sft, starting_encoder(context))
                if kind == "earlier":
                    _undo(objective)
                pace.begin(plan)
                train(context, objective)


def _undo(objective: Any) -> None:
    """What the step did before it was made faster, beside the two settings: see `TRIED` in training.py."""
    encoder = objective._encoder

    def apart(queries: list[str], items: list[str], buckets: int) -> list:
        second = [
            replace(batch, order=batch.order + len(queries)) for batch in encoder.tokenize(items, "item", buckets)
        ]
        return [*encoder.tokenize(queries, "query", buckets), *second]

    encoder.tokenize_both = apart
    encoder._takes_embeddings = False
    objective.engine._engine.enable_backward_allreduce = True


def train_theirs(
    folder: Path, plans: Sequence[Plan], pace: Pace, precision: str, kind: str, optim: str, attention: str
) -> None:
    """sentence-transformers as its users run it: a trainer, a loss, a dataset of (anchor, positive)."""
    from datasets import Dataset
    from sentence_transformers import SentenceTransformer, SentenceTransformerTrainer
    from sentence_transformers.sentence_transformer import losses
    from sentence_transformers.sentence_transformer.training_args import SentenceTransformerTrainingArguments
    from torch.utils.data import BatchSampler, SequentialSampler
    from transformers import TrainerCallback

    from taoemb.encoder.sources import find_model

    class Paced(TrainerCallback):
        def on_step_end(self, *_: Any, **__: Any) -> None:
            pace.step()

    def in_order(dataset: Dataset, batch_size: int, drop_last: bool, **_: Any) -> BatchSampler:
        return BatchSampler(SequentialSampler(dataset), batch_size, drop_last)

    model_folder = str(find_model("all-MiniLM-L6-v2").folder)
    for plan in plans:
        model = SentenceTransformer(model_folder, device="cpu", model_kwargs={"attn_implementation": attention})
        for module in model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
        made = losses.MultipleNegativesRankingLoss if kind == "mnrl" else losses.CachedMultipleNegativesRankingLoss
        loss = made(model, scale=1 / TAU)
        note_first(loss, pace)
        pairs = json.loads((folder / f"{plan.texts}.json").read_text(encoding="utf-8"))
        with tempfile.TemporaryDirectory() as out:
            arguments = SentenceTransformerTrainingArguments(
                output_dir=out,
                max_steps=plan.all_steps,
                per_device_train_batch_size=QUERIES,
                learning_rate=LR,
                weight_decay=WEIGHT_DECAY,
                max_grad_norm=1.0,
                lr_scheduler_type="cosine",
                warmup_steps=0.05,
                bf16=precision != "fp32",
                optim=optim,
                batch_sampler=in_order,
                save_strategy="no",
                report_to="none",
                disable_tqdm=True,
                use_cpu=True,
                seed=SEED,
            )
            trainer = SentenceTransformerTrainer(
                model=model,
                args=arguments,
                train_dataset=Dataset.from_dict({"anchor": pairs["queries"], "positive": pairs["items"]}),
                loss=loss,
                callbacks=[Paced()],
            )
            pace.begin(plan)
            trainer.train()


def note_first(loss: torch.nn.Module, pace: Pace) -> None:
    """Tell the first batch's loss to `pace`."""

    def note(_module: torch.nn.Module, _given: Any, value: torch.Tensor) -> None:
        pace.first_loss = float(value.detach())
        handle.remove()

    handle = loss.register_forward_hook(note)


def main(folder: str, plans: str, kind: str, precision: str, optim: str, attention: str) -> None:
    """Train as the arguments say; see `Contender` in training.py."""
    pace = Pace()
    torch.manual_seed(SEED)
    np.random.seed(SEED)
    planned = [Plan(**plan) for plan in json.loads(plans)]
    if kind in ("ours", "earlier"):
        train_ours(Path(folder), planned, pace, precision, kind)
    else:
        train_theirs(Path(folder), planned, pace, precision, kind, optim, attention)


if __name__ == "__main__":
    main(*sys.argv[1:])
