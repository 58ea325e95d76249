"""Exact Top-K over the embeddings of a whole catalogue, rows sharded over ranks, for use inside a training loop.

Approximate search would hide from the policy what it has just learned to find, and answers that depend on the number
of ranks would make runs incomparable. So a score here is one number whatever the shapes of the matrix products: the
dot product of the stored vectors summed in float64, rounded to float32. A fast pass (:mod:`taoemb.retrieval.scan`)
proposes candidates, an error bound says for which queries the proposal could be wrong, and for those every row that
comes near enough is scored again.
"""

import re
import uuid
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from taoemb.errors import InputError, TaoembError
from taoemb.progress import progress
from taoemb.retrieval import scan
from taoemb.retrieval.scan import Scan
from taoemb.storage import share_file

_SHARD_FILE = re.compile(r"bank-(\d{5})-of-(\d{5})\.safetensors")


class ItemBank:
    """Embeddings of all `n_items` items; this rank holds the rows of `shard` (contiguous, equal up to one row).

    With `world_size` > 1 the methods that say "collective" must be called by every rank of the default process group
    together, with tensors of equal shapes; each rank gets the answers to its own rows.
    """

    def __init__(
        self,
        n_items: int,
        dimension: int,
        *,
        rank: int = 0,
        world_size: int = 1,
        dtype: torch.dtype = torch.float32,
        device: str | torch.device = "cpu",
    ) -> None:
        if n_items < 1 or n_items >= 2**32:
            raise InputError(f"a bank holds 1 to 2^32 - 1 items, not {n_items:,}")
        self.n_items, self.dimension, self.rank, self.world_size = n_items, dimension, rank, world_size
        self.shard = slice(rank * n_items // world_size, (rank + 1) * n_items // world_size)
        self.age = 0  # steps since the last fill
        self._vectors = torch.zeros(self.shard.stop - self.shard.start, dimension, dtype=dtype, device=device)
        self._filled = False
        self._scan: Scan | None = None  # made at the first search after a change

    @property
    def device(self) -> torch.device:
        """Where the rows are kept and scored."""
        return self._vectors.device

    def tick(self) -> None:
        """Say that the encoder has taken one more step since the last fill."""
        self.age += 1

    @torch.no_grad()
    def fill(self, embed: Callable[[np.ndarray], Tensor], batch: int = 4096, show: bool = True) -> None:
        """Embed every row of this rank's shard with `embed(rows int64 (n,)) -> (n, D)`; the age becomes 0."""
        rows = np.arange(self.shard.start, self.shard.stop, dtype=np.int64)
        with progress("embed catalogue", len(rows), show=show and self.rank == 0) as bar:
            for start in range(0, len(rows), batch):
                part = rows[start : start + batch]
                self._write(torch.arange(start, start + len(part)), embed(part))
                bar.advance(len(part))
        self._filled, self.age = True, 0

    @torch.no_grad()
    def set_rows(self, rows: Tensor, vectors: Tensor) -> None:
        """Replace `vectors` (..., D) at `rows` (...), whoever owns them; collective. The age stays."""
        rows, vectors = self._gather(rows.reshape(-1)), self._gather(vectors.detach().reshape(-1, self.dimension))
        local = rows - self.shard.start
        mine = (local >= 0) & (local < len(self._vectors))
        last = {row: at for at, row in enumerate(local.tolist()) if mine[at]}  # a row given twice: the last counts
        at = torch.tensor(list(last.values()), dtype=torch.long, device=self.device)
        self._write(local[at], vectors[at])

    @torch.no_grad()
    def topk(self, queries_QD: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """The exact `k` best rows of the whole catalogue: scores (Q, k) float32 and rows (Q, k) int64; collective.

        Scores are dot products (cosines for normalised vectors), best first; of equal scores the lower row comes
        first. Both are the same for any number of ranks. Raises InputError when k exceeds the catalogue.
        """
        if not 1 <= k <= self.n_items:
            raise InputError(f"k={k}: the catalogue has {self.n_items:,} items; choose k from 1 to that")
        if not self._filled:
            raise TaoembError("the embedding bank is empty: fill or load it before searching")
        count = len(queries_QD)
        queries = self._gather(queries_QD.detach().float())
        if not bool(torch.isfinite(queries).all()):
            raise TaoembError("a query vector is not finite: the encoder has diverged; lower the learning rate")
        with torch.autocast(self.device.type, enabled=False):
            keys = self._shard_keys(queries, k)
        if self.world_size > 1:
            every = [torch.empty_like(keys) for _ in range(self.world_size)]
            dist.all_gather(every, keys)
            keys = torch.cat([part[self.rank * count : (self.rank + 1) * count] for part in every], dim=1)
            keys = keys.topk(k, dim=1).values
        return _read_keys(keys)

    @torch.no_grad()
    def vectors(self, rows: Tensor) -> Tensor:
        """The stored vectors (..., D) float32 of `rows` (...), whoever owns them; collective."""
        count = rows.numel()
        local = self._gather(rows.reshape(-1)) - self.shard.start
        mine = (local >= 0) & (local < len(self._vectors))
        found = torch.zeros(len(local), self.dimension, dtype=torch.float32, device=self.device)
        found[mine] = self._vectors[local[mine]].float()
        if self.world_size > 1:
            dist.all_reduce(found)
            found = found[self.rank * count : (self.rank + 1) * count]
        return found.reshape(*rows.shape, self.dimension)

    def save(self, folder: Path) -> None:
        """Write this rank's shard to `folder` (a file per rank; the file appears whole or not at all)."""
        from safetensors.torch import save_file

        folder.mkdir(parents=True, exist_ok=True)
        file = folder / f"bank-{self.rank:05d}-of-{self.world_size:05d}.safetensors"
        notes = {"n_items": self.n_items, "start": self.shard.start, "age": self.age}
        partial = file.with_suffix(f".{uuid.uuid4().hex[:8]}.partial")  # another run may keep the same bank
        try:
            save_file({"vectors": self._vectors.cpu()}, partial, {name: str(value) for name, value in notes.items()})
            share_file(partial)
            partial.replace(file)
        finally:
            partial.unlink(missing_ok=True)

    def load(self, folder: Path) -> None:
        """Read this rank's shard back, also from a folder that another number of ranks has saved.

        Raises InputError when the folder holds another catalogue's or only a part of the bank.
        """
        from safetensors import safe_open

        shards = [file for file in sorted(folder.glob("bank-*.safetensors")) if _SHARD_FILE.fullmatch(file.name)]
        found = 0
        for file in shards:
            with safe_open(file, framework="pt") as opened:
                notes, stored = opened.metadata(), opened.get_slice("vectors")
                rows, dimension = stored.get_shape()
                if (int(notes["n_items"]), dimension) != (self.n_items, self.dimension):
                    raise InputError(
                        f"{file}: a bank of {int(notes['n_items']):,} items x {dimension}, "
                        f"expected {self.n_items:,} x {self.dimension}"
                    )
                first = int(notes["start"])
                low, high = max(first, self.shard.start), min(first + rows, self.shard.stop)
                if low < high:
                    part = torch.arange(low - self.shard.start, high - self.shard.start)
                    self._write(part, stored[low - first : high - first])
                    found += high - low
                self.age = int(notes["age"])
        if found != len(self._vectors):
            raise InputError(f"{folder}: holds {found:,} of this rank's {len(self._vectors):,} bank rows")
        self._filled = True

    def _write(self, local: Tensor, vectors: Tensor) -> None:
        if vectors.shape != (len(local), self.dimension):
            raise TaoembError(
                f"expected {len(local)} vectors of {self.dimension} dimensions, got shape {tuple(vectors.shape)}"
            )
        sound = torch.isfinite(vectors).all(dim=1)
        if not bool(sound.all()):
            row = self.shard.start + int(local[int((~sound).nonzero()[0])])
            raise TaoembError(f"the embedding of item row {row} is not finite: the encoder has diverged")
        self._vectors[local.to(self.device)] = vectors.detach().to(self._vectors)
        self._scan = None

    def _gather(self, tensor: Tensor) -> Tensor:
        """`tensor` of every rank, one after the other."""
        tensor = tensor.to(self.device).contiguous()
        if self.world_size == 1:
            return tensor
        every = [torch.empty_like(tensor) for _ in range(self.world_size)]
        dist.all_gather(every, tensor)
        return torch.cat(every)

    def _shard_keys(self, queries_QD: Tensor, k: int) -> Tensor:
        """Keys (Q, k) of the shard's best rows, descending; short shards are padded with the lowest key."""
        self._scan = self._scan or scan.prepare(self._vectors)
        wide = min(k + self._scan.spare(), len(self._vectors))
        proposed_QW, rows_QW = _propose(self._scan, queries_QD, wide)
        keys_QW = self._exact_keys(queries_QD, rows_QW)
        keys_QK = keys_QW.topk(min(k, wide), dim=1).values
        if wide < len(self._vectors):
            kth_Q, error_Q = _read_keys(keys_QK[:, -1])[0], self._scan.error(queries_QD, proposed_QW.amin(dim=1))
            unsure = kth_Q <= proposed_QW.amin(dim=1) + error_Q
            if bool(unsure.any()):
                keys_QK[unsure] = self._scan_exactly(self._scan, queries_QD[unsure], kth_Q[unsure], k)
        missing = torch.full((len(queries_QD), k - keys_QK.shape[1]), torch.iinfo(torch.int64).min, device=self.device)
        return torch.cat([keys_QK, missing], dim=1)

    def _exact_keys(self, queries_QD: Tensor, rows_QW: Tensor) -> Tensor:
        keys_QW = torch.empty_like(rows_QW)
        size = max(1, scan.SCAN_ELEMENTS // 4 // max(rows_QW.shape[1] * self.dimension, 1))
        for start in range(0, len(rows_QW), size):
            part = slice(start, start + size)
            products = self._vectors[rows_QW[part]].double() * queries_QD[part, None].double()
            keys_QW[part] = _make_keys(products.sum(dim=2), rows_QW[part] + self.shard.start)
        return keys_QW

    def _scan_exactly(self, fast: Scan, queries_QD: Tensor, kth_Q: Tensor, k: int) -> Tensor:
        """Keys (Q, k) from all rows whose fast score could belong to an exact one of at least `kth_Q`."""
        keys = torch.empty(len(queries_QD), 0, dtype=torch.int64, device=self.device)
        least_Q1 = (kth_Q - fast.error(queries_QD, kth_Q))[:, None]
        for start, scores_QC in fast.scores(queries_QD):
            (near,) = (scores_QC >= least_Q1).any(dim=0).nonzero(as_tuple=True)
            for _, local in scan.chunks(near + start, max(len(queries_QD), self.dimension), scan.SCAN_ELEMENTS // 2):
                scores = queries_QD.double() @ self._vectors[local].double().T
                keys = torch.cat([keys, _make_keys(scores, local + self.shard.start)], dim=1)
                keys = keys.topk(min(k, keys.shape[1]), dim=1).values
        return keys


def _propose(fast: Scan, queries_QD: Tensor, wide: int) -> tuple[Tensor, Tensor]:
    """The `wide` best local rows by the fast pass: scores float32 and rows, each (Q, wide)."""
    scores = torch.empty(len(queries_QD), 0, device=queries_QD.device)
    rows = torch.empty(len(queries_QD), 0, dtype=torch.int64, device=queries_QD.device)
    for start, scores_QC in fast.scores(queries_QD):
        best, at = scores_QC.topk(min(wide, scores_QC.shape[1]), dim=1)
        scores, rows = torch.cat([scores, best.float()], dim=1), torch.cat([rows, at + start], dim=1)
        if scores.shape[1] > wide:
            scores, at = scores.topk(wide, dim=1)
            rows = rows.gather(1, at)
    return scores, rows


def _make_keys(scores: Tensor, rows: Tensor) -> Tensor:
    """One int64 a (score, row): greater for a greater score, then for a lower row. Both survive in it.

    The upper half is the float32 score's bits in an order that compares like the score, the lower half 2^32 - 1 - row.
    """
    bits = (scores.float() + 0.0).view(torch.int32)  # + 0.0 makes -0.0 the same score as 0.0
    ordered = torch.where(bits < 0, bits ^ 0x7FFFFFFF, bits)
    return (ordered.long() << 32) + (0xFFFFFFFF - rows)


def _read_keys(keys: Tensor) -> tuple[Tensor, Tensor]:
    """Scores (float32) and rows (int64) of :func:`_make_keys`."""
    ordered = (keys >> 32).to(torch.int32)
    bits = torch.where(ordered < 0, ordered ^ 0x7FFFFFFF, ordered)
    return bits.view(torch.float32), 0xFFFFFFFF - (keys & 0xFFFFFFFF)
