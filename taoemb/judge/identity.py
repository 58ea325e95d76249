"""Which judge answers: by its weights, not by the name that it is served under.

The name goes into the cache's key and into releases, and decides whether a judge that gave reward may grade. So two
served names of one model are one judge, an adapter is another judge than its base model, and a path names nothing:
other weights can lie there tomorrow.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from taoemb.judge.failures import JudgeUnfit

_DIGESTS = ("taoemb_digest", "digest")
_PATH = re.compile(r"[/~.\\]|[A-Za-z]:[\\/]|[a-z0-9+.-]+://|.*\.(gguf|safetensors|bin)$|.*/.*/")


def release_of(answer: object, model: str, url: str) -> str:
    """The judge `model` by what GET …/models answered: its digest, else the hub id of its weights, else its name.

    An adapter is BASE+ADAPTER. Raises JudgeUnfit when the answer lists no such model or names it by a path only.
    """
    data = answer.get("data") if isinstance(answer, dict) else None
    listed = {one["id"]: one for one in data if _is_model(one)} if isinstance(data, list) else {}
    if not listed or len(listed) == 1 == len(data or ()):
        found = next(iter(listed.values()), None)
    else:
        found = listed.get(model)
    if found is None:
        names = ", ".join(map(repr, listed))
        known = f"lists {names}; set judge.model to one of them, or" if names else "lists no model;"
        raise JudgeUnfit(f"the judge at {url} {known} set judge.release to name it")
    digest = next((found[name] for name in _DIGESTS if isinstance(found.get(name), str) and found[name]), None)
    if digest is not None:
        return digest
    weights, parent = _weights(found), listed.get(str(found.get("parent")))
    parts = [weights] if parent is None or parent is found else [_weights(parent), weights]
    for part in parts:
        if _PATH.match(part):
            raise JudgeUnfit(
                f"the judge at {url} names its weights by the path {part!r} only, where others may lie tomorrow; name "
                "them with judge.release, e.g. judge.release=NAME-AND-VERSION"
            )
    return "+".join(parts)


def same_judge(one: str, other: str) -> bool:
    """Whether two recorded names are of one judge. Earlier records say "SERVED-NAME WEIGHTS"."""
    return _by_weights(one) == _by_weights(other)


def known_among(names: Iterable[str], judges: Iterable[str]) -> str | None:
    """The first of `judges` that is the judge of these `names`; None when it is none of them."""
    mine = list(names)
    return next((judge for judge in judges if any(same_judge(name, judge) for name in mine)), None)


def _is_model(entry: object) -> bool:
    return isinstance(entry, dict) and isinstance(entry.get("id"), str) and bool(entry["id"])


def _weights(model: Mapping[str, Any]) -> str:
    root = model.get("root")
    return root if isinstance(root, str) and root else str(model["id"])


def _by_weights(name: str) -> str:
    served, space, weights = name.partition(" ")
    return weights if space and served and weights and " " not in weights else name
