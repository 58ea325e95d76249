"""What can be ranked: a release, a model as it comes (zero-shot), or BM25."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from taoemb.config import EncoderConfig
from taoemb.encoder.manifest import MANIFEST
from taoemb.errors import InputError

if TYPE_CHECKING:
    from taoemb.encoder.model import Encoder
    from taoemb.encoder.release import Release

BM25 = "bm25"


@dataclass(frozen=True)
class System:
    """One system to rank with; `release` is None for BM25 and for a model that is no release."""

    name: str
    kind: Literal["bm25", "release", "model"]
    source: str
    release: "Release | None" = None

    @property
    def items_key(self) -> str:
        """Systems that agree in this embed the catalogue alike, so it is embedded once."""
        return self.release.manifest.item_encoder_digest if self.release is not None else f"{self.kind}:{self.source}"

    @property
    def reward_judges(self) -> tuple[str, ...]:
        """Digest of the judge whose grades this release was trained on."""
        return () if self.release is None else tuple(self.release.manifest.training.get("reward_judges", ()))

    def facts(self) -> dict[str, Any]:
        """What a report says about it."""
        said: dict[str, Any] = {"kind": self.kind, "source": self.source}
        if self.release is not None:
            manifest = self.release.manifest
            said |= {
                "digest": manifest.digest,
                "item_encoder_digest": manifest.item_encoder_digest,
                "base_model": manifest.base_model,
                "parent": manifest.parent,
                "reward_judges": list(self.reward_judges),
                "alarms": list(manifest.training.get("alarms", ())),
            }
        return said


def open_system(name: str, source: str | Path, config: EncoderConfig) -> System:
    """Find what `source` names: "bm25", a release folder (verified), or a model folder, hub id or packaged model.

    Raises InputError when it is not there. Settings that a release overrides are told on standard error.
    """
    if str(source) == BM25:
        return System(name, "bm25", BM25)
    if (Path(source) / MANIFEST).exists():
        from taoemb.encoder.release import load_release
        from taoemb.encoder.remarks import warn_of

        release = load_release(Path(source))
        warn_of(release, config)
        return System(name, "release", str(source), release)
    from taoemb.encoder.sources import find_model

    try:
        find_model(str(source))
    except InputError as error:
        raise InputError(f"{name}: no release and no model: {error}") from None
    return System(name, "model", str(source))


def encoders(system: System, config: EncoderConfig, device: str) -> "tuple[Encoder, Encoder]":
    """The query and the item encoder of a release or a model (the same object when one encodes both)."""
    config = config.model_copy(update={"lora": None})  # adapters belong to training
    if system.release is None:
        from taoemb.encoder.loading import load_encoder

        both = load_encoder(config.model_copy(update={"model": system.source}), device)
        return both, both
    query = system.release.query_encoder(device, config=config)
    return query, query if system.release.shared else system.release.item_encoder(device, config=config)
