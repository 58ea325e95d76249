"""The index that a moving policy retrieves from: when it is embedded anew, and what a checkpoint must keep of it.

An index is as old as the last time that it was embedded, and what is retrieved depends on that. A resumed run must see
the one that the unbroken run sees: at a step that embeds it anew there is nothing to keep, at any other the vectors
themselves are kept, since the weights that gave them are gone.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from taoemb.retrieval.bank import ItemBank
from taoemb.training.towers import Towers

_CHUNK = 65_536  # rows that ranks send to each other at once


class Index:
    """A bank of item vectors and the rule by which it follows the towers."""

    def __init__(
        self, bank: ItemBank, towers: Towers, *, moves: bool, refresh: int, checkpoint_every: int, steps: int
    ) -> None:
        """`moves`: whether training moves the items at all; a frozen bank never ages. `steps`: of the whole run."""
        self.bank, self._towers, self._moves = bank, towers, moves
        self._refresh, self._checkpoint_every, self._steps = refresh, checkpoint_every, steps
        self._next = 0  # the step that comes next, or that is under way

    def is_due(self, step: int) -> bool:
        """Every `refresh` steps, and at checkpoints, so that these need not keep the vectors."""
        return step > 0 and (step % self._refresh == 0 or step % self._checkpoint_every == 0)

    def begin(self, step: int) -> bool:
        """Embed the catalogue with the current weights where it is time (all ranks call); says whether it was."""
        self._next = step
        due = self.is_due(step)
        if due:
            self._towers.refresh()
        return due

    def end(self) -> None:
        """The step is done: the encoder has taken an update, if it moves items."""
        self._next += 1
        if self._moves:
            self.bank.tick()

    def state(self) -> dict[str, Any]:
        """For a checkpoint (all ranks call): the age, and all vectors in row order unless nothing reads them again."""
        if not self._moves or self.is_due(self._next) or self._next >= self._steps:
            return {"vectors_ND": None, "age": self.bank.age}
        chunks = np.array_split(np.arange(self.bank.n_items), -(-self.bank.n_items // _CHUNK))
        vectors_ND = torch.cat([self.bank.vectors(torch.from_numpy(rows)).cpu() for rows in chunks])
        return {"vectors_ND": vectors_ND, "age": self.bank.age}

    def load_state(self, state: Mapping[str, Any], step: int) -> None:
        """Go back to a checkpoint made before `step`, by any number of ranks."""
        self._next, vectors_ND = step, state["vectors_ND"]
        if vectors_ND is not None:
            self.bank.fill(lambda rows: vectors_ND[torch.from_numpy(rows)], show=False)
        self.bank.age = state["age"]
