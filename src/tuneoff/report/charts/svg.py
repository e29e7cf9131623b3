"""Makes a drawn SVG fit to stand in a page with a strict content-security policy."""

from __future__ import annotations

import re
from xml.etree import ElementTree

FONTS = "DejaVu Sans, Verdana, Arial, sans-serif"
_REFERENCE = re.compile(r"#([\w.-]+)")
_FONT = re.compile(r"(?:(?P<style>italic|oblique) )?(?:(?P<weight>\d+|bold) )?(?P<size>[\d.]+)px ")


def inline(svg: str, name: str, alt: str) -> str:
    """Returns the SVG as an element of an HTML page.

    Styles become attributes, which a policy against inline styles allows. Names inside begin with the chart's, so that
    they are unique in the page; nothing refers to a place outside. Text stays text.

    Args:
        svg: what matplotlib wrote.
        name: the chart's, unique in the page.
        alt: what it shows, in words.
    """
    # matplotlib wrote this text, so nothing in it declares entities.
    root = ElementTree.fromstring(svg)
    for parent in root.iter():
        for child in list(parent):
            if _local(child.tag) in ("metadata", "style"):
                parent.remove(child)
    values = [value for element in root.iter() for value in element.attrib.values()]
    # A colour looks like a reference, too, but no element has its name.
    used = {found for value in values for found in _REFERENCE.findall(value)} & set(values)
    for element in root.iter():
        element.tag = _local(element.tag)
        element.attrib = _attributes(element.attrib, used, name)
    width, height = (root.attrib.pop(side).removesuffix("pt") for side in ("width", "height"))
    # What the style sheet that was removed said of all elements.
    root.attrib = {"viewBox": f"0 0 {width} {height}", "role": "img", "aria-label": alt, "class": "chart"}
    root.attrib |= {"stroke-linejoin": "round", "stroke-linecap": "butt", "font-family": FONTS}
    return ElementTree.tostring(root, encoding="unicode")


def _local(name: str) -> str:
    return name.rpartition("}")[2]


def _attributes(given: dict[str, str], used: set[str], name: str) -> dict[str, str]:
    attributes: dict[str, str] = {}
    for key, value in given.items():
        if key == "style":
            attributes |= _presentation(value)
        elif key != "id":
            attributes[_local(key)] = value
        elif value in used:
            attributes["id"] = f"#{value}"
    renamed = {key: _REFERENCE.sub(lambda found: _rename(found, used, name), v) for key, v in attributes.items()}
    if "id" in renamed:
        renamed["id"] = renamed["id"].removeprefix("#")
    return renamed


def _rename(found: re.Match[str], used: set[str], name: str) -> str:
    return f"#{name}-{found[1]}" if found[1] in used else found[0]


def _presentation(style: str) -> dict[str, str]:
    """Returns the attributes that say what a style says; the font is the page's."""
    attributes: dict[str, str] = {}
    for declaration in style.split(";"):
        key, _, value = (part.strip() for part in declaration.partition(":"))
        if key == "font" and (font := _FONT.match(value)) is not None:
            attributes |= {f"font-{part}": text for part, text in font.groupdict().items() if text}
        elif key and key not in ("font", "font-family"):
            attributes[key] = value
    return attributes
