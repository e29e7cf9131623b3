"""What the documentation says is true: examples run, every key is described."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from pydantic import BaseModel

from tuneoff import registry
from tuneoff.config import base, data, execution, protocol, spec
from tuneoff.config.execution import ExecutionSpec
from tuneoff.config.protocol import Protocol
from tuneoff.interfaces import Method, Rows, Task, TaskView
from tuneoff.planning import loading
from tuneoff.records import record
from tuneoff.registry import Registry

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"


HOMES = (record, base, data, execution, protocol, spec)


def blocks(page: str, language: str) -> list[str]:
    """The code blocks of a page in one language."""
    text = (DOCS / page).read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```$", text, flags=re.DOTALL | re.MULTILINE)


def install(page: str, name: str, folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes a page's example a third party's plug-in, through a faked entry point."""
    module = f"example_{name}"
    (tmp_path / f"{module}.py").write_text(blocks(page, "python")[0], encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    point = EntryPoint(name, f"{module}:plugin", f"tuneoff.{folder}")
    monkeypatch.setattr(registry, "entry_points", lambda group: [point] if group == point.group else [])
    monkeypatch.delitem(sys.modules, module, raising=False)


def tiny_bert(labels: int) -> Any:
    from transformers import BertConfig, BertForSequenceClassification

    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=60,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=40,
        num_labels=labels,
    )
    return BertForSequenceClassification(config).eval()


