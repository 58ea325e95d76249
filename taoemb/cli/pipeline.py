"""`taoemb pipeline …`: compile pipelines, run them on this machine, send them to a cluster."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from taoemb.cli.common import ConfigOption, JsonOption, SetOption, emit, settings

if TYPE_CHECKING:
    from taoemb.jobs.pipelines import Pipeline

app = typer.Typer(no_args_is_help=True, help="Compile pipelines, run them here or on a Kubeflow cluster.")

FileArgument = Annotated[Path, typer.Argument(metavar="FILE", help="A compiled pipeline, e.g. pipelines/grpo.yaml.")]
ParamOption = Annotated[
    list[str] | None,
    typer.Option(
        "--param", "-p", metavar="NAME=VALUE", help="A parameter of the pipeline (repeatable).", show_default=False
    ),
]


@app.command("compile")
def compile_(
    names: Annotated[list[str] | None, typer.Argument(metavar="[NAME]...", show_default=False)] = None,
    folder: Annotated[Path, typer.Option("--dir", help="Folder of pipeline sources.")] = Path("pipelines"),
    check: Annotated[
        bool, typer.Option("--check", help="Write nothing; fail when a file is not what its source compiles to.")
    ] = False,
    image: Annotated[
        str | None, typer.Option("--image", help="Image that components run in.", show_default="this release's trainer")
    ] = None,
    manifests: Annotated[
        Path | None,
        typer.Option("--manifests", metavar="DIR", help="Also write Pipeline and PipelineVersion objects there."),
    ] = None,
    namespace: Annotated[str, typer.Option("--namespace", help="Namespace of those objects.")] = "",
    config: ConfigOption = None,
    overrides: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Compile pipeline sources (default: all) to YAML beside them."""
    from taoemb.errors import InputError, TaoembError
    from taoemb.jobs.pipeline_compile import compile_pipelines
    from taoemb.jobs.pipelines import BASE_IMAGE

    settings(config, overrides)
    if manifests is not None:
        from taoemb.jobs.pipeline_manifests import write_manifests

        if check:
            raise InputError("--check and --manifests: give one of them")
        files = write_manifests(folder, names or (), manifests, namespace, image or BASE_IMAGE)
        emit({file.stem: str(file) for file in files}, as_json)
        return
    compiled = compile_pipelines(folder, names or (), check=check, image=image or BASE_IMAGE)
    stale = [str(entry.file) for entry in compiled if entry.state == "differs"]
    if stale:
        raise TaoembError(f"{', '.join(stale)}: not what the source compiles to; run `taoemb pipeline compile`")
    result = {entry.name: {"file": str(entry.file), "state": entry.state} for entry in compiled}
    rows = [(entry.name, entry.file, entry.state) for entry in compiled]
    emit(result, as_json, table=(("pipeline", "file", "state"), rows))


@app.command()
def run(
    file: FileArgument,
    param: ParamOption = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="Folder of the run; finished steps are reused.", show_default="runs/PIPELINE"),
    ] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Forget what --out holds of earlier runs.")] = False,
    config: ConfigOption = None,
    overrides: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Run a compiled pipeline on this machine; --config and --set become its `settings` parameter."""
    from taoemb.jobs.pipeline_local import run_local
    from taoemb.jobs.pipelines import read_pipeline

    pipeline = read_pipeline(file)
    arguments = _arguments(pipeline, param, config, overrides)
    done = run_local(pipeline, arguments, out or Path("runs") / pipeline.name, fresh=fresh)
    outputs = {name: str(path) for name, path in done.outputs.items()}
    steps = [asdict(step) for step in done.steps]
    rows: list[tuple[str, ...]] = [
        (step.title, step.state, f"{step.seconds:,.1f} s", str(step.log)) for step in done.steps
    ]
    rows += [(name, "output", "", path) for name, path in outputs.items()]
    result = {"out": str(done.out), "outputs": outputs, "steps": steps}
    emit(result, as_json, title=pipeline.name, table=(("step", "state", "time", "file"), rows))


@app.command()
def submit(
    file: FileArgument,
    host: Annotated[str, typer.Option("--host", metavar="URL", help="Address of the Kubeflow Pipelines API.")],
    param: ParamOption = None,
    experiment: Annotated[str, typer.Option("--experiment", "-e", help="Experiment; made when absent.")] = "taoemb",
    run_name: Annotated[str, typer.Option("--run-name", help="Name of the run.", show_default="file and time")] = "",
    namespace: Annotated[str, typer.Option("--namespace", help="Namespace, on multi-user clusters.")] = "",
    token_file: Annotated[
        Path | None, typer.Option("--token-file", help="File that holds a bearer token.", show_default=False)
    ] = None,
    config: ConfigOption = None,
    overrides: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Send a compiled pipeline to a cluster; --config and --set become its `settings` parameter."""
    from taoemb.jobs.pipeline_submit import submit as submit_pipeline
    from taoemb.jobs.pipelines import read_pipeline

    pipeline = read_pipeline(file)
    arguments = _arguments(pipeline, param, config, overrides)
    sent = submit_pipeline(
        pipeline,
        arguments,
        host,
        experiment=experiment,
        run_name=run_name,
        namespace=namespace,
        token_file=token_file,
    )
    emit(asdict(sent), as_json, title=pipeline.name)


def _arguments(
    pipeline: "Pipeline", param: list[str] | None, config: Path | None, overrides: list[str] | None
) -> dict[str, Any]:
    from taoemb.errors import InputError
    from taoemb.jobs.pipelines import parse_arguments
    from taoemb.jobs.steps import settings_from, settings_text

    arguments = parse_arguments(pipeline, param or ())
    if config is not None or overrides:
        if "settings" not in pipeline.parameters:
            raise InputError(f"--config, --set: pipeline {pipeline.name} takes no settings")
        if "settings" in arguments:
            raise InputError("--param settings: give either this or --config and --set")
        arguments["settings"] = settings_text(settings(config, overrides))
    if "settings" in pipeline.parameters:
        settings_from(arguments.get("settings", ""))
    return arguments
