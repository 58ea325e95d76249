"""What each image runs, and what of it the image leaves out on purpose."""

from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Part:
    """An image's commands and the modules behind them."""

    entries: tuple[str, ...]
    left_out: frozenset[str]
    commands: tuple[str, ...]


def _modules(folder: str) -> tuple[str, ...]:
    files = (ROOT / folder).rglob("*.py")
    return tuple(".".join(file.relative_to(ROOT).with_suffix("").parts) for file in files)


_MILVUS_IN_A_FILE = frozenset({"milvus_lite"})
PARTS = {
    "serving": Part(
        ("taoemb.cli.serve", "taoemb.cli.rollout"),
        _MILVUS_IN_A_FILE,
        ("serve encoder", "serve gateway", "rollout controller"),
    ),
    "judge": Part(("taoemb.cli.judge",), frozenset(), ("judge serve",)),
    "trainer": Part(
        (*_modules("taoemb"), *_modules("components")),
        frozenset(),
        ("train sft", "train grpo", "judge train", "evaluate", "publish", "pipeline run", "rollout start"),
    ),
}
