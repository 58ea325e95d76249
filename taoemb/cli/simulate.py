"""`taoemb rollout simulate`: a rollout whose truth is known."""

from pathlib import Path
from typing import Annotated

import typer

from taoemb.cli.common import ConfigOption, JsonOption, SetOption, emit, settings

_EXIT = {"right": 0, "open": 4, "wrong": 1}


def simulate(
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="New folder for everything that comes of it.")],
    data: Annotated[
        Path | None,
        typer.Option("--data", metavar="DIR", help="A shop made by `taoemb data synth`; default: a new one."),
    ] = None,
    plan: Annotated[
        Path | None, typer.Option("--plan", metavar="FILE", help="The plan (YAML); default: 10 %, then 50 %.")
    ] = None,
    lift: Annotated[
        float, typer.Option("--lift", help="True gain of the candidate, in the share of good items on a page.")
    ] = 0.15,
    drift: Annotated[float, typer.Option("--drift", help="Change of both arms from beginning to end.")] = 0.0,
    novelty: Annotated[float, typer.Option("--novelty", help="Gain at the beginning that wears off.")] = 0.0,
    quality: Annotated[float, typer.Option("--quality", help="Share of good items of the control.")] = 0.4,
    judge_delay: Annotated[float, typer.Option("--judge-delay", help="Seconds that the judge takes a request.")] = 0.0,
    judge_flips: Annotated[float, typer.Option("--judge-flips", help="Share of pairs that it grades at random.")] = 0.0,
    judge_prejudice: Annotated[
        float,
        typer.Option(
            "--judge-prejudice",
            help="Share of items that only the candidate shows which it calls Irrelevant (negative: Excellent).",
        ),
    ] = 0.0,
    outage: Annotated[
        list[str] | None,
        typer.Option(
            "--outage", metavar="control|candidate|judge:FROM-TO", help="Times from 0 to 1, e.g. judge:0.2-0.5."
        ),
    ] = None,
    shoppers: Annotated[int, typer.Option("--shoppers", min=1, help="Different shoppers at most.")] = 4000,
    concurrency: Annotated[int, typer.Option("--concurrency", min=1, max=256, help="Shoppers at the same time.")] = 8,
    rate: Annotated[float, typer.Option("--rate", min=0, help="Searches a second; 0: as fast as they go.")] = 0.0,
    seed: Annotated[int, typer.Option("--seed")] = 0,
    config: ConfigOption = None,
    set_: SetOption = None,
    json: JsonOption = False,
) -> None:
    """Roll out between simulated encoders of known quality; exit 0: the verdict is right, 4: none, 1: wrong."""
    tree = settings(config, set_)
    from taoemb.rollout.plan import load_plan
    from taoemb.rollout.simulate.options import PLAN, Options
    from taoemb.rollout.simulate.run import simulate as run
    from taoemb.rollout.simulate.scenario import Scenario, parse_outage

    scenario = Scenario(
        lift=lift,
        drift=drift,
        novelty=novelty,
        quality=quality,
        judge_delay_s=judge_delay,
        judge_flips=judge_flips,
        judge_prejudice=judge_prejudice,
        outages=tuple(parse_outage(text) for text in outage or ()),
    )
    chosen = PLAN if plan is None else load_plan(plan)
    options = Options(
        out, scenario, chosen, data, shoppers=shoppers, concurrency=concurrency, rate=rate, seed=seed, config=tree
    )
    result = run(options).to_json()
    emit(result, json, title=f"Simulated rollout: {result['in_words']}")
    raise typer.Exit(_EXIT[result["verdict_is"]])
