"""What a judge reads: the rubric, then the query, then the item.

The rubric comes first and is the same for every pair, so that a server's prefix cache holds it. Query and item are
delimited data: every character that could end a delimiter or start a chat role is escaped, so text from a catalogue
can't speak to the judge. The label is the first token of the answer: "4", "3", "2" or "1".
"""

import hashlib
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from taoemb.errors import InputError

LABELS = ("1", "2", "3", "4")  # column g of a probability array is grade g + 1
CHARACTERS_PER_TOKEN = 4
MAX_QUERY_TOKENS = 128
MAX_FIELD_TOKENS = 32  # brand, category and price, each

_PACKAGED = Path(__file__).parent / "rubrics"
_FRAME = "<query>\n{query}\n</query>\n<item>\n{item}\n</item>\nLabel:"
_FRAMED = re.compile(r"<query>\n([^<>]*)\n</query>\n<item>\n([^<>]*)\n</item>\nLabel:")
_FRONT_MATTER = re.compile(r"---\nversion: *([A-Za-z0-9._-]+) *\n---\n(.*)", re.DOTALL)
# Control words of chat formats that use square brackets, e.g. [INST]; angle brackets are always escaped.
_BRACKETED = re.compile(r"\[(?=/?g?[A-Z_]{3,}\])")
_ESCAPED = {"&lt;": "<", "&gt;": ">", "&#91;": "[", "&amp;": "&"}
_ENTITY = re.compile("|".join(re.escape(entity) for entity in _ESCAPED))


@dataclass(frozen=True)
class Rubric:
    """Instructions of a judge. `digest` changes with any change to the prompt, so old judgments are not reused."""

    text: str
    version: str
    digest: str


def load_rubric(name_or_path: str | Path) -> Rubric:
    """Read a packaged rubric ("v1") or a rubric file: front matter with `version: NAME`, then the text.

    Raises InputError when the file is missing or has no version or no text.
    """
    path = _PACKAGED / f"{name_or_path}.md"
    if not path.is_file():
        path = Path(name_or_path)
    try:
        content = path.read_text(encoding="utf-8").replace("\r\n", "\n")
    except (OSError, UnicodeDecodeError) as error:
        known = ", ".join(sorted(packaged.stem for packaged in _PACKAGED.glob("*.md")))
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise InputError(f"rubric {str(name_or_path)!r}: {reason}; give a path or one of: {known}") from None
    parts = _FRONT_MATTER.fullmatch(content)
    if parts is None or not parts[2].strip():
        raise InputError(f"rubric {path}: expected '---', 'version: NAME', '---' and then the rubric's text")
    text = parts[2].strip()
    return Rubric(text, parts[1], hashlib.sha256(f"{_FRAME}\0{text}".encode()).hexdigest())


def build_messages(rubric: Rubric, query: str, item: Mapping[str, Any], item_tokens: int) -> list[dict[str, str]]:
    """The conversation for one pair; `item` is a record of the catalogue (see :func:`item_text`)."""
    return frame_messages(rubric, query_text(query), item_text(item, item_tokens))


def frame_messages(rubric: Rubric, query: str, item: str) -> list[dict[str, str]]:
    """The conversation for one pair of ready texts."""
    content = _FRAME.format(query=_escape(query), item=_escape(item))
    return [{"role": "system", "content": rubric.text}, {"role": "user", "content": content}]


def read_messages(messages: Sequence[Mapping[str, Any]]) -> tuple[str, str]:
    """Query and item text of a conversation made by :func:`build_messages`.

    Raises InputError when the last message is not such a prompt.
    """
    content = messages[-1].get("content") if messages else None
    framed = _FRAMED.fullmatch(content) if isinstance(content, str) else None
    if framed is None:
        raise InputError("the last message is not a judge prompt: expected <query>…</query> and <item>…</item>")
    return _unescape(framed[1]), _unescape(framed[2])


def query_text(query: str) -> str:
    """The query as judges read it: one line, at most MAX_QUERY_TOKENS."""
    return _cut(_one_line(query), MAX_QUERY_TOKENS * CHARACTERS_PER_TOKEN)


def item_text(record: Mapping[str, Any], budget: int) -> str:
    """The item as judges read it, a field a line, in about `budget` tokens (4 Latin characters, or 1 CJK, a token).

    The title is never dropped; brand, category and price follow while they fit; attributes (whole entries) and
    description share the rest: what one does not use, the other gets.
    """
    left = budget * CHARACTERS_PER_TOKEN
    lines = [f"title: {_cut(_one_line(_text(record, 'title')), left)}"]
    left -= _cost(lines[0])
    for name in ("brand", "category", "price"):
        value = _price(record) if name == "price" else _one_line(_text(record, name))
        line = f"{name}: {_cut(value, MAX_FIELD_TOKENS * CHARACTERS_PER_TOKEN)}"
        if value and _cost(line) < left:
            lines.append(line)
            left -= _cost(line) + 1
    entries = _attributes(record)
    description = _one_line(_text(record, "description"))
    share = max(left // 2, left - _cost(description) - len("\ndescription: "))
    kept = _whole_entries(entries, share - len("\nattributes: "))
    if kept:
        lines.append(f"attributes: {kept}")
        left -= _cost(lines[-1]) + 1
    shown = _cut(description, left - len("\ndescription: "))
    if shown:
        lines.append(f"description: {shown}")
    return "\n".join(lines)


def _text(record: Mapping[str, Any], name: str) -> str:
    value = record.get(name)
    return "" if value is None else str(value)


def _price(record: Mapping[str, Any]) -> str:
    price = record.get("price")
    if price is None or not math.isfinite(price):
        return ""
    return f"{price:.2f}".removesuffix(".00")


def _attributes(record: Mapping[str, Any]) -> list[str]:
    pairs = record.get("attributes") or {}
    lines = ((_one_line(name.replace("_", " ")), _one_line(str(value))) for name, value in pairs.items() if value)
    return [f"{name}: {value}" for name, value in lines if value]


def _whole_entries(entries: Sequence[str], budget: int) -> str:
    kept: list[str] = []
    for entry in entries:
        cost = _cost(entry) + 2 * bool(kept)
        if cost <= budget:
            kept.append(entry)
            budget -= cost
    return "; ".join(kept)


def _one_line(text: str) -> str:
    """Without line breaks (a field can't pretend to be another one) and without lone surrogates."""
    line = " ".join(text.split())
    return line if line.isascii() else line.encode("utf-8", "replace").decode("utf-8")


def _weight(character: str) -> int:
    """Quarter tokens: 1 Latin, 2 other alphabets, 4 CJK, emoji and the like."""
    return 1 if character < "\u0250" else 2 if character < "\u2e80" else 4


def _cost(text: str) -> int:
    return len(text) if text.isascii() else sum(map(_weight, text))


def _cut(text: str, budget: int) -> str:
    """The beginning of `text` within `budget` quarter tokens, ending at a word where there is one."""
    if _cost(text) <= budget:
        return text
    used, end = 1, 0  # the ellipsis
    for character in text:
        used += _weight(character)
        if used > budget:
            break
        end += 1
    head = text[:end]
    space = head.rfind(" ")
    head = head[:space] if space > end // 2 and not text[end].isspace() else head
    return f"{head.rstrip()}…" if head.strip() else ""


def _escape(text: str) -> str:
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return _BRACKETED.sub("&#91;", text) if "[" in text else text


def _unescape(text: str) -> str:
    return _ENTITY.sub(lambda entity: _ESCAPED[entity[0]], text) if "&" in text else text
