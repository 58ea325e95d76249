"""Takes HTML out of a catalogue's texts: entities are decoded, tags dropped, and text that is no markup stays.

Feeds carry what a shop's editor wrote: `Oak &amp; Lamp`, `<b>New</b>`, escaped once or several times. Left in, `nbsp`,
`amp` and `strong` become words of titles, of embedded texts and of generated queries. Not an HTML parser: those drop
what looks like a tag (`size<medium`, `<NEW> sofa`, an unclosed `<b`), and how much depends on the Python release, while
a catalogue's text must not lose a word. So a tag counts only when it names an element of HTML and is written as one;
`a < b`, `5" < 7"`, `<3` and `AT&T` are text.
"""

import re
from html import unescape
from html.entities import html5
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

MAX_PASSES = 100  # texts escaped or nested deeper are none that any tool writes

_INLINE = re.compile(  # elements inside a line
    r"a|abbr|acronym|b|basefont|bdi|bdo|big|cite|code|data|del|dfn|em|font|i|ins|kbd|label|mark|q|rb|rp|rt"
    r"|rtc|ruby|s|samp|small|span|strike|strong|sub|sup|time|tt|u|var|wbr"
)
_BLOCK = re.compile(  # elements that start a line, or stand for themselves
    r"address|applet|area|article|aside|audio|base|blockquote|body|br|button|canvas|caption|center|col"
    r"|colgroup|datalist|dd|details|dialog|dir|div|dl|dt|embed|fieldset|figcaption|figure|footer|form"
    r"|frame|frameset|h1|h2|h3|h4|h5|h6|head|header|hgroup|hr|html|iframe|img|input|legend|li|link|main"
    r"|map|menu|meta|meter|nav|noembed|noframes|noscript|object|ol|optgroup|option|output|p|param|picture"
    r"|pre|progress|script|section|select|slot|source|style|summary|svg|table|tbody|td|template|textarea"
    r"|tfoot|th|thead|title|tr|track|ul|video"
)
_FLAGS = (
    "allowfullscreen|async|autofocus|autoplay|checked|compact|controls|default|defer|disabled|hidden|ismap|itemscope|loop"
    "|multiple|muted|nohref|noresize|noshade|novalidate|nowrap|open|playsinline|readonly|required|reversed|selected"
)
_ATTRIBUTE = rf"(?:(?:{_FLAGS})(?=[\s/>])|[a-z_:@][\w:.@-]*\s*=\s*(?:\"[^\"]*\"|'[^']*'|[^\s\"'=<>`]+))"
# A tag well written; or one that has an attribute with a value, however badly that is quoted. Word writes `<o:p>`.
_TAG = re.compile(
    rf"</?(?P<name>[a-z][a-z0-9]*|(?:o|v|w|m|st1):[a-z][a-z0-9]*)(?:(?:\s+{_ATTRIBUTE})*\s*/?|\s[^<>]*=\s*[\"'][^<>]*)>",
    re.IGNORECASE,
)
_DECLARED = re.compile(r"<!doctype\s[^<>]*>|<\?(?:xml|php)\s[^<>]*>", re.IGNORECASE)
_ENCLOSED = [  # (from … to, its end, what is shown of it)
    (re.compile(rf"{start}(.*?){end}", re.IGNORECASE | re.DOTALL), re.compile(end, re.IGNORECASE), shown)
    for start, end, shown in (
        (r"<script(?:\s[^<>]*)?>", r"</script\s*>", " "),
        (r"<style(?:\s[^<>]*)?>", r"</style\s*>", " "),
        (r"<!--", r"-->", " "),
        (r"<!\[CDATA\[", r"\]\]>", r"\1"),
    )
]
_AMPERSANDS = re.compile(r"&(?:(?:amp|#0*38|#x0*26);)+", re.IGNORECASE)  # escaped any number of times: `&amp;amp;`
_ENTITY = re.compile(
    r"&(?:#[0-9]{1,7};|#[xX][0-9a-fA-F]{1,6};|(?P<name>[A-Za-z][A-Za-z0-9]{1,31};)|(?:nbsp|amp|quot|lt|gt)(?![\w=;]))"
)
_SPACES = str.maketrans({"\u00a0": " ", "\u2007": " ", "\u202f": " ", "\u00ad": None, "\u200b": None})
_MARK = re.compile(r"[<&]")


def plain(text: str) -> str:
    """The text as a browser shows it; unchanged when it holds no markup. plain(plain(text)) == plain(text).

    Elements that start a line (`<br>`, `<p>`, `<li>`, …) become a space, scripts, styles and comments go with what they
    hold. Decoded no-break spaces become spaces. Where markup was taken out, runs of spaces become one.
    """
    if not _MARK.search(text):
        return text
    for _ in range(MAX_PASSES):
        read = _once(text)
        if read == text:
            break
        text = _tidy(read)
    return text


def plain_column(column: pa.Array) -> pa.Array:
    """`plain` of each text of a string column; null stays null. Only rows that hold `<` or `&` are looked at."""
    suspect = pc.fill_null(pc.match_substring_regex(column, "[<&]"), False)
    if not pc.any(suspect).as_py():
        return column
    texts = pa.array([plain(text) for text in column.filter(suspect).to_pylist()], column.type)
    return pc.replace_with_mask(column, suspect, texts)


def plain_record(record: dict[str, Any]) -> dict[str, Any]:
    """An item (as `Catalogue.records` gives it) with `plain` texts and attribute values; the title may be empty."""
    texts = {name: plain(value) for name, value in record.items() if isinstance(value, str) and name != "item_id"}
    attributes = {key: plain(value) for key, value in record["attributes"].items()}
    return record | texts | {"attributes": attributes}


def _once(text: str) -> str:
    for enclosed, end, shown in _ENCLOSED:
        ends = [found.end() for found in end.finditer(text)]
        if (
            ends
        ):  # nothing is looked for behind the last end: texts full of starts would take the square of their length
            text = enclosed.sub(shown, text[: ends[-1]]) + text[ends[-1] :]
    text = _DECLARED.sub(" ", text)
    text = _TAG.sub(_without_tag, text)
    return _ENTITY.sub(_decoded, _AMPERSANDS.sub(_one_ampersand, text))


def _tidy(text: str) -> str:
    """One space for a run of them, no spaces around line ends nor at the ends."""
    return re.sub(r"\s*\n\s*", "\n", re.sub(r"[^\S\n]+", " ", text)).strip()


def _without_tag(tag: re.Match[str]) -> str:
    name = tag["name"].lower()
    if ":" in name or _INLINE.fullmatch(name):
        return ""
    return " " if _BLOCK.fullmatch(name) else tag[0]


def _one_ampersand(entity: re.Match[str]) -> str:
    """`&amp;amp;nbsp;` is `&nbsp;`, `&amp;amp;` is `&`."""
    return "&"


def _decoded(entity: re.Match[str]) -> str:
    if entity["name"] and entity["name"] not in html5:
        return entity[0]
    return unescape(entity[0]).translate(_SPACES)
