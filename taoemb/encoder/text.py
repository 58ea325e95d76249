"""Text templates: what the encoder reads of a query and of an item.

They are part of a release's identity: the same weights behind another template are another encoder.
Nothing heavy is imported here, because readers of data need templates too.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from taoemb.errors import InputError

ITEM_FIELDS = ("title", "brand", "category", "description", "price", "attributes")
ITEM_TEMPLATE = "{title}[, {brand}][, {category}][. {description:160}]"
"""What an encoder reads of an item unless its release, its own files or the settings say otherwise."""

_TOKEN = re.compile(r"\{\{|\}\}|\[\[|\]\]|\{([^{}\[\]]*)\}|[{}\[\]]|[^{}\[\]]+")


@dataclass(frozen=True)
class _Field:
    """One `{field}`; `key` names a single attribute (`{attributes.colour}`), `limit` is its longest text."""

    name: str
    key: str | None
    limit: int | None = None

    def text(self, record: Mapping[str, Any]) -> str:
        text = self._whole(record)
        return text if self.limit is None else _shorten(text, self.limit)

    def _whole(self, record: Mapping[str, Any]) -> str:
        value = record.get(self.name)
        if self.name == "attributes":
            pairs = dict(value) if value else {}
            if self.key is not None:
                return _plain(pairs.get(self.key))
            named = ((_plain(name).replace("_", " "), _plain(text)) for name, text in pairs.items())
            return ", ".join(f"{name}: {text}" for name, text in named if text)
        return _plain(value)


_Part = str | _Field


@dataclass(frozen=True)
class ItemTemplate:
    """Item fields as text, e.g. ``"{title}[, {brand}][, {attributes}]"``.

    A ``[bracketed part]`` vanishes when a field inside it is missing or empty; outside brackets a missing field
    renders as nothing. ``{attributes}`` becomes ``name: value, …``, ``{attributes.NAME}`` one attribute's value.
    ``{description:160}`` is the field's first 160 characters, whole words only.
    Doubled brackets and braces stand for themselves. Raises InputError for an unknown field or unbalanced marks.
    """

    template: str
    fields: tuple[str, ...] = field(init=False, compare=False)
    """The item columns that the template reads."""
    _groups: tuple[tuple[bool, tuple[_Part, ...]], ...] = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        groups = _parse(self.template)
        names = dict.fromkeys(part.name for _, parts in groups for part in parts if isinstance(part, _Field))
        if not names:
            raise InputError(f"item template {self.template!r}: names no field; use one of {_choices()}")
        object.__setattr__(self, "fields", tuple(names))
        object.__setattr__(self, "_groups", groups)

    @property
    def prefix(self) -> str:
        """The literal text before the first field or bracket (an item prompt such as ``"passage: "``)."""
        optional, parts = self._groups[0]
        return parts[0] if not optional and isinstance(parts[0], str) else ""

    def render(self, record: Mapping[str, Any]) -> str:
        """The text of one item; `record` maps column names to values (attributes: a mapping or pairs)."""
        out: list[str] = []
        for optional, parts in self._groups:
            texts = [part if isinstance(part, str) else part.text(record) for part in parts]
            if optional and any(not text for text, part in zip(texts, parts, strict=True) if isinstance(part, _Field)):
                continue
            out.extend(texts)
        return "".join(out).strip()


@dataclass(frozen=True)
class QueryTemplate:
    """Text around a query: ``{text}`` exactly once, all else literal, e.g. ``"Instruct: …\\nQuery:{text}"``."""

    template: str = "{text}"

    def __post_init__(self) -> None:
        if self.template.count("{text}") != 1:
            raise InputError(f"query template {self.template!r}: must hold {{text}} exactly once")

    @property
    def prefix(self) -> str:
        """What stands before the query."""
        return self.template.partition("{text}")[0]

    @property
    def suffix(self) -> str:
        """What stands after the query."""
        return self.template.partition("{text}")[2]

    def render(self, text: str) -> str:
        """The query as the encoder reads it."""
        return f"{self.prefix}{text}{self.suffix}"


def escape_item_literal(text: str) -> str:
    """Write `text` so that an item template takes it literally."""
    return re.sub(r"[{}\[\]]", lambda mark: mark.group() * 2, text)


def _parse(template: str) -> tuple[tuple[bool, tuple[_Part, ...]], ...]:
    groups: list[tuple[bool, tuple[_Part, ...]]] = []
    parts: list[_Part] = []
    inside = False
    for token in _TOKEN.finditer(template):
        text = token.group()
        if text in ("[", "]"):
            if (text == "[") == inside:
                problem = "brackets do not nest" if inside else "']' without '['"
                raise InputError(f"item template {template!r}: {problem}; write '{text * 2}' for a literal '{text}'")
            _close(groups, parts, inside, template)
            parts, inside = [], not inside
        elif token.group(1) is not None:
            parts.append(_field(token.group(1), template))
        elif text in ("{", "}"):
            raise InputError(f"item template {template!r}: stray {text!r}; write {text * 2!r} for a literal one")
        else:
            literal = text[0] if text in ("{{", "}}", "[[", "]]") else text
            if parts and isinstance(parts[-1], str):
                parts[-1] += literal
            else:
                parts.append(literal)
    if inside:
        raise InputError(f"item template {template!r}: '[' is never closed")
    _close(groups, parts, False, template)
    return tuple(groups)


def _close(groups: list[tuple[bool, tuple[_Part, ...]]], parts: list[_Part], inside: bool, template: str) -> None:
    if inside and not any(isinstance(part, _Field) for part in parts):
        raise InputError(f"item template {template!r}: a [bracketed part] must name a field")
    if parts:
        groups.append((inside, tuple(parts)))


def _field(text: str, template: str) -> _Field:
    path, _, limit = text.partition(":")
    name, dot, key = path.partition(".")
    if ":" in text and not (limit.isdecimal() and int(limit) > 0):
        raise InputError(f"item template {template!r}: {{{text}}}: behind ':' stands how many characters, e.g. :160")
    if name not in ITEM_FIELDS or (dot and (name != "attributes" or not key)):
        raise InputError(f"item template {template!r}: unknown field {{{text}}}; use one of {_choices()}")
    return _Field(name, key if dot else None, int(limit) if limit else None)


def _choices() -> str:
    return ", ".join(f"{{{name}}}" for name in (*ITEM_FIELDS, "attributes.NAME"))


def _shorten(text: str, limit: int) -> str:
    """The first `limit` characters at most, without a word that is cut (but never nothing)."""
    if len(text) <= limit:
        return text
    cut = text[:limit] if text[limit].isspace() else text[:limit].rpartition(" ")[0] or text[:limit]
    return cut.rstrip()


def _plain(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        if value != value:
            return ""
        return f"{value:.0f}" if value.is_integer() else f"{value:.2f}"
    return str(value).strip()
