"""What to know of a release before it is used: settings that it overrides, and alarms that its training raised.

A release keeps what decides its vectors. A setting that asks for something else must not vanish silently: who gave it
believes that it holds.
"""

import sys
from pathlib import Path
from typing import NamedTuple

from taoemb.config import EncoderConfig
from taoemb.encoder.release import Release

OWN = ("pooling", "query_template", "item_template", "max_query_tokens", "max_item_tokens", "dimension")
"""Settings that a release answers by itself, as does its base model (`encoder.model`)."""


class Overridden(NamedTuple):
    """A setting of `encoder.*` that is given, and what the release has instead."""

    key: str
    asked: object
    has: object


def overridden(release: Release, config: EncoderConfig) -> list[Overridden]:
    """The given settings that `release` overrides with other values; settings left at their default ask for nothing."""
    usual, manifest = EncoderConfig(), release.manifest
    found = []
    if config.model != usual.model and not _is_model_of(config.model, release):
        found.append(Overridden("model", config.model, manifest.base_model))
    asked, left, has = config.model_dump(include=set(OWN)), usual.model_dump(include=set(OWN)), vars(manifest)
    found += [Overridden(key, asked[key], has[key]) for key in OWN if asked[key] not in (left[key], has[key])]
    return found


def override_line(release: Release, config: EncoderConfig) -> str:
    """One line that says which given settings the release overrides; empty when there are none."""
    found = overridden(release, config)
    if not found:
        return ""
    said = "; ".join(f"encoder.{key} is {has!r} in it, not {asked!r}" for key, asked, has in found)
    return f"{release.path}: a release keeps what it was trained with: {said}"


def warn_of(release: Release, config: EncoderConfig) -> None:
    """Say on standard error, a line each, what `config` asks in vain and what alarmed the release's training."""
    line = override_line(release, config)
    lines = [line] if line else []
    lines += [f"{release.path}: its training raised an alarm at {text}" for text in _alarms(release)]
    for text in lines:
        print(f"warning: {text}", file=sys.stderr, flush=True)


def _alarms(release: Release) -> list[str]:
    training = release.manifest.training
    admitted = training.get("admission", {}).get("admitted", True)
    doubts = [] if admitted else ["its start: the judge was not admitted (training.admission in its manifest)"]
    return doubts + [str(text) for text in training.get("alarms", ())]


def _is_model_of(name: str, release: Release) -> bool:
    """Whether `encoder.model` names the release itself or the model that it was made from."""
    folder = Path(name).expanduser()
    return release.manifest.base_model in (name, folder.name) or folder.resolve() == release.path.resolve()
