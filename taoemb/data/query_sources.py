"""Which writer and which rules make a catalogue's queries: its language decides.

English titles have lists of everyday words (query_writer.py). Every other language, and every title in another script
than Latin in an English catalogue, is written from the catalogue's own words alone (own_writer.py).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from taoemb.config import QueryGenerationConfig
from taoemb.data.language import Language, read_language
from taoemb.data.mining import mine
from taoemb.data.own_words import mine_own
from taoemb.data.own_writer import KINDS, OwnWriter
from taoemb.data.query_writer import Asked, QueryWriter
from taoemb.data.rules import Rules
from taoemb.data.scripts import script_of
from taoemb.data.words import near_duplicate_key
from taoemb.errors import InputError


@dataclass(frozen=True)
class Source:
    """Writes and grades queries for some of the items; `rows` are theirs among all."""

    rows: np.ndarray
    count: int  # queries that are wanted of it
    write: Callable[[], Asked | None]
    rules: Rules
    key: Callable[[str], tuple[str, ...]]  # equal for queries that are asked but once
    rng: np.random.Generator


@dataclass(frozen=True)
class Sources:
    """All sources of a catalogue, and what the report says of its language."""

    language: Language
    parts: list[Source]
    word_lists: list[str]
    other_scripts: int  # items whose titles are in another script than the most


def find_sources(records: Sequence[dict[str, Any]], config: QueryGenerationConfig, rng: np.random.Generator) -> Sources:
    """Decide the language and mine the items. Raises InputError where no kind of query is left for the language."""
    language = read_language(records, config.language)
    scripts = [script_of(record["title"]) for record in records]
    others = np.array([row for row, script in enumerate(scripts) if script not in (language.script, None)], dtype=int)
    if not language.english:
        parts = [_own(records, np.arange(len(records)), language, config, config.count, rng)]
        return Sources(language, parts, language.word_lists, len(others))
    apart = round(config.count * len(others) / max(1, len(records)))
    parts = []
    if apart < config.count:
        mined = mine(records)
        writer = QueryWriter(mined, rng, config.kinds, frozenset(others.tolist()))
        every = np.arange(len(records))
        parts.append(Source(every, config.count - apart, writer.write, Rules(mined), near_duplicate_key, rng))
    lists = language.word_lists if parts else []
    if apart:
        foreign = [records[row] for row in others]
        spoken = read_language(foreign)
        parts.append(_own(foreign, others, spoken, config, apart, np.random.default_rng([config.seed, 1])))
        lists = [*lists, *spoken.word_lists]
    return Sources(language, parts, lists, len(others))


def _own(
    records: Sequence[dict[str, Any]],
    rows: np.ndarray,
    language: Language,
    config: QueryGenerationConfig,
    count: int,
    rng: np.random.Generator,
) -> Source:
    if not any(config.kinds[kind] for kind in KINDS):
        raise InputError(
            f"queries.kinds: titles in the language {language.code!r} give queries of the kinds {', '.join(KINDS)} "
            "alone, and all of these are 0; the other kinds are made of English words"
        )
    own = mine_own(records, language)

    def key(text: str) -> tuple[str, ...]:
        return tuple(sorted(own.mined.words(text)))

    return Source(rows, count, OwnWriter(own, rng, config.kinds).write, Rules(own.mined), key, rng)
