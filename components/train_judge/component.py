"""Gets the judge of one role ready: the one that gives reward, or the one that is kept apart to watch and to grade."""

from kfp import dsl

from components.base import component


@component
def train_judge(settings: str, role: str, prepared: dsl.Input[dsl.Dataset], judge: dsl.Output[dsl.Model]):
    """Train a cross-encoder judge; or, when the settings name an endpoint for this role, check that it answers.

    The two roles train on two halves of the training queries, so that neither has seen what the other has.

    Args:
        settings: Sections `judge_train` and that of the role as YAML text.
        role: `judge` (gives reward) or `heldout_judge` (never gives reward).
        prepared: Dataset folders; the train part is used.
        judge: The judge's folder; for an endpoint, its address and digest.
    """
    import json
    from pathlib import Path

    from taoemb.errors import InputError
    from taoemb.jobs import steps

    parts = {"judge": 0, "heldout_judge": 1}
    if role not in parts:
        raise InputError(f"role {role!r}: expected judge or heldout_judge")
    config = steps.settings_from(settings)
    endpoint = config.judge if role == "judge" else config.heldout_judge
    if endpoint is not None and endpoint.url:
        from taoemb.judge.client import JudgeClient
        from taoemb.judge.probe import probe

        with JudgeClient(endpoint) as client:
            facts = {"url": endpoint.url, "digest": client.release}
            probe(client)
        Path(judge.path).mkdir(parents=True, exist_ok=True)
        (Path(judge.path) / "endpoint.json").write_text(json.dumps(facts), encoding="utf-8")
    else:
        from taoemb.judge.train import train_judge as train

        half = config.judge_train.model_copy(update={"query_share": 0.5, "query_part": parts[role]})
        facts = train([Path(prepared.path) / "train"], Path(judge.path), half)
    judge.metadata.update({name: facts[name] for name in ("url", "digest") if name in facts})
