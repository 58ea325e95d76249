"""`taoemb data …`: make, import, split and check dataset folders."""

from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from taoemb.cli.common import ConfigOption, JsonOption, SetOption, emit, settings

if TYPE_CHECKING:
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

    result = generate_queries(data, out, tree.queries)
    lists = {"word_lists": ", ".join(result["word_lists"]) or "none: the catalogue's own words alone"}
    rows = [(key.replace("_", " "), value) for key, value in {**result, **lists}.items()]
    emit(result, as_json, title="Generated queries", table=(("", ""), rows))


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
    """Count what a dataset folder holds; list every breach of the contract (exit code 2) and what looks wrong."""
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
    rows += [("", f"… and {hidden:,} more of these kinds")] if hidden else []
    rows.append(("warnings", sum(warning.count for warning in report.warnings)))
    return rows + [("", str(warning)) for warning in report.warnings]


def _most(counts: Mapping[str, int], number: int) -> dict[str, int]:
    """The first `number` entries, and what the others add up to."""
    entries = list(counts.items())
    rest = sum(count for _, count in entries[number:])
    return dict(entries[:number]) | ({f"({len(entries) - number} others)": rest} if rest else {})


RawTextOption = Annotated[
    bool, typer.Option("--raw-text", help="Keep HTML tags and entities of titles, descriptions and attributes.")
]


EncodingOption = Annotated[
    str | None, typer.Option("--encoding", help="latin-1, cp1252, …; by default UTF-8 or what a byte-order mark says.")
]
MultilineOption = Annotated[
    bool, typer.Option("--multiline", help="Cells may hold as many delimiters and line breaks as whole rows.")
]


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
    raw_text: RawTextOption = False,
    config: ConfigOption = None,
    set_: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Import Amazon's ESCI shopping queries (E 4, S 3, C 2, I 1)."""
    settings(config, set_)
    from taoemb.data.importers.esci import import_esci

    result = import_esci(source, out, None if locale.casefold() == "all" else locale, version.value, raw_text=raw_text)
    _emit_import(result, as_json, "Imported ESCI")


