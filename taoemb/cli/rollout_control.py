"""`taoemb rollout pause|resume|retry|undo|list|lint`: what people on call reach for, in Argo Rollouts' words."""

from pathlib import Path
from typing import Annotated

import typer

from taoemb.cli import rollout_cluster as cluster
from taoemb.cli import rollout_local as local
from taoemb.cli.common import JsonOption, emit
from taoemb.cli.rollout_options import DirOption, ResourceOption, WhyOption, here_or_there

_COLUMNS = ("rollout", "phase", "step", "share", "units", "outcome", "reason")


def pause(
    folder: DirOption = None, rollout: ResourceOption = None, why: WhyOption = "", json: JsonOption = False
) -> None:
    """Hold the rollout where it is: no step, no promotion; looks go on, and what harms still goes back."""
    here = here_or_there(folder, rollout)
    (local.pause(here, why) if here is not None else cluster.pause(str(rollout), why)).emit(json)


def resume(
    folder: DirOption = None, rollout: ResourceOption = None, why: WhyOption = "", json: JsonOption = False
) -> None:
    """Let a paused rollout go on; the time of the pause counts towards no limit."""
    here = here_or_there(folder, rollout)
    (local.resume(here, why) if here is not None else cluster.resume(str(rollout), why)).emit(json)


def retry(folder: DirOption = None, rollout: ResourceOption = None, json: JsonOption = False) -> None:
    """Roll the same candidate out again by the same plan, after a rollout that ended without a promotion."""
    here = here_or_there(folder, rollout)
    name = local.retry(here) if here is not None else cluster.retry(str(rollout))
    where = f"--dir {here}" if here is not None else f"--rollout {name}"
    emit({"rollout": name}, json, title=f"Started; now: taoemb rollout watch {where}")


def undo(
    folder: DirOption = None, rollout: ResourceOption = None, why: WhyOption = "", json: JsonOption = False
) -> None:
    """Bring the release back that served before: ends a rollout under way, reverts one that was promoted."""
    here = here_or_there(folder, rollout)
    ended = local.undo(here, why, quiet=json) if here is not None else cluster.undo(str(rollout), why, quiet=json)
    ended.emit(json)
    raise typer.Exit(0 if ended.phase in ("RolledBack", "Promoted") else 1)


def list_rollouts(
    folder: Annotated[
        Path | None,
        typer.Option("--dir", metavar="DIR", help="This machine: a rollout's folder; default: the cluster."),
    ] = None,
    namespace: Annotated[str, typer.Option("--namespace", help="Of the cluster; default: all namespaces.")] = "",
    json: JsonOption = False,
) -> None:
    """List rollouts with where they stand: those of a folder's events database, or those of a cluster."""
    rows = local.rollouts(folder) if folder is not None else cluster.rollouts(namespace)
    table = [[row[name] for name in _COLUMNS] for row in rows]
    emit({"rollouts": rows}, json, title="Rollouts", table=(_COLUMNS, table))


def lint(
    files: Annotated[list[Path], typer.Argument(metavar="FILE…", help="Plans, or manifests of EncoderRollouts.")],
    json: JsonOption = False,
) -> None:
    """Check plans and EncoderRollout manifests without starting anything; exit 2 at the first that can't work."""
    from taoemb.rollout.lint import lint_file

    emit({str(file): lint_file(file) for file in files}, json, title="Nothing wrong found")


commands = (pause, resume, retry, undo, lint)
