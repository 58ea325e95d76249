"""A small judge that reads query and item together: where no LLM can run, this grades.

A transformer encodes the pair (query, item text); a head on its pooled output gives the probabilities of the grades.
The folder on disk holds the transformer's config, one safetensors file, the tokenizer, and judge.json with the digest.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoModel,
    AutoTokenizer,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from taoemb.encoder.batching import bucket_by_tokens
from taoemb.encoder.hardware import has_bf16
from taoemb.encoder.model import Encoder, EncoderSpec, backbone_width
from taoemb.errors import InputError
from taoemb.judge.view import focus
from taoemb.judge.zero_shot import ZeroShot, ZeroShotSpec

GRADES = (1, 2, 3, 4)
KIND = "cross-encoder"
TOKENS_PER_BATCH = 8192
CHARACTERS_PER_TOKEN = 3.5  # of titles and attributes, with their numbers and codes
WEIGHTS = "model.safetensors"
MANIFEST = "judge.json"
FROZEN = "zero_shot."  # prefix of the base model's own weights (bf16), beside the trained ones
COUNTED = (WEIGHTS, "config.json", "tokenizer.json", "tokenizer_config.json")  # files under the digest
FILES = (MANIFEST, *COUNTED, "special_tokens_map.json", "vocab.txt", "chat_template.jinja")

Head = Literal["softmax", "ordinal"]
Precision = Literal["auto", "fp32", "bf16"]


@dataclass(frozen=True)
class CrossEncoderSpec:
    """What decides a score beside the weights and the tokenizer; part of the digest."""

    head: Head = "softmax"
    max_tokens: int = 64
    """Of query and item together."""
    item_tokens: int = 256
    """Budget of the item texts that it was trained on."""
    zero_shot: ZeroShotSpec | None = None
    """How the base model's own cosine counts; None: not at all."""


