"""Keys and values of the prompt's shared beginning (chat format and rubric), computed once and read by every pair.

The rubric is most of a prompt; with it cached, one forward pass only sees query and item.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel
from transformers.cache_utils import DynamicLayer

MIN_PREFIX = 32  # tokens below which sharing is not worth a second pass


class _SharedLayer(DynamicLayer):
    """One layer's prefix, the same for every row; keeps nothing of what a pass adds."""

    def __init__(self, keys: Tensor, values: Tensor) -> None:
        super().__init__()
        self.lazy_initialization(keys, values)
        self.keys, self.values = keys, values

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: object, **kwargs: object
    ) -> tuple[Tensor, Tensor]:
        return _behind(self.keys, key_states), _behind(self.values, value_states)

    def cut(self, length: int) -> "_SharedLayer":
        """Its first `length` tokens."""
        return _SharedLayer(self.keys[..., :length, :], self.values[..., :length, :])


class PrefixCache:
    """Holds the longest beginning that the prompts seen lately share."""

    def __init__(self, model: PreTrainedModel) -> None:
        self._model = model
        # Sliding windows and recurrent states depend on what follows; only plain attention can share a prefix.
        layers = DynamicCache(config=model.config).layers
        self._usable = bool(layers) and all(type(layer) is DynamicLayer for layer in layers)
        self._tokens: list[int] = []
        self._layers: list[_SharedLayer] = []

    def shared(self, prompts: Sequence[list[int]]) -> tuple[int, DynamicCache | None]:
        """How many first tokens of all `prompts` are cached (each prompt has more), and the cache to pass on."""
        if not self._usable or not prompts:
            return 0, None
        common = _common([min(prompts), max(prompts)])
        common = common[: min(map(len, prompts)) - 1]
        known = _common([common, self._tokens])
        if len(known) >= MIN_PREFIX:
            self._cut(len(known))
        elif len(common) >= MIN_PREFIX and len(prompts) > 1:
            self._fill(common)
        else:
            return 0, None
        cache = DynamicCache()
        cache.layers = list(self._layers)
        return len(self._tokens), cache

    def _fill(self, tokens: Sequence[int]) -> None:
        ids = torch.tensor([tokens], device=self._model.device)
        cache = DynamicCache(config=self._model.config)
        self._model(input_ids=ids, past_key_values=cache, use_cache=True, logits_to_keep=1)
        self._tokens = list(tokens)
        self._layers = [_SharedLayer(layer.keys, layer.values) for layer in cache.layers]

    def _cut(self, length: int) -> None:
        if length < len(self._tokens):
            self._tokens = self._tokens[:length]
            self._layers = [layer.cut(length) for layer in self._layers]


def _behind(prefix: Tensor, states: Tensor) -> Tensor:
    return torch.cat([prefix.expand(states.shape[0], -1, -1, -1), states], dim=-2)


def _common(sequences: Sequence[Sequence[int]]) -> list[int]:
    shared: list[int] = []
    for tokens in zip(*sequences, strict=False):
        if any(token != tokens[0] for token in tokens):
            break
        shared.append(tokens[0])
    return shared
