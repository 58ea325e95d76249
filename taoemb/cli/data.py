"""`taoemb data …`: make, import, split and check dataset folders."""

from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from taoemb.cli.common import ConfigOption, JsonOption, SetOption, emit, settings

if TYPE_CHECKING:
    from taoemb.data.importers.tabular import TableImport
    from taoemb.data.validate import ValidationReport

app = typer.Typer(no_args_is_help=True, help="Make, import, split and check dataset folders.")
imports = typer.Typer(no_args_is_help=True, help="Turn another layout into a dataset folder.")
app.add_typer(imports, name="import")

OutOption = Annotated[Path, typer.Option("--out", metavar="DIR", help="Dataset folder to write.")]
DataOption = Annotated[Path, typer.Option("--data", metavar="DIR", help="Dataset folder to read.")]


@app.command()
def synth(
    out: OutOption,
    items: Annotated[int, typer.Option("--items", min=1, help="Items of the shop.")] = 20_000,
    queries: Annotated[int, typer.Option("--queries", min=0, help="Queries, of six kinds.")] = 2_000,
    seed: Annotated[int, typer.Option("--seed", help="The same seed writes the same bytes.")] = 0,
    config: ConfigOption = None,
    set_: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Generate a shop: items, queries, clicks and grades that follow from the attributes."""
    settings(config, set_)
    from taoemb.data.synth import synthesise

    emit(synthesise(out, items, queries, seed), as_json, title="Generated shop")


@app.command()
def queries(
    data: DataOption,
    out: OutOption,
    config: ConfigOption = None,
    set_: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Generate training queries from a catalogue's own structure (settings: queries.*)."""
    tree = settings(config, set_)
    from taoemb.data.queries import generate_queries

    emit(generate_queries(data, out, tree.queries), as_json, title="Generated queries")


@app.command()
def split(
    data: DataOption,
    out: OutOption,
    config: ConfigOption = None,
    set_: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Divide queries into OUT/train, OUT/valid and OUT/test; near-duplicates stay together (settings: split.*)."""
    tree = settings(config, set_)
    from taoemb.data.split import split as divide

    emit(divide(data, out, tree.split), as_json, title="Split")


@app.command()
def validate(
    data: Annotated[Path, typer.Argument(metavar="DIR", help="Dataset folder.")],
    config: ConfigOption = None,
    set_: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Count what a dataset folder holds and list every breach of the contract (exit code 2 when there are any)."""
    settings(config, set_)
    from taoemb.data.validate import validate as check

    report = check(data)
    emit(report.as_dict(), as_json, title=str(data), table=(("", ""), _rows(report)))
    if not report.ok:
        raise typer.Exit(2)


def _rows(report: "ValidationReport") -> list[tuple[str, Any]]:
    rows: list[tuple[str, Any]] = [(table, count) for table, count in report.counts.items()]
    rows += [(f"grade {grade}", count) for grade, count in report.labels.items()]
    rows += [(f"source {name}", count) for name, count in report.sources.items()]
    rows += [(f"slice {name}", count) for name, count in _most(report.slices, 20).items()]
    rows += [(name, f"{share:.1%}") for name, share in report.coverage.items()]
    rows.append(("violations", report.violation_count))
    rows += [("", str(violation)) for violation in report.violations]
    hidden = report.violation_count - len(report.violations)
    return [*rows, ("", f"… and {hidden:,} more of these kinds")] if hidden else rows


def _most(counts: Mapping[str, int], number: int) -> dict[str, int]:
    """The first `number` entries, and what the others add up to."""
    entries = list(counts.items())
    rest = sum(count for _, count in entries[number:])
    return dict(entries[:number]) | ({f"({len(entries) - number} others)": rest} if rest else {})


class Version(StrEnum):
    """Which ESCI examples to take."""

    small = "small"
    large = "large"


@imports.command()
def esci(
    source: Annotated[Path, typer.Argument(metavar="SRC", help="Folder with the two Parquet files.")],
    out: OutOption,
    locale: Annotated[str, typer.Option("--locale", help="us, es, jp or all.")] = "us",
    version: Annotated[Version, typer.Option("--version", help="Which examples.")] = Version.large,
    config: ConfigOption = None,
    set_: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Import Amazon's ESCI shopping queries (E 4, S 3, C 2, I 1)."""
    settings(config, set_)
    from taoemb.data.importers.esci import import_esci

    result = import_esci(source, out, None if locale == "all" else locale, version.value)
    emit(result, as_json, title="Imported ESCI")


@imports.command()
def wands(
    source: Annotated[Path, typer.Argument(metavar="SRC", help="Folder with query.csv, product.csv, label.csv.")],
    out: OutOption,
    config: ConfigOption = None,
    set_: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Import Wayfair's WANDS (Exact 4, Partial 3, Irrelevant 1)."""
    settings(config, set_)
    from taoemb.data.importers.wands import import_wands

    emit(import_wands(source, out), as_json, title="Imported WANDS")


ItemsArgument = Annotated[Path, typer.Argument(metavar="ITEMS", help="File of the items.")]
QueriesOption = Annotated[Path | None, typer.Option("--queries", metavar="FILE", help="File of the queries.")]
PairsOption = Annotated[Path | None, typer.Option("--pairs", metavar="FILE", help="File of (query, item) clicks.")]
JudgmentsOption = Annotated[Path | None, typer.Option("--judgments", metavar="FILE", help="File of the grades.")]
MapOption = Annotated[
    list[str] | None,
    typer.Option("--map", metavar="FIELD=COLUMN", help="title=name, attributes.colour=Colour, pairs.item_id=sku …"),
]
GradeOption = Annotated[
    list[str] | None, typer.Option("--grade", metavar="LABEL=GRADE", help="What a written grade means: Exact=4 …")
]
RestOption = Annotated[bool, typer.Option("--rest-as-attributes", help="Keep all other item columns as attributes.")]


@imports.command("csv")
def csv_(
    items: ItemsArgument,
    out: OutOption,
    queries: QueriesOption = None,
    pairs: PairsOption = None,
    judgments: JudgmentsOption = None,
    map_: MapOption = None,
    grade: GradeOption = None,
    rest_as_attributes: RestOption = False,
    delimiter: Annotated[str, typer.Option("--delimiter", help="Between cells; \\t for a tab.")] = ",",
    config: ConfigOption = None,
    set_: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Import CSV files with a header row."""
    settings(config, set_)
    from taoemb.data.importers.tabular import import_csv

    source = _tables(items, queries, pairs, judgments, map_, grade, rest_as_attributes, delimiter)
    emit(import_csv(source, out), as_json, title="Imported CSV")


@imports.command()
def jsonl(
    items: ItemsArgument,
    out: OutOption,
    queries: QueriesOption = None,
    pairs: PairsOption = None,
    judgments: JudgmentsOption = None,
    map_: MapOption = None,
    grade: GradeOption = None,
    rest_as_attributes: RestOption = False,
    config: ConfigOption = None,
    set_: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Import files with one JSON object a line."""
    settings(config, set_)
    from taoemb.data.importers.tabular import import_jsonl

    source = _tables(items, queries, pairs, judgments, map_, grade, rest_as_attributes)
    emit(import_jsonl(source, out), as_json, title="Imported JSON Lines")


def _tables(
    items: Path,
    queries: Path | None,
    pairs: Path | None,
    judgments: Path | None,
    mapping: list[str] | None,
    grades: list[str] | None,
    rest: bool,
    delimiter: str = ",",
) -> "TableImport":
    from taoemb.data.importers.tabular import TableImport
    from taoemb.errors import InputError

    delimiter = delimiter.replace("\\t", "\t")
    if len(delimiter) != 1:
        raise InputError(f"--delimiter {delimiter!r}: must be one character")
    return TableImport(items, queries, pairs, judgments, tuple(mapping or ()), tuple(grades or ()), rest, delimiter)
