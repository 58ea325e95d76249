"""The options that name a rollout, on this machine or on a cluster."""

from pathlib import Path
from typing import Annotated

import typer

from taoemb.errors import InputError

DirOption = Annotated[
    Path | None, typer.Option("--dir", metavar="DIR", help="A rollout on this machine: its folder.", show_default=False)
]
ResourceOption = Annotated[
    str | None,
    typer.Option("--rollout", metavar="NAMESPACE/NAME", help="One on a cluster: an EncoderRollout."),
]
WhyOption = Annotated[str, typer.Option("--why", help="Reason, kept for audit.")]


def here_or_there(folder: Path | None, rollout: str | None) -> Path | None:
    """The folder of a rollout on this machine; None for one on a cluster."""
    if (folder is None) == (rollout is None):
        raise InputError("give either --dir DIR (this machine) or --rollout NAMESPACE/NAME (a cluster)")
    return folder
