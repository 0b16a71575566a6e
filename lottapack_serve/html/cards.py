"""A model card as HTML: Markdown by markdown-it-py, sanitised by nh3, with links into the repository.

Only the tags, attributes and schemes listed here remain. Pictures come from the repository itself: others would tell
their server who reads the card, so their alternative text is shown instead. Characters and lines are limited, and with
them time: the worst cards that the tests know take about a second of a processor.
"""

import functools
import posixpath
import re
from collections.abc import Sequence
from typing import Final
from urllib.parse import quote, unquote, urlsplit

import nh3
from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.token import Token
from markupsafe import Markup

from lottapack_serve import cards

LONGEST: Final = 64 * 2**10
"""The characters of a card that are shown; the rest is in the file."""
MOST_LINES: Final = 4096
"""The lines of a card that are shown: the parser visits each up to twenty times, once for each quote around it."""
LONGEST_FILE: Final = 3 * LONGEST
"""The characters of a README.md that are read: its front matter has at most as many as are shown."""
LONGEST_HTML: Final = 2**20
"""The characters of HTML up to which a card is shown as a page, and beyond which as text."""

_TAGS: Final = frozenset(
    {
        *("a", "abbr", "b", "blockquote", "br", "caption", "center", "cite", "code", "col", "colgroup", "dd", "del"),
        *("details", "dfn", "div", "dl", "dt", "em", "figcaption", "figure", "h1", "h2", "h3", "h4", "h5", "h6", "hr"),
        *("i", "img", "ins", "kbd", "li", "mark", "ol", "p", "pre", "q", "rp", "rt", "ruby", "s", "samp", "small"),
        *("span", "strike", "strong", "sub", "summary", "sup", "table", "tbody", "td", "tfoot", "th", "thead", "tr"),
        *("tt", "u", "ul", "var", "wbr"),
    }
)
_ATTRIBUTES: Final = {
    "*": {"title"},
    "a": {"href"},
    "img": {"src", "alt", "width", "height"},
    "ol": {"start"},
    "details": {"open"},
    **{tag: {"align"} for tag in ("div", "p", "h1", "h2", "h3", "h4", "h5", "h6")},
    **{tag: {"align", "colspan", "rowspan"} for tag in ("td", "th")},
}
_SCHEMES: Final = frozenset({"http", "https", "mailto"})
_LINE_END: Final = re.compile("\r\n?|\n")
_SIZES: Final = re.compile(r"[0-9]{1,4}%?", re.ASCII)
_ALIGN: Final = re.compile(r"text-align:(left|center|right)")
_DIRECTIONS: Final = re.compile("[\u202a-\u202e\u2066-\u2069]")
"""Characters that change the direction of what follows: a name could show as another one."""


def page(text: str, address: str, commit: str) -> Markup:
    """Return the text of a README.md below its front matter as HTML. ``address``: that of the repository."""
    body = cards.body(text)
    lines = _LINE_END.split(body[:LONGEST], MOST_LINES)
    shown = "\n".join(lines[:MOST_LINES])
    html = nh3.clean(
        _markdown().render(shown),
        tags=set(_TAGS),
        attributes={tag: set(names) for tag, names in _ATTRIBUTES.items()},
        attribute_filter=functools.partial(_attribute, address, commit),
        url_schemes=set(_SCHEMES),
        link_rel="nofollow noopener noreferrer",
    )
    if len(html) > LONGEST_HTML:
        html = str(Markup("<pre>{}</pre>").format(shown))
    made = Markup(_DIRECTIONS.sub("\ufffd", html))
    if len(body) > LONGEST or any(lines[MOST_LINES:]):
        made += Markup("<p><strong>{}</strong></p>").format("The card is longer; the rest is in the file.")
    return made


@functools.cache
def _markdown() -> MarkdownIt:
    parser = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])
    for name in ("heading_open", "heading_close", "th_open", "td_open"):
        parser.add_render_rule(name, _token)
    return parser


def _token(self: RendererHTML, tokens: Sequence[Token], number: int, options: object, _env: object) -> str:
    """Render headings two levels below the page's own, and alignment without a style."""
    token = tokens[number]
    if token.type.startswith("heading"):
        token.tag = f"h{min(int(token.tag[1]) + 2, 6)}"
    aligned = _ALIGN.fullmatch(str(token.attrs.pop("style", "")))
    if aligned:
        token.attrs["align"] = aligned[1]
    return self.renderToken(tokens, number, options, {})  # type: ignore[arg-type]


def _attribute(address: str, commit: str, _tag: str, name: str, value: str) -> str | None:
    """Return the value that an attribute keeps, or None to leave it out."""
    if name == "href":
        return _link(value, address, commit)
    if name == "src":
        return _file(value, address, commit)
    if name in ("width", "height", "colspan", "rowspan", "start"):
        return value if _SIZES.fullmatch(value) else None
    return value


def _link(value: str, address: str, commit: str) -> str | None:
    parts = _parts(value)
    if parts is None:
        return None
    scheme, host, path = parts
    if scheme:
        return value if scheme in _SCHEMES else None
    if host or not path:
        return None
    if path.startswith("/"):  # another page of this registry; browsers read more slashes as another host
        return None if value.startswith("//") else value
    return _file(value, address, commit)


def _file(value: str, address: str, commit: str) -> str | None:
    """Return the address of a file of the repository, or None for any other address."""
    parts = _parts(value)
    if parts is None or parts[0] or parts[1]:
        return None
    path = posixpath.normpath(unquote(parts[2]))
    if path.startswith(("/", "..")) or path == ".":
        return None
    return f"{address}/resolve/{commit}/{quote(path)}"


def _parts(value: str) -> tuple[str, str, str] | None:
    """Return scheme, host and path of an address, or None for one that browsers could read otherwise."""
    if "\\" in value or any(ord(character) < 33 for character in value):
        return None
    try:
        parts = urlsplit(value)
    except ValueError:
        return None
    return parts.scheme.lower(), parts.netloc, parts.path
