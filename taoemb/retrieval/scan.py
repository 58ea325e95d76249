"""The fast pass over a bank: scores that are nearly right, and a bound on how wrong they may be.

In float32, or, on a CPU that multiplies bf16, with a copy of the vectors in bf16: that is several times faster and the
bound is wider. Whoever takes exact answers from it re-scores what it proposes (:mod:`taoemb.retrieval.bank`).
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from taoemb.encoder.hardware import has_bf16

SCAN_ELEMENTS = 1 << 24  # scores held at once: 64 MiB of float32
ROUGH_ROWS = 1 << 16  # rows from which a copy in bf16 pays
_MATMUL_ROUNDING = {"highest": 0.0, "high": 2.0**-10, "medium": 2.0**-7}  # of both inputs together
_BF16_ROUNDING = 2.0**-8


@dataclass(frozen=True)
class Scan:
    """What the fast pass over stored vectors (N, D) needs; valid until one of them changes."""

    vectors_ND: Tensor
    """The stored vectors, or their copy in bf16."""
    rough: bool
    largest_norm: float
    """Of the stored vectors."""
    largest_loss: float
    """Greatest distance of a stored vector from its copy."""

    def spare(self) -> int:
        """How many candidates beyond k make it unlikely that the bound is reached."""
        return 128 if self.rough else 32

    def scores(self, queries_QD: Tensor) -> Iterator[tuple[int, Tensor]]:
        """(first row, scores (Q, C)) of consecutive parts of the rows: bf16 when rough, else float32."""
        if self.rough:
            queries_QD = queries_QD.bfloat16()
        as_stored = self.vectors_ND.dtype == queries_QD.dtype
        width = max(len(queries_QD), 1 if as_stored else self.vectors_ND.shape[1])
        for start, part_CD in chunks(self.vectors_ND, width):
            yield start, queries_QD @ (part_CD if as_stored else part_CD.float()).T

    def error(self, queries_QD: Tensor, score_Q: Tensor) -> Tensor:
        """How far a score near `score_Q` may lie from the exact one, shape (Q,).

        Float32: (D·u + input rounding)·|q|·max|v|. Rough: what rounding took from the vectors and from the query, the
        sum in float32, and the rounding of the result.
        """
        norm_Q, sums = queries_QD.norm(dim=1), (queries_QD.shape[1] + 2) * 2.0**-24
        if not self.rough:
            relative = sums + _MATMUL_ROUNDING[torch.get_float32_matmul_precision()]
            return relative * self.largest_norm * norm_Q
        copy_norm = self.largest_norm + self.largest_loss
        query_loss_Q = (queries_QD - queries_QD.bfloat16().float()).norm(dim=1)
        inputs_Q = (1 + 4 * sums) * (norm_Q * self.largest_loss + query_loss_Q * copy_norm)
        return inputs_Q + 2 * sums * norm_Q * copy_norm + _BF16_ROUNDING * (score_Q.abs() + inputs_Q)


def chunks(vectors_ND: Tensor, width: int, elements: int | None = None) -> Iterator[tuple[int, Tensor]]:
    """Consecutive parts of the rows as (first row, rows), of at most `elements` (SCAN_ELEMENTS) / `width` rows."""
    size = max(1, (elements or SCAN_ELEMENTS) // max(width, 1))
    for start in range(0, len(vectors_ND), size):
        yield start, vectors_ND[start : start + size]


def prepare(stored_ND: Tensor) -> Scan:
    """Norms, and the copy in bf16 where it pays: many rows, on a CPU that multiplies bf16."""
    on_cpu = stored_ND.device.type == "cpu"
    rough = on_cpu and stored_ND.dtype != torch.float16 and len(stored_ND) >= ROUGH_ROWS and has_bf16(stored_ND.device)
    copied = rough and stored_ND.dtype != torch.bfloat16
    vectors_ND = torch.empty_like(stored_ND, dtype=torch.bfloat16) if copied else stored_ND
    norm = loss = torch.zeros((), device=stored_ND.device)
    for start, part in chunks(stored_ND, stored_ND.shape[1]):
        norm = torch.maximum(norm, part.float().norm(dim=1).amax())
        if copied:
            copy = vectors_ND[start : start + len(part)].copy_(part)
            loss = torch.maximum(loss, (part - copy.float()).norm(dim=1).amax())
    return Scan(vectors_ND, rough, float(norm), float(loss))
