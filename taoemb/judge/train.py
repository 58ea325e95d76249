"""Train a cross-encoder judge from graded pairs, so that the loop has a real judge where no LLM can run.

Pairs are drawn evenly over queries and grades, batches hold pairs of like length, and agreement is measured on queries
held out. The folder appears at the end, whole; an interrupted run leaves nothing behind.
"""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from torch import Tensor
from transformers import AutoModel, AutoTokenizer

from taoemb.config import EncoderConfig, JudgeTrainConfig
from taoemb.data.files import new_folder
from taoemb.encoder.hardware import has_bf16
from taoemb.encoder.loading import load_encoder
from taoemb.encoder.model import quiet_transformers
from taoemb.encoder.sources import find_model
from taoemb.errors import InputError
from taoemb.judge.agreement import GOOD_GRADE, Graded, agreement, point_agreement
from taoemb.judge.cross_encoder import FILES, CrossEncoder, CrossEncoderJudge, CrossEncoderSpec
from taoemb.judge.graded import GradedPairs, choose_evenly, hold_out, part_of, read_graded
from taoemb.judge.outputs import check_out
from taoemb.judge.prompt import load_rubric
from taoemb.judge.zero_shot import ZeroShot, ZeroShotSpec
from taoemb.progress import Progress, progress

HELD_OUT_PAIRS = 4000
NEUTRAL_PAIRS = 2000  # training pairs that tell which cosine is neutral
CHECKS = 4  # looks at held-out pairs while training
CHECK_PAIRS = 500
WINDOW = 16  # batches that are sorted by length together


def train_judge(data: Sequence[Path], out: Path, config: JudgeTrainConfig) -> dict:
    """Train on the judgments of the dataset folders `data` and write the judge to the folder `out`.

    Returns judge.json's content. Raises InputError for data that can't train a judge and for a folder `out` that holds
    something else.
    """
    out = Path(out)
    check_out(out, FILES)
    torch.manual_seed(config.seed)
    pairs = part_of(read_graded(data), config.query_share, config.query_part)
    train, held = hold_out(pairs, config.valid, config.seed)
    train = choose_evenly(train, config.max_pairs, config.seed)
    held = choose_evenly(held, HELD_OUT_PAIRS, config.seed)
    grades = Counter(train.grades.tolist())
    if len(grades) < 2:
        file = train.datasets[0].root / "judgments.parquet"
        raise InputError(f"{file}: every training pair has grade {min(grades)}; a judge needs two grades or more")
    judge = add_zero_shot(start_judge(config), train, config)
    history = _fit(judge, train, held, config)
    graded = grade_pairs(judge, held)
    record = {
        "base_model": config.model,
        "rubric": load_rubric("v1").digest,
        "max_tokens": judge.spec.max_tokens,
        "item_tokens": judge.spec.item_tokens,
        "held_out": {"queries": len(np.unique(held.query_numbers)), "pairs": len(held), **agreement(graded)},
        "trained_on": _counts(train),
        "history": history,
        "settings": config.model_dump(mode="json"),
        "seed": config.seed,
    }
    with new_folder(out, SafetensorError) as folder:
        return judge.save(folder, record)


def start_judge(config: JudgeTrainConfig) -> CrossEncoderJudge:
    """An untrained judge on the base model. Raises InputError when there is no such model."""
    try:
        source = find_model(config.model)
    except InputError as error:  # it speaks of the encoder's setting
        raise InputError(str(error).replace("encoder.model", "judge_train.model")) from None
    device = "cuda" if torch.cuda.is_available() else "cpu"
    with quiet_transformers():
        backbone = AutoModel.from_pretrained(source.folder, dtype=torch.float32, attn_implementation="eager")
    limit = backbone.config.to_dict().get("max_position_embeddings") or config.max_tokens
    if config.max_tokens > limit:
        raise InputError(f"judge_train.max_tokens {config.max_tokens}: {config.model} reads at most {limit} tokens")
    spec = CrossEncoderSpec(config.head, config.max_tokens, config.item_tokens)
    model = CrossEncoder(backbone, spec.head).to(device)
    return CrossEncoderJudge(model, AutoTokenizer.from_pretrained(source.folder), spec, {})


def add_zero_shot(judge: CrossEncoderJudge, train: GradedPairs, config: JudgeTrainConfig) -> CrossEncoderJudge:
    """The judge with its base model's cosine as evidence; as it is when the base model embeds no sentences."""
    if not config.zero_shot or find_model(config.model).pooling is None:
        return judge
    bulk = "bf16" if has_bf16(judge.device) and config.precision != "fp32" else "fp32"
    encoder = load_encoder(EncoderConfig(model=config.model, precision=bulk), judge.device)
    prefix = encoder.item_template.prefix
    zero_shot = ZeroShot(encoder, prefix)
    few = choose_evenly(train, NEUTRAL_PAIRS, config.seed)
    cosines_P = zero_shot.cosines(*few.texts(config.item_tokens))
    good_P = few.grades >= GOOD_GRADE
    sides = [cosines_P[side].mean() for side in (good_P, ~good_P) if side.any()]
    neutral = round(float(np.mean(sides)), 4)
    spec = ZeroShotSpec(
        weight=config.zero_shot,
        neutral=neutral,
        pooling=encoder.spec.pooling,
        query_template=encoder.spec.query_template,
        item_prefix=prefix,
        max_query_tokens=encoder.spec.max_query_tokens,
        max_item_tokens=encoder.spec.max_item_tokens,
    )
    return CrossEncoderJudge(judge.model, judge.tokenizer, replace(judge.spec, zero_shot=spec), {}, zero_shot)


