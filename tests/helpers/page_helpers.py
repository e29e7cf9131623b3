"""Made-up studies whose report is looked at as a page, and what a page must never do."""

from __future__ import annotations

import base64
import hashlib
import re
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from record_helpers import (
    WRITERS,
    Level,
    World,
    build_store,
    predictions,
    small_study,
    writing_study,
    written_predictions,
)
from tuneoff.config.spec import PublishedSpec
from tuneoff.records.record import Utilisation
from tuneoff.store import StudyStore

LABEL = "</script><script>window.pwned=1</script><img src=x onerror=window.pwned=1>\" on='"
EVIL = f"{LABEL} </style> [x](http://evil.example) <!-- {{{{7*7}}}} &lt;b> \u202e"
LEVELS = {
    "majority": Level(0.5, head=0, stored=0),
    "full": Level(0.93, 30.0, 900 << 20, base=1_000_000),
    "lora": Level(0.93, 8.0, adapter=147_456),
    "head": Level(0.6, 3.0, 400 << 20, stored=7000),
}


def page_store(folder: Path, seeds: int = 2, **world: Any) -> StudyStore:
    """A study of two equals, a weaker arm and a baseline."""
    study = small_study("majority", "full", "lora", "head", seeds=seeds)
    return build_store(folder / "study", study, World(**{"levels": LEVELS, **world}))


USE = Utilisation(
    interval_seconds=1.0,
    seconds=tuple(float(second) for second in range(30)),
    process_cpu_percent=tuple(100.0 + second for second in range(30)),
    resident_bytes=tuple((500 + second) << 20 for second in range(30)),
)


def classified_store(folder: Path) -> StudyStore:
    """A study of six seeds whose trials kept the texts that they answered wrongly, and sampled the machine."""

    def kept(spec: Any, accuracy: float, rows: int) -> list[Any]:
        return [
            p.model_copy(
                update={"scores": (-0.1, -2.0), "source": f"Message {p.index} on trade." * (p.output != p.target)}
            )
            for p in predictions(spec, accuracy, rows)
        ]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("record_helpers.predictions", kept)
        return page_store(folder, seeds=6, changes={label: {"utilisation": USE} for label in LEVELS})


def hostile_store(folder: Path) -> StudyStore:
    """A study whose labels, texts and citation try to be more than text."""
    labels = {f"{LABEL} {at}": {"method": "lora", "learning_rate": 1e-4 * (at + 1)} for at in range(5)}

    def odd(spec: Any, level: Level, rows: int) -> list[Any]:
        return [
            p.model_copy(update={"output": f"{EVIL} \x1b[31m", "source": EVIL})
            for p in written_predictions(spec, level, rows)
        ]

    study = writing_study("lead", arms=labels).model_copy(
        update={
            "description": f"![x](http://evil.example) {EVIL}",
            "published": PublishedSpec(citation=EVIL, notes=(EVIL,), figures={LABEL: {"accuracy_percent": 1.0}}),
        }
    )
    levels = {"lead": WRITERS["lead"], **{label: Level(0.3) for label in labels}}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("record_helpers.written_predictions", odd)
        return build_store(folder / "study", study, World(levels=levels, test_rows=30))


def many_arms_store(folder: Path, arms: int, seeds: int) -> StudyStore:
    """A study of many arms, whose differences are small."""
    labels = {f"lora-{at:03}": {"method": "lora", "learning_rate": 1e-4 + 1e-6 * at} for at in range(arms)}
    levels = {label: Level(0.8 + 0.1 * (at % 7) / 7, 5.0 + at) for at, label in enumerate(labels)}
    return build_store(folder / "many", small_study(arms=labels, seeds=seeds), World(levels=levels, test_rows=40))


VOID = {"meta", "link", "input", "br", "img", "hr"}


class Page(HTMLParser):
    """A page taken apart: its elements with their attributes and texts; fails where a tag is not closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.contents: dict[str, str] = {}
        """Text of the style, the script, and `data`: what the script reads."""
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert not self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len(dict(attrs)) == len(attrs)
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] in ("script", "style"):
            is_data = self.elements[-1][1].get("type") == "application/json"
            name = "data" if is_data else self._open[-1]
            self.contents[name] = self.contents.get(name, "") + data
        else:
            self.texts.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


def check_is_safe(text: str) -> Page:
    """Nothing of the page is obeyed but its own style and script, and nothing is loaded."""
    page = Page(text)
    counts = Counter(tag for tag, _ in page.elements)
    assert (counts["script"], counts["style"]) == (2, 1)
    assert [script.get("type") for script in page.all("script")] == ["application/json", None]
    assert not counts.keys() & {"img", "iframe", "object", "embed", "form", "base", "foreignobject", "image", "animate"}
    policy = next(str(meta["content"]) for meta in page.all("meta") if "http-equiv" in meta)
    for name in ("script", "style"):
        digest = base64.b64encode(hashlib.sha256(page.contents[name].encode()).digest()).decode()
        assert f"{name}-src 'sha256-{digest}'" in policy
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    for tag, attributes in page.elements:
        assert not [key for key in attributes if key.startswith("on") or key in ("style", "src", "srcset", "action")], (
            tag
        )
        for key in ("href", "xlink:href"):
            value = attributes.get(key) or "#"
            assert value.startswith("#") or (tag, value) == ("link", "data:,")
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    used = {
        found for _, a in page.elements for value in a.values() for found in re.findall(r"url\(#([^)]+)\)", value or "")
    }
    used |= {str(a["href"])[1:] for tag, a in page.elements if tag in ("use", "a")}
    used |= {str(a["aria-labelledby"]) for _, a in page.elements if "aria-labelledby" in a}
    assert used <= set(ids)
    return page
