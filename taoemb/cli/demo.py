"""`taoemb demo`: the whole loop on a small generated shop, in one command."""

import shlex
from pathlib import Path
from typing import Annotated

import typer

from taoemb.cli.common import ConfigOption, JsonOption, SetOption, emit, say


def demo(
    out: Annotated[
        Path, typer.Option("--out", metavar="DIR", help="Where everything goes; run again to resume.")
    ] = Path("demo"),
    items: Annotated[int, typer.Option("--items", min=200, help="Items of the generated shop.")] = 2000,
    queries: Annotated[int, typer.Option("--queries", min=60, help="Its queries.")] = 700,
    seed: Annotated[int, typer.Option("--seed", help="Seed of everything.")] = 0,
    pipeline: Annotated[Path, typer.Option("--pipeline", metavar="FILE", help="The compiled pipeline to run.")] = Path(
        "pipelines/grpo.yaml"
    ),
    config: ConfigOption = None,
    overrides: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Generate a shop, run the GRPO pipeline on it, train the baselines, compare all, and roll the release out."""
    from taoemb.config import load_config
    from taoemb.jobs.demo import METRIC, SETTINGS, run_demo

    chosen = load_config(config, [*SETTINGS, *(overrides or ())])
    done = run_demo(pipeline, out, items, queries, seed, chosen)
    table = done.table()
    emit(
        {
            "out": str(out),
            "report": str(done.report),
            "milvus": str(done.milvus),
            "systems": done.evaluation["systems"],
            "rollout": done.rollout.summary(),
        },
        as_json,
        title=f"{METRIC} on held-out queries, by kind of query (number of queries)",
        table=table,
    )
    if not as_json:
        emit(done.rollout.summary(), as_json, title="Rollout of Retrieval-GRPO over SFT, by the held-out judge")
        say(f"report  {done.report}")
        say(f'search  taoemb search "sofa without arms" --milvus {shlex.quote(str(done.milvus))}')