def grade_pairs(judge: CrossEncoderJudge, pairs: GradedPairs) -> Graded:
    """The judge's probabilities beside the given grades."""
    return Graded(pairs.query_numbers, pairs.grades, judge.score(*pairs.texts(judge.spec.item_tokens)))


def _fit(judge: CrossEncoderJudge, train: GradedPairs, held: GradedPairs, config: JudgeTrainConfig) -> list[dict]:
    tokens = judge.tokenize(*train.texts(config.item_tokens))
    lengths = np.array([len(ids) for ids in tokens["input_ids"]])
    targets = torch.from_numpy(train.grades.astype(np.int64) - 1).to(judge.device)
    few = choose_evenly(held, CHECK_PAIRS, config.seed)
    steps = max(1, round(config.epochs * len(train) / config.batch_size))
    checks = {round(steps * part / CHECKS) for part in range(1, CHECKS)}
    parameters = _trainable(judge.model, config.frozen_layers)
    optimiser = torch.optim.AdamW(parameters, lr=config.lr, weight_decay=0.01, fused=True)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: _rate(step, steps, config.warmup))
    history: list[dict] = []
    judge.model.train()
    with progress("train judge", steps * config.batch_size) as bar:
        for step, rows in enumerate(_batches(lengths, config.batch_size, steps, config.seed), 1):
            with _arithmetic(judge.device, config.precision):
                log_probs_P4 = judge.model(judge.collate(tokens, rows))
            loss = grade_loss(log_probs_P4, targets[torch.from_numpy(rows)], config.label_smoothing)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(parameters, 1.0)
            optimiser.step()
            schedule.step()
            optimiser.zero_grad()
            if step in checks:
                history.append(_check(judge, few, step))
            _show(bar, len(rows), loss, history)
    judge.model.eval()
    return history


def grade_loss(log_probs_P4: Tensor, targets_P: Tensor, smoothing: float) -> Tensor:
    """Mean cross-entropy with the given grade, of whose mass `smoothing` goes to the neighbouring grades.

    A grader who misses mostly misses by one level, so the uncertainty belongs beside the grade, not evenly everywhere.
    """
    grades = torch.arange(4, device=targets_P.device)
    near_P4 = ((grades - targets_P[:, None]).abs() == 1).float()
    goal_P4 = smoothing * near_P4 / near_P4.sum(1, keepdim=True)
    goal_P4[torch.arange(len(targets_P)), targets_P] = 1 - smoothing
    return -(goal_P4 * log_probs_P4).sum(1).mean()


def _batches(lengths: np.ndarray, size: int, steps: int, seed: int) -> Iterator[np.ndarray]:
    """`steps` batches of row numbers, one seeded pass over the pairs after another; each of like lengths."""
    rng = np.random.default_rng(seed)
    given = 0
    while True:
        order = rng.permutation(len(lengths))
        windows = [order[start : start + size * WINDOW] for start in range(0, len(order), size * WINDOW)]
        batches = [
            by_length[start : start + size]
            for by_length in (window[np.argsort(lengths[window], kind="stable")] for window in windows)
            for start in range(0, len(by_length), size)
        ]
        for place in rng.permutation(len(batches)):
            if given == steps:
                return
            given += 1
            yield batches[place]


def _rate(step: int, steps: int, warmup: float) -> float:
    """Share of the learning rate: linear warm-up, then linear to zero."""
    rising = max(1, round(steps * warmup))
    return min((step + 1) / rising, (steps - step) / max(1, steps - rising))


def _trainable(model: CrossEncoder, frozen_layers: int) -> list[torch.nn.Parameter]:
    """Freeze the word embeddings and the first layers; the rest trains."""
    for name, parameter in model.backbone.named_parameters():
        layer = re.search(r"\blayers?\.(\d+)\.", name)
        if frozen_layers and (int(layer[1]) < frozen_layers if layer else "embed" in name):
            parameter.requires_grad_(False)
    return [parameter for parameter in model.parameters() if parameter.requires_grad]


def _arithmetic(device: torch.device, precision: str) -> AbstractContextManager:
    bf16 = precision == "bf16-autocast" or (precision == "auto" and has_bf16(device))
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=bf16)


def _check(judge: CrossEncoderJudge, few: GradedPairs, step: int) -> dict:
    judge.model.eval()
    measured = point_agreement(grade_pairs(judge, few))
    judge.model.train()
    return {"step": step, **measured}


def _show(bar: Progress, pairs: int, loss: Tensor, history: list[dict]) -> None:
    last = history[-1]["auc"] if history else None
    bar.advance(pairs, f"loss {loss.item():.3f}" + (f", held-out AUC {last:.3f}" if last is not None else ""))


def _counts(train: GradedPairs) -> dict:
    return {
        "pairs": len(train),
        "queries": len(np.unique(train.query_numbers)),
        "grades": {str(grade): count for grade, count in sorted(Counter(train.grades.tolist()).items())},
        "sources": dict(sorted(Counter(train.sources.tolist()).items())),
        "data": [dataset.root.name for dataset in train.datasets],
    }
