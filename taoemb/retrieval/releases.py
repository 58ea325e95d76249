"""The history of what was published under an alias: list it, go back in it, and clear what is too old."""

from taoemb.config import MilvusConfig
from taoemb.errors import InputError, TaoembError
from taoemb.retrieval.milvus import MilvusStore
from taoemb.retrieval.registry import CollectionEntry, ReleaseEntry


def list_releases(config: MilvusConfig) -> list[ReleaseEntry]:
    """All releases bound under the configured alias, the latest first."""
    with MilvusStore(config) as store, store.talking("read the registry"):
        return store.registry.releases(config.alias)


def rollback(config: MilvusConfig, to: str | None = None) -> ReleaseEntry:
    """Make the release that was active before, or the one whose digest (or its start) is `to`, active again.

    Going back twice goes back two releases. Raises InputError when there is nothing to go back to, TaoembError when
    its collection is gone.
    """
    with MilvusStore(config) as store:
        with store.talking("read the registry"):
            active = store.registry.active(config.alias)
            wanted = to or (active.previous if active is not None else None)
            target = store.registry.find(wanted, config.alias) if wanted is not None else None
        if wanted is None:
            raise InputError(f"alias {config.alias}: no earlier release to go back to; see taoemb releases list")
        if target is None:
            raise InputError(
                f"release {wanted[:16]} is not published under alias {config.alias}; see taoemb releases list"
            )
        if active is not None and target.digest == active.digest:
            raise InputError(f"release {wanted[:16]} is active already")
        if store.fields(target.collection, target.item_encoder_digest) is None or not store.count(target.collection):
            raise TaoembError(
                f"collection {target.collection} of release {target.digest[:16]} is gone; publish it again"
            )
        return store.activate(target, back=True)


def prune(config: MilvusConfig, keep: int) -> tuple[list[ReleaseEntry], list[str]]:
    """Forget retired releases but the latest `keep`, and drop the collections that nothing is bound to any more.

    The active release, the one a rollback would go to, and staged ones stay. Releases under other aliases keep their
    collections, and so does whatever an alias names, whoever set it. Returns the forgotten releases and the dropped
    collections. An interrupted prune ends in the next one.
    """
    if keep < 0:
        raise InputError(f"--keep {keep}: give 0 or more")
    with MilvusStore(config) as store:
        with store.talking("read the registry"):
            every = store.registry.releases()
            states = {state.collection: state for state in store.registry.collections()}
        named = store.named()
        forgotten = _beyond([entry for entry in every if entry.alias == config.alias], keep)
        bound = {entry.collection for entry in every if entry not in forgotten}
        forgotten = [entry for entry in forgotten if entry.collection not in named - bound]
        bound |= named
        dropped = {entry.collection for entry in forgotten} - bound
        dropped |= {name for name, state in states.items() if state.status == "dropping" and name not in bound}
        leaving = [_leaving(name, states.get(name), every) for name in sorted(dropped)]
        with store.talking("record what is pruned"):
            if leaving:
                store.registry.write(leaving)
            store.registry.delete(forgotten)
        for state in leaving:
            store.drop(state.collection)
            with store.talking("record what is pruned"):
                store.registry.delete([state])
    return forgotten, sorted(dropped)


def _beyond(entries: list[ReleaseEntry], keep: int) -> list[ReleaseEntry]:
    """The retired ones that may go; `entries` come latest first."""
    targets = {entry.previous for entry in entries if entry.status == "active"}
    retired = [entry for entry in entries if entry.status == "retired"]
    return [entry for entry in retired[keep:] if entry.digest not in targets]


def _leaving(name: str, state: CollectionEntry | None, entries: list[ReleaseEntry]) -> CollectionEntry:
    if state is not None:
        digest = state.item_encoder_digest
    else:
        digest = next(entry.item_encoder_digest for entry in entries if entry.collection == name)
    return CollectionEntry(name, digest, "dropping", "")
