"""Pieces of a Markdown page, and such a page as HTML. Text from elsewhere goes through `tuneoff.encoding`."""

from __future__ import annotations

from collections.abc import Sequence


def grid(heads: Sequence[str], rows: Sequence[Sequence[str]], align: str = "---:") -> str:
    """Returns a table; its first column is aligned left, `align` says how the others are."""
    lines = [f"| {' | '.join(heads)} |", f"| {' | '.join([':---', *[align] * (len(heads) - 1)])} |"]
    return "\n".join([*lines, *(f"| {' | '.join(cells)} |" for cells in rows)])


def to_html(page: str) -> str:
    """Turns a part of our Markdown pages into HTML, for a place under a heading of level three.

    Nothing becomes a link, an image or a tag that is not ours, and no element has a style of its own, which a strict
    content-security policy would refuse. Columns have scopes, and the first cell of a table's row is its heading.
    """
    from markdown_it import MarkdownIt

    parser = MarkdownIt("commonmark", {"html": False}).enable("table")
    parser.disable(["link", "image", "autolink", "html_inline", "html_block", "reference"])
    tokens = parser.parse(page)
    for before, token in zip([None, *tokens], tokens, strict=False):
        if token.type.startswith("heading_"):
            token.tag = "h4"
        if token.type in ("th_open", "td_open"):
            if token.attrs.pop("style", "") == "text-align:right":
                token.attrs["class"] = "number"
            if token.type == "th_open":
                token.attrs["scope"] = "col"
            elif before is not None and before.type == "tr_open":
                token.tag, token.attrs["scope"] = "th", "row"
    # A cell is three tokens: its beginning, its text, its end.
    for opening, closing in zip(tokens, tokens[2:], strict=False):
        if opening.type == "td_open":
            closing.tag = opening.tag
    html = str(parser.renderer.render(tokens, parser.options, {}))
    wide = '<div class="wide" tabindex="0" role="group" aria-label="table"><table>'
    return html.replace("<table>", wide).replace("</table>", "</table></div>")