def test_the_example_method_attaches_to_a_tiny_bert(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install("add-a-method.md", "norms", "methods", tmp_path, monkeypatch)
    methods: Registry[type[Method[Any]]] = Registry("methods", "method")
    assert "norms" in methods
    model = tiny_bert(3)
    scales = 5 * 16  # two norms per block and one after the embeddings
    head = 16 * 3 + 3
    for shifts, expected in ((True, 2 * scales + head), (False, scales + head)):
        attached = methods["norms"].create({"shifts": shifts}).attach(model, TaskView(("classifier",), "SEQ_CLS"))  # type: ignore[attr-defined]
        trained = {name: p for name, p in attached.module.named_parameters() if p.requires_grad}
        assert sum(p.numel() for p in trained.values()) == expected
        assert all("LayerNorm" in name or name.startswith("classifier.") for name in trained)


def test_the_example_method_saves_and_loads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install("add-a-method.md", "norms", "methods", tmp_path, monkeypatch)
    method: Any = Registry[Any]("methods", "method")["norms"].create({})
    view = TaskView(("classifier",), "SEQ_CLS")
    ids = torch.tensor([[2, 5, 7, 3]])
    trained = method.attach(tiny_bert(3), view)
    with torch.no_grad():
        for parameter in trained.module.parameters():
            if parameter.requires_grad:
                parameter.add_(0.1)
    (tmp_path / "weights").mkdir()
    method.save(trained, tmp_path / "weights")
    fresh = method.attach(tiny_bert(3), view)
    before = fresh.model(input_ids=ids).logits
    method.load(fresh, tmp_path / "weights")
    assert torch.equal(fresh.model(input_ids=ids).logits, trained.model(input_ids=ids).logits)
    assert not torch.equal(before, trained.model(input_ids=ids).logits)


class Words:
    """A tokenizer of words, each its length."""

    def __call__(self, text: str, truncation: bool = False, max_length: int = 0) -> dict[str, list[int]]:
        ids = [2, *(4 + min(len(word), 50) for word in text.split()), 3]
        return {"input_ids": ids[:max_length] if truncation else ids}


def test_the_example_task_goes_its_whole_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install("add-a-task.md", "ordinal", "tasks", tmp_path, monkeypatch)
    tasks: Registry[type[Task]] = Registry("tasks", "task")
    task = tasks["ordinal"]({"text": "review", "grade": "stars"})
    rows = Rows({"review": ["good stuff", "bad", "very very good stuff"], "stars": ["5", "1", "10"]}, "reviews.csv")
    examples = task.examples(rows, task.columns(rows), "train")
    task.fit({"train": examples})
    assert task.labels == ("1", "5", "10")
    model = tiny_bert(3)
    method: Any = Registry[Any]("methods", "method")["head"].create({})
    attached = method.attach(model, task.view(model))
    features = task.encode(examples, Words(), 5)
    assert [(len(f.input_ids), f.length) for f in features] == [(4, 4), (3, 3), (5, 6)]
    batch = task.collate(features, 0)
    logits = task.forward(attached, batch)
    assert torch.allclose(logits[1:2], task.forward(attached, task.collate(features[1:2], 0)), atol=1e-5)
    predictions = task.outcome(logits, {}, examples)
    metrics = {metric.name: metric for metric in task.score(predictions, "test")}
    assert list(metrics) == [metric.name for metric in task.metrics]
    assert metrics["loss"].value == pytest.approx(float(task.loss(logits, batch).detach()) / 3, abs=1e-5)
    wrong = [abs(int(p.output) - int(p.target)) for p in predictions]
    assert metrics["mean_absolute_error"].value == pytest.approx(sum(wrong) / 3)


def test_the_study_of_the_example_task_is_a_study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install("add-a-task.md", "ordinal", "tasks", tmp_path, monkeypatch)
    monkeypatch.setattr(registry, "tasks", lambda: Registry("tasks", "task"))
    study = loading.parse(yaml.safe_load(blocks("add-a-task.md", "yaml")[0]))
    assert study.task.options == {"text": "review", "grade": "stars"}


PLUGINS = ROOT / "examples" / "plugin_package"
PAGES = {
    "add-a-method.md": ("methods", "norms"),
    "add-a-task.md": ("tasks", "ordinal"),
    "add-a-metric.md": ("metrics", "grounded"),
    "add-a-source.md": ("sources", "sqlite"),
    "add-a-tracker.md": ("trackers", "table"),
    "add-an-executor.md": ("executors", "idle"),
}


@pytest.mark.parametrize("page", PAGES)
def test_pages_show_the_example_package(page: str) -> None:
    folder, name = PAGES[page]
    code = (PLUGINS / "src" / "tuneoff_examples" / f"{name}.py").read_text(encoding="utf-8")
    assert blocks(page, "python")[0] == code
    project = tomllib.loads((PLUGINS / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    announced = tomllib.loads(blocks(page, "toml")[0])["project"]["entry-points"]
    assert announced == {f"tuneoff.{folder}": project["entry-points"][f"tuneoff.{folder}"]}


def models_within(model: type[BaseModel]) -> set[type[BaseModel]]:
    """A model and every model that its fields hold."""
    found, pending = set(), [model]
    while pending:
        now = pending.pop()
        if now in found:
            continue
        found.add(now)
        for field in now.model_fields.values():
            text = str(field.annotation)
            pending += [k for home in HOMES for n, k in vars(home).items() if _is_model(k) and _names(n, text)]
    return found


def _name(model: type[BaseModel]) -> str:
    return model.__name__


def _is_model(value: Any) -> bool:
    return isinstance(value, type) and issubclass(value, BaseModel)


def _names(name: str, text: str) -> bool:
    return re.search(rf"\b{name}\b", text) is not None


MODELS: list[type[BaseModel]] = sorted(models_within(record.TrialRecord), key=_name)


@pytest.mark.parametrize("model", MODELS, ids=_name)
def test_every_key_of_the_record_is_described(model: type[BaseModel]) -> None:
    page = "protocol.md" if model is Protocol else "record.md"
    text = (DOCS / page).read_text(encoding="utf-8")
    if page == "record.md":
        text = text.partition(f"### {model.__name__}\n")[2].partition("\n### ")[0]
    described = set(re.findall(r"^\| `(\w+)` \|", text, flags=re.MULTILINE))
    written = {name for name, field in model.model_fields.items() if not field.exclude}
    assert described >= written, f"{page} lacks keys of {model.__name__}"
    if page == "record.md":
        assert described - set(model.model_fields) <= {"phase", "step", "validation", "finding"}


def test_the_records_models_are_all_found() -> None:
    assert len(MODELS) > 20


def test_every_execution_key_and_protocol_default_is_described() -> None:
    text = (DOCS / "protocol.md").read_text(encoding="utf-8")
    defaults = dict(re.findall(r"^\| `(\w+)` \| ([^|]+) \|", text, flags=re.MULTILINE))
    assert set(ExecutionSpec.model_fields) <= defaults.keys()
    for model in (Protocol(), ExecutionSpec()):
        for key, value in model:
            shown = defaults[key].strip("` ")
            if isinstance(value, bool):
                assert shown == str(value).lower(), key
            elif isinstance(value, (int, float)):
                assert float(shown) == value, key
            elif isinstance(value, str):
                assert shown == value, key


SITE = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))
FENCE = re.compile(r"^( *)```.*?^\1```$", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"\]\((?!https?://)([^)\s#]*)(?:#([^)\s]*))?\)")
PAGE_PATHS = sorted(
    {path for pattern in ("*.md", "docs/*.md", "examples/**/*.md", "benchmarks/**/*.md") for path in ROOT.glob(pattern)}
)


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub and MkDocs make them."""
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    titles = re.findall(r"^#+ (.+)$", text, flags=re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title.strip().lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGE_PATHS, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    for target, anchor in LINK.findall(FENCE.sub("", page.read_text(encoding="utf-8"))):
        place = (page.parent / target).resolve() if target else page
        assert place.exists(), target
        assert not anchor or anchor in anchors(place), f"{target}#{anchor}"


def test_the_site_leads_to_every_page() -> None:
    """A new page of docs/ belongs into the `nav` of mkdocs.yml; studies of benchmarks/ are reached by links."""
    named = [page for part in SITE["nav"] for page in ([part] if isinstance(part, str) else next(iter(part.values())))]
    pages = [path.relative_to(ROOT).as_posix() for path in PAGE_PATHS]
    assert sorted(named) == sorted(page for page in pages if not page.startswith("benchmarks/"))


@pytest.mark.slow
def test_the_site_builds_without_a_warning_and_without_a_network(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path / "site")]
    nowhere = {f"{name}_proxy": "http://127.0.0.1:9" for name in ("http", "https", "all")}
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env={**os.environ, **nowhere})
    assert done.returncode == 0, done.stdout + done.stderr
    built = {path.relative_to(tmp_path / "site").as_posix() for path in (tmp_path / "site").rglob("*.html")}
    assert built >= {"index.html", "docs/protocol.html", "docs/reference.html", "examples/plugin_package/index.html"}
    reference = (tmp_path / "site/docs/reference.html").read_text(encoding="utf-8")
    assert all(word in reference for word in ("recommend", "parameter_groups", "SourceUnreachable", "MethodContract"))
    assert not re.search(r'src="https?://|<link[^>]* href="https?://', reference), "nothing is loaded from elsewhere"


def test_the_tours_studies_are_studies() -> None:
    text = (DOCS / "tour.md").read_text(encoding="utf-8")
    examples = re.findall(r"^```yaml\n(.*?)^```$", text, flags=re.DOTALL | re.MULTILINE)
    classes, texts = (loading.parse(loading.read_yaml(example)[0]) for example in examples)
    assert classes.methods["lora wide"].learning_rate == 5e-4
    assert classes.task.data.test is None
    assert texts.task.options["template"] == "{source}\n\nSummary: "


def test_the_page_of_methods_lists_every_method_and_published_comparison() -> None:
    text = (DOCS / "methods.md").read_text(encoding="utf-8")
    listed = set(re.findall(r"^\| `([\w-]+)` \|", text, flags=re.MULTILINE))
    published = {name for name in loading.recipe_names() if not name.startswith("quickstart")}
    assert listed == {*registry.methods(), *published}


def test_the_page_of_tasks_lists_every_further_quickstart() -> None:
    text = (DOCS / "tasks.md").read_text(encoding="utf-8")
    listed = set(re.findall(r"^\| `(quickstart-[\w-]+)` \|", text, flags=re.MULTILINE))
    assert listed == {name for name in loading.recipe_names() if name.startswith("quickstart-")}


def test_the_readme_names_what_the_makefile_has_and_both_quickstarts_figures() -> None:
    text, makefile = ((ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "Makefile"))
    targets = set(re.findall(r"^make (\w+)", text, flags=re.MULTILINE))
    assert targets == {"quickstart", "test"}
    assert all(re.search(rf"^{target}:", makefile, flags=re.MULTILINE) for target in targets)
    assert len(text) < 7_100, "details belong on the pages of docs/"
    for page, recipe in (("README.md", "quickstart"), ("docs/tour.md", "quickstart-summarize")):
        arms = set(loading.load(recipe).methods)
        listed = re.findall(r"^\| `([\w-]+)` \|", (ROOT / page).read_text(encoding="utf-8"), flags=re.MULTILINE)
        assert set(listed) == arms