@imports.command()
def wands(
    source: Annotated[Path, typer.Argument(metavar="SRC", help="Folder with query.csv, product.csv, label.csv.")],
    out: OutOption,
    encoding: EncodingOption = None,
    multiline: MultilineOption = False,
    raw_text: RawTextOption = False,
    config: ConfigOption = None,
    set_: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Import Wayfair's WANDS (Exact 4, Partial 3, Irrelevant 1)."""
    settings(config, set_)
    from taoemb.data.importers.wands import import_wands

    result = import_wands(source, out, encoding=encoding, multiline=multiline, raw_text=raw_text)
    _emit_import(result, as_json, "Imported WANDS")


ItemsArgument = Annotated[Path, typer.Argument(metavar="ITEMS", help="File of the items.")]
QueriesOption = Annotated[Path | None, typer.Option("--queries", metavar="FILE", help="File of the queries.")]
PairsOption = Annotated[
    Path | None,
    typer.Option("--pairs", metavar="FILE", help="File of (query, item) clicks; weight 0 means a known answer."),
]
JudgmentsOption = Annotated[Path | None, typer.Option("--judgments", metavar="FILE", help="File of the grades.")]
MapOption = Annotated[
    list[str] | None,
    typer.Option(
        "--map",
        metavar="FIELD=COLUMN",
        help="title=name, attributes.colour=Colour, pairs.item_id=sku …; price= leaves a field out.",
    ),
]
GradeOption = Annotated[
    list[str] | None,
    typer.Option("--grade", metavar="LABEL=GRADE", help="What a grade of the file means (name all): Exact=4 …"),
]
RestOption = Annotated[bool, typer.Option("--rest-as-attributes", help="Keep all other item columns as attributes.")]
NullOption = Annotated[
    list[str] | None,
    typer.Option("--null", metavar="WORD", help="A word read as missing, beside NaN, None, NULL, N/A … (repeatable)."),
]
NoDefaultsOption = Annotated[
    bool, typer.Option("--no-default-nulls", help="Only the words of --null mean missing, not NaN, None, NULL, N/A …")
]
DecimalOption = Annotated[
    str | None, typer.Option("--decimal", help="Decimal mark, . or ,; by default what a number itself shows.")
]


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
    delimiter: Annotated[
        str | None, typer.Option("--delimiter", help="Between cells; \\t for a tab. By default what the header shows.")
    ] = None,
    multiline: MultilineOption = False,
    encoding: EncodingOption = None,
    null: NullOption = None,
    no_default_nulls: NoDefaultsOption = False,
    decimal: DecimalOption = None,
    raw_text: RawTextOption = False,
    config: ConfigOption = None,
    set_: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Import CSV files with a header row; packed (gzip, zip) or not."""
    settings(config, set_)
    from taoemb.data.importers.tabular import TableImport, import_csv

    source = TableImport(
        *(items, queries, pairs, judgments, tuple(map_ or ()), tuple(grade or ()), rest_as_attributes),
        encoding=encoding,
        delimiter=None if delimiter is None else delimiter.replace("\\t", "\t"),
        multiline=multiline,
        null_words=tuple(null or ()),
        default_nulls=not no_default_nulls,
        decimal=decimal,
        raw_text=raw_text,
    )
    _emit_import(import_csv(source, out), as_json, "Imported CSV")


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
    encoding: EncodingOption = None,
    null: NullOption = None,
    no_default_nulls: NoDefaultsOption = False,
    decimal: DecimalOption = None,
    raw_text: RawTextOption = False,
    config: ConfigOption = None,
    set_: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Import files with one JSON object a line, or one array of objects; packed (gzip, zip) or not."""
    settings(config, set_)
    from taoemb.data.importers.tabular import TableImport, import_jsonl

    source = TableImport(
        *(items, queries, pairs, judgments, tuple(map_ or ()), tuple(grade or ()), rest_as_attributes),
        encoding=encoding,
        null_words=tuple(null or ()),
        default_nulls=not no_default_nulls,
        decimal=decimal,
        raw_text=raw_text,
    )
    _emit_import(import_jsonl(source, out), as_json, "Imported JSON Lines")


@imports.command()
def parquet(
    items: Annotated[
        Path, typer.Argument(metavar="ITEMS", help="File of the items, folder of its parts, or folder of all tables.")
    ],
    out: OutOption,
    queries: QueriesOption = None,
    pairs: PairsOption = None,
    judgments: JudgmentsOption = None,
    map_: MapOption = None,
    grade: GradeOption = None,
    rest_as_attributes: RestOption = False,
    null: NullOption = None,
    no_default_nulls: NoDefaultsOption = False,
    decimal: DecimalOption = None,
    raw_text: RawTextOption = False,
    config: ConfigOption = None,
    set_: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Import Parquet as pandas, Spark and others write it: files, or folders of parts."""
    settings(config, set_)
    from taoemb.data.importers.tabular import TableImport, import_parquet

    source = TableImport(
        *(items, queries, pairs, judgments, tuple(map_ or ()), tuple(grade or ()), rest_as_attributes),
        null_words=tuple(null or ()),
        default_nulls=not no_default_nulls,
        decimal=decimal,
        raw_text=raw_text,
    )
    _emit_import(import_parquet(source, out), as_json, "Imported Parquet")


def _emit_import(result: Mapping[str, Any], as_json: bool, title: str) -> None:
    rows: list[tuple[str, Any]] = [(key, value) for key, value in result.items() if key not in ("lines", "notes")]
    rows += [(f"lines of {table}", count) for table, count in result.get("lines", {}).items()]
    rows += [("note", note) for note in result["notes"]]
    emit(result, as_json, title=title, table=(("", ""), rows))