class CrossEncoder(nn.Module):
    """Transformer and grade head; mean pooling over the real tokens."""

    def __init__(self, backbone: PreTrainedModel, head: Head) -> None:
        super().__init__()
        self.backbone = backbone
        self.kind = head
        self.head = nn.Linear(backbone.config.hidden_size, 4 if head == "softmax" else 1)
        if head == "ordinal":
            self.first_cut = nn.Parameter(torch.tensor(-1.0))
            self.steps = nn.Parameter(torch.full((2,), 0.5))

    def forward(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """Log-probabilities (P, 4) of the grades 1 to 4, float32."""
        hidden_PTD = self.backbone(**inputs).last_hidden_state.float()
        mask_PT1 = inputs["attention_mask"].unsqueeze(-1).float()
        pooled_PD = (hidden_PTD * mask_PT1).sum(1) / mask_PT1.sum(1)
        logits = self.head(pooled_PD).float()
        if self.kind == "softmax":
            return logits.log_softmax(-1)
        return ordinal_log_probs(logits, self.first_cut, self.steps)


def ordinal_log_probs(score_P1: Tensor, first_cut: Tensor, steps_2: Tensor) -> Tensor:
    """Log-probabilities (P, 4) of the grades from one score: P(grade > k) = sigmoid(score - cut_k), rising cuts."""
    rises_2 = nn.functional.softplus(steps_2).cumsum(0)
    cuts_3 = torch.cat([first_cut.reshape(1), first_cut + rises_2])
    above_P3 = torch.sigmoid(score_P1 - cuts_3)
    ends = torch.ones_like(score_P1), torch.zeros_like(score_P1)
    above_P5 = torch.cat([ends[0], above_P3, ends[1]], dim=-1)
    return (above_P5[:, :-1] - above_P5[:, 1:]).clamp_min(1e-7).log()


def lean(probs_P4: np.ndarray, evidence_P: np.ndarray) -> np.ndarray:
    """Grade probabilities after more evidence: the log-odds of grade 4 against grade 1 move by `evidence_P`."""
    tilted_P4 = np.log(np.maximum(probs_P4, 1e-9)) + evidence_P[:, None] * (np.arange(4, dtype=np.float32) / 3)
    weights_P4 = np.exp(tilted_P4 - tilted_P4.max(1, keepdims=True))
    return weights_P4 / weights_P4.sum(1, keepdims=True)


class CrossEncoderJudge:
    """A trained judge: `score` grades pairs. Made by :meth:`load` or by training."""

    def __init__(
        self,
        model: CrossEncoder,
        tokenizer: PreTrainedTokenizerBase,
        spec: CrossEncoderSpec,
        manifest: Mapping[str, Any],
        zero_shot: ZeroShot | None = None,
    ) -> None:
        self.model, self.tokenizer, self.spec = model.eval(), tokenizer, spec
        self.zero_shot = zero_shot
        self.manifest = manifest  # judge.json; empty before the judge is saved
        self.device = next(model.parameters()).device

    @property
    def digest(self) -> str:
        """Digest over weights, tokenizer and settings (hex); the judge's name in every cache."""
        return self.manifest["digest"]

    @classmethod
    def load(cls, path: Path | str, device: str = "cpu", precision: Precision = "auto") -> "CrossEncoderJudge":
        """Read a judge folder; `precision` "auto" is bf16 where hardware is fast in it, for the transformer alone.

        Raises InputError when it isn't a judge folder, or when a file changed since it was written.
        """
        path = Path(path)
        manifest = read_manifest(path)
        spec = _spec(manifest["spec"], path)
        if digest_of(path, spec) != manifest["digest"]:
            raise InputError(f"{path}: the files do not match the digest in judge.json; train or copy the judge again")
        try:
            config, tokenizer = AutoConfig.from_pretrained(path), AutoTokenizer.from_pretrained(path)
            weights = load_file(path / WEIGHTS)
            frozen = {name: weights.pop(name) for name in list(weights) if name.startswith(FROZEN)}
            model = CrossEncoder(AutoModel.from_config(config), spec.head)
            model.load_state_dict(weights)
            zero_shot = None if spec.zero_shot is None else _zero_shot(spec.zero_shot, config, tokenizer, frozen)
        except (SafetensorError, RuntimeError, OSError, ValueError) as error:
            raise InputError(f"{path}: cannot load the judge: {' '.join(str(error).split())[:200]}") from None
        judge = cls(model.to(device), tokenizer, spec, manifest, zero_shot)
        judge.use(precision)
        return judge

    def use(self, precision: Precision) -> None:
        """Set the transformers' arithmetic for good: training is over. The grade head stays float32."""
        if precision == "bf16" or (precision == "auto" and has_bf16(self.device)):
            self.model.backbone.to(torch.bfloat16)
            if self.zero_shot is not None:
                self.zero_shot.encoder.precision = "bf16"

    @torch.inference_mode()
    def score(self, queries: Sequence[str], item_texts: Sequence[str]) -> np.ndarray:
        """Probabilities (P, 4) of the grades 1, 2, 3, 4 in that order, float32; rows sum to 1.

        `item_texts` are texts of `judge.prompt.item_text`. A pair's result doesn't depend on what stands beside it
        (up to the arithmetic of padded batches).
        """
        probs_P4 = np.empty((len(queries), len(GRADES)), dtype=np.float32)
        pairs = self.tokenize(queries, item_texts)
        for rows in bucket_by_tokens([len(ids) for ids in pairs["input_ids"]], TOKENS_PER_BATCH):
            probs_P4[rows] = self.model(self.collate(pairs, rows)).exp().float().cpu().numpy()
        spec = self.spec.zero_shot
        if spec is None or self.zero_shot is None:
            return probs_P4
        return lean(probs_P4, spec.weight * (self.zero_shot.cosines(queries, item_texts) - spec.neutral))

    def tokenize(self, queries: Sequence[str], item_texts: Sequence[str]) -> dict[str, list[list[int]]]:
        """Token ids of the pairs, unpadded, each at most `spec.max_tokens` long (the longer side gives way)."""
        if len(queries) != len(item_texts):
            raise ValueError(f"{len(queries)} queries for {len(item_texts)} items")
        if not queries:
            return {"input_ids": []}
        room = int(self.spec.max_tokens * CHARACTERS_PER_TOKEN)
        views = [focus(query, text, room) for query, text in zip(queries, item_texts, strict=True)]
        limit = {"truncation": "longest_first", "max_length": self.spec.max_tokens}
        return dict(self.tokenizer(list(queries), views, **limit))

    def collate(self, pairs: Mapping[str, list[list[int]]], rows: Sequence[int] | np.ndarray) -> dict[str, Tensor]:
        """The transformer's inputs for the pairs at `rows`, padded to the longest of them."""
        picked = {name: [values[row] for row in rows] for name, values in pairs.items()}
        return dict(self.tokenizer.pad(picked, padding=True, return_tensors="pt").to(self.device))

    def save(self, out: Path, extra: Mapping[str, Any]) -> dict:
        """Write the folder `out` (it must exist) and return the manifest written as judge.json, `extra` included."""
        tensors = dict(self.model.state_dict())
        if self.zero_shot is not None:
            frozen = self.zero_shot.encoder.backbone.state_dict()
            tensors |= {FROZEN + name: value.to(torch.bfloat16) for name, value in frozen.items()}
        save_file({name: value.detach().cpu().contiguous() for name, value in tensors.items()}, out / WEIGHTS)
        self.model.backbone.config.save_pretrained(out)
        self.tokenizer.save_pretrained(out)
        manifest = {"digest": digest_of(out, self.spec), "kind": KIND, "spec": asdict(self.spec), **extra}
        (out / MANIFEST).write_text(json.dumps(manifest, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        self.manifest = manifest
        return manifest


def read_manifest(path: Path) -> dict:
    """judge.json of a judge folder. Raises InputError when the folder is no cross-encoder judge."""
    file = path / MANIFEST
    try:
        manifest = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(
            f"{file}: {error.strerror or error}; a judge folder is written by taoemb judge train"
        ) from None
    except ValueError:
        raise InputError(f"{file}: not JSON; train or copy the judge again") from None
    if not isinstance(manifest, dict) or manifest.get("kind") != KIND or not {"digest", "spec"} <= manifest.keys():
        raise InputError(f"{file}: does not describe a {KIND} judge; train or copy the judge again")
    return manifest


def _spec(fields: Mapping[str, Any], path: Path) -> CrossEncoderSpec:
    try:
        zero_shot = fields["zero_shot"]
        return CrossEncoderSpec(**{**fields, "zero_shot": None if zero_shot is None else ZeroShotSpec(**zero_shot)})
    except (TypeError, KeyError):
        raise InputError(f"{path / MANIFEST}: its spec is of another version; train the judge again") from None


def _zero_shot(
    spec: ZeroShotSpec, config: PretrainedConfig, tokenizer: PreTrainedTokenizerBase, weights: Mapping[str, Tensor]
) -> ZeroShot:
    backbone = AutoModel.from_config(config)
    backbone.load_state_dict({name.removeprefix(FROZEN): value for name, value in weights.items()})
    encoder_spec = EncoderSpec(
        base_model="",
        pooling=spec.pooling,
        dimension=backbone_width(config),
        query_template=spec.query_template,
        max_query_tokens=spec.max_query_tokens,
        max_item_tokens=spec.max_item_tokens,
    )
    return ZeroShot(Encoder(encoder_spec, backbone, tokenizer), spec.item_prefix)


def digest_of(path: Path, spec: CrossEncoderSpec) -> str:
    """sha256 (hex) over the settings that decide a score and the bytes of weights, config and tokenizer."""
    hashes = {}
    for name in COUNTED:
        try:
            with (path / name).open("rb") as handle:
                hashes[name] = hashlib.file_digest(handle, "sha256").hexdigest()
        except OSError as error:
            raise InputError(f"{path / name}: {error.strerror or error}; train or copy the judge again") from None
    identity = {"kind": KIND, "spec": asdict(spec), "files": hashes}
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()
