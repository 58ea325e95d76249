"""What every command shares: its options, how settings are loaded, how results are printed."""

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from taoemb.plain import one_line

if TYPE_CHECKING:
    from rich.text import Text

    from taoemb.config import Config

PIPED_WIDTH = 160  # columns of a table that goes to a file or a pipe

ConfigOption = Annotated[
    Path | None, typer.Option("--config", metavar="FILE", help="YAML file of settings.", show_default=False)
]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Override one setting (repeatable).", show_default=False),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object for programs.")]


def settings(config: Path | None, overrides: Sequence[str] | None) -> "Config":
    """The settings of a command: defaults ← `--config FILE` ← `--set key=value`."""
    from taoemb.config import load_config

    return load_config(config, overrides or ())


def emit(result: Mapping[str, Any], as_json: bool, *, title: str = "", table: "Table | None" = None) -> None:
    """Print a command's result: one JSON object, or a short table for people.

    Without `table` the result's own keys and values are the rows. Whatever they hold is text: no markup, no escape.
    """
    if as_json:
        print(json.dumps(result, ensure_ascii=False, default=str))
        return
    columns, rows = table if table is not None else (("", ""), [(k, v) for k, v in result.items()])
    from rich.console import Console
    from rich.table import Table as RichTable

    drawn = RichTable(title=_text(title) if title else None, show_header=any(columns), title_justify="left")
    for name in columns:
        drawn.add_column(_text(name), overflow="fold", min_width=1)
    for row in rows:
        drawn.add_row(*(_text(_cell(value)) for value in row))
    Console(width=None if sys.stdout.isatty() else PIPED_WIDTH).print(drawn)


Table = tuple[Sequence[str], Sequence[Sequence[Any]]]


def say(text: str, *, err: bool = False) -> None:
    """Print one line at once, whatever the text holds."""
    print(one_line(text), file=sys.stderr if err else sys.stdout, flush=True)


def _text(text: str) -> "Text":
    from rich.text import Text

    return Text(one_line(text))


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 1e6 else f"{value:,.0f}"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return str(value)
