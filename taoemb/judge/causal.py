"""A causal LM as a judge: one batched prefill, and of the last position the four label tokens and what beats them."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import jinja2
import numpy as np
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from taoemb.config import JudgeServerConfig
from taoemb.encoder.batching import bucket_by_tokens
from taoemb.errors import InputError
from taoemb.judge.prefix_cache import PrefixCache
from taoemb.judge.prompt import LABELS
from taoemb.judge.protocol import FirstTokens, Message

_NOT_IDENTITY = ("*.md", ".git*", "*.gguf", "*.msgpack", "*.h5", "*.onnx")


class CausalBackend:
    """Judges by any Hugging Face causal LM; the chat template is used when the tokenizer has one."""

    kind = "causal-lm"

    def __init__(
        self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, digest: str, tokens_per_batch: int = 16_384
    ) -> None:
        self._model, self._tokenizer = model.eval(), tokenizer
        self.digest = digest
        self._tokens_per_batch = tokens_per_batch
        longest = model.config.get_text_config().to_dict().get("max_position_embeddings") or tokens_per_batch
        self.max_tokens = min(longest, tokenizer.model_max_length, tokens_per_batch)
        labels = label_ids(tokenizer)
        self._label_ids = [torch.tensor(ids, device=model.device) for ids in labels]
        self._labels = frozenset(token for ids in labels for token in ids)
        self._prefix = PrefixCache(model)

    @classmethod
    def load(cls, model: str, device: str, config: JudgeServerConfig) -> "CausalBackend":
        """Load a model folder or hub id. Raises InputError when it is no causal LM that can answer a label."""
        precision = config.precision if config.precision != "auto" else "fp32" if device == "cpu" else "bf16"
        dtype = torch.float32 if precision == "fp32" else torch.bfloat16
        path = _folder(model)
        try:
            tokenizer = AutoTokenizer.from_pretrained(path)
            loaded = AutoModelForCausalLM.from_pretrained(path, dtype=dtype).to(device)
        except (OSError, ValueError, KeyError) as error:
            raise InputError(f"--model {model}: not a causal LM: {' '.join(str(error).split())[:200]}") from None
        return cls(loaded, tokenizer, digest_of(path, precision), config.tokens_per_batch)

    def prepare(self, messages: Sequence[Message]) -> list[int]:
        if self._tokenizer.chat_template is None:
            ids = self._tokenizer("\n\n".join(message["content"] for message in messages))["input_ids"]
        else:
            ids = self._tokenizer(self._chat(messages), add_special_tokens=False)["input_ids"]
        if not 0 < len(ids) <= self.max_tokens:
            raise InputError(f"the prompt has {len(ids)} tokens; this judge reads 1 to {self.max_tokens}")
        return ids

    def prompt_tokens(self, prepared: list[int]) -> int:
        return len(prepared)

    def label_logprobs(self, prepared: Sequence[list[int]]) -> np.ndarray:
        """Log-probabilities (P, 4) of the labels under the softmax over the whole vocabulary, float32."""
        return self.first_tokens(prepared).labels_P4

    @torch.inference_mode()
    def first_tokens(self, prepared: Sequence[list[int]]) -> FirstTokens:
        shared, cache = self._prefix.shared(prepared)
        logprobs_P4 = np.empty((len(prepared), len(LABELS)), dtype=np.float32)
        others: list[tuple[str, float] | None] = [None] * len(prepared)
        for rows in bucket_by_tokens([len(ids) - shared for ids in prepared], self._tokens_per_batch):
            logits_BV = self._last_logits([prepared[row][shared:] for row in rows], shared, cache)
            labels_B4 = torch.stack([logits_BV[:, ids].logsumexp(-1) for ids in self._label_ids], dim=-1)
            whole_B1 = logits_BV.logsumexp(-1, keepdim=True)
            logprobs_P4[rows] = (labels_B4 - whole_B1).cpu().numpy()
            best_B1, ids_B1 = logits_BV.max(-1, keepdim=True)
            best = zip(ids_B1[:, 0].tolist(), (best_B1 - whole_B1)[:, 0].tolist(), strict=True)
            for row, (token, logprob) in zip(rows, best, strict=True):
                others[row] = None if token in self._labels else (self._tokenizer.decode([token]), logprob)
        return FirstTokens(logprobs_P4, others)

    def _last_logits(self, suffixes: Sequence[list[int]], shared: int, cache: object) -> Tensor:
        """Logits (B, V), float32, after the last token; suffixes are padded on the left, behind the shared prefix."""
        longest = max(map(len, suffixes))
        ids_BT = torch.zeros(len(suffixes), longest, dtype=torch.long)
        mask_BT = torch.ones(len(suffixes), shared + longest, dtype=torch.long)
        for row, ids in enumerate(suffixes):
            ids_BT[row, longest - len(ids) :] = torch.tensor(ids)
            mask_BT[row, shared : shared + longest - len(ids)] = 0
        positions_BT = (mask_BT.cumsum(-1) - 1).clamp_min(0)[:, shared:]
        device = self._model.device
        output = self._model(
            input_ids=ids_BT.to(device),
            attention_mask=mask_BT.to(device),
            position_ids=positions_BT.to(device),
            past_key_values=cache,
            use_cache=cache is not None,
            logits_to_keep=1,
        )
        return output.logits[:, -1].float()

    def _chat(self, messages: Sequence[Message]) -> str:
        try:
            return self._render(messages)
        except jinja2.TemplateError as error:
            if messages[0]["role"] != "system" or len(messages) < 2:
                raise InputError(f"the model's chat template refuses the messages: {error}") from None
        merged = {"role": messages[1]["role"], "content": f"{messages[0]['content']}\n\n{messages[1]['content']}"}
        return self._chat([merged, *messages[2:]])  # some templates know no system role

    def _render(self, messages: Sequence[Message]) -> str:
        return self._tokenizer.apply_chat_template(
            list(messages), tokenize=False, add_generation_prompt=True, enable_thinking=False
        )


def label_ids(tokenizer: PreTrainedTokenizerBase) -> list[list[int]]:
    """Token ids of each label "1".."4" as the first token of an answer: with and without a space before it.

    Raises InputError when the tokenizer has no token of its own for a label.
    """
    found = []
    for label in LABELS:
        ids: set[int] = set()
        for text in (label, f" {label}"):
            tokens = tokenizer.encode(text, add_special_tokens=False)
            if tokens and tokenizer.decode(tokens[-1:]).strip() == label:
                ids.add(tokens[-1])
        found.append(sorted(ids))
    distinct = {token for ids in found for token in ids}
    if not all(found) or len(distinct) != sum(map(len, found)):
        raise InputError("the model's tokenizer has no single tokens for the labels 1 to 4: it can't serve as a judge")
    return found


def digest_of(path: Path, precision: str) -> str:
    """sha256 (hex) over the bytes of the model folder's files and the arithmetic."""
    skipped = {file for pattern in _NOT_IDENTITY for file in path.glob(pattern)}
    digest = hashlib.sha256(f"causal-lm {precision}".encode())
    for file in sorted(path.iterdir()):
        if file.is_file() and file not in skipped:
            with file.open("rb") as handle:
                digest.update(f"{file.name} {hashlib.file_digest(handle, 'sha256').hexdigest()}\n".encode())
    return digest.hexdigest()


def _folder(model: str) -> Path:
    if Path(model).is_dir():
        return Path(model)
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError

    try:
        return Path(snapshot_download(model, ignore_patterns=list(_NOT_IDENTITY)))
    except HFValidationError:
        raise InputError(f"--model {model}: no such folder") from None
    except OSError as error:  # the base of the hub's errors
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"--model {model}: no such folder, and the hub does not give it: {reason}") from None
