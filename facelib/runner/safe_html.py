"""HTML of a notebook's outputs for the site: tables and text; nothing that runs or is fetched."""

import html
from html.parser import HTMLParser

TEXT = ("div", "span", "p", "pre", "code", "b", "i", "em", "strong", "br")
TABLE = ("table", "caption", "thead", "tbody", "tfoot", "tr", "th", "td")
ATTRIBUTES = ("class", "colspan", "rowspan", "halign", "valign")


class _Cleaner(HTMLParser):
    """Writes anew what is allowed; everything else is left out, its text escaped."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.parts: list[str] = []
        self.inside = ""  # a style sheet or script, whose text is left out too

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in ("style", "script"):
            self.inside = tag
        if tag in TEXT + TABLE:
            kept = (f' {k}="{html.escape(v or "")}"' for k, v in attrs if k in ATTRIBUTES)
            self.parts.append(f"<{tag}{''.join(kept)}>")

    def handle_endtag(self, tag: str) -> None:
        if tag == self.inside:
            self.inside = ""
        if tag in TEXT + TABLE and tag != "br":
            self.parts.append(f"</{tag}>")

    def handle_data(self, data: str) -> None:
        if not self.inside:
            self.parts.append(html.escape(data))


def clean_html(source: str) -> str:
    """The tables and text of an HTML output."""
    cleaner = _Cleaner()
    cleaner.feed(source)
    cleaner.close()
    return "".join(cleaner.parts)
