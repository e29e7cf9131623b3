"""A trial of a model that others run: what it records, and how it goes on."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from endpoint_helpers import KEY, Failure, StandInEndpoint, answering
from series_helpers import write_series
from trial_helpers import PAIRS, MakePlace, forecast_of, make_study, write_csv
from tuneoff.analysis.money import with_money
from tuneoff.config.spec import PricesSpec, TokenPrices
from tuneoff.errors import EndpointError, StudyError
from tuneoff.methods import _endpoint_client
from tuneoff.planning.loading import parse
from tuneoff.planning.plan import plan
from tuneoff.records.record import Status, TrialRecord
from tuneoff.store import TrialStore
from tuneoff.trial import early
from tuneoff.trial.run import run

pytest_plugins = ("trial_fixtures",)
pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def server() -> Iterator[StandInEndpoint]:
    with answering(lambda prompt: "trade" if "oil" in prompt or "price" in prompt else "sport") as stand_in:
        yield stand_in


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_endpoint_client, "FIRST_WAIT_SECONDS", 0.005)


def finish(place: TrialStore) -> TrialRecord:
    return run(place, "cpu", time.perf_counter(), commit="abc123")


def nulls(value: Any, path: str = "") -> Iterator[str]:
    if isinstance(value, dict):
        for key, item in value.items():
            yield from nulls(item, f"{path}.{key}" if path else key)
    elif value is None:
        yield path


def test_a_trial_answers_the_test_rows_and_records_what_it_took(server: StandInEndpoint, make_place: MakePlace) -> None:
    place = make_place("endpoint", {"url": server.url, "model": "m", "examples": 2})
    record = finish(place)
    assert record.status is Status.COMPLETED
    assert place.record() == record
    rows = record.data.splits["test"].rows  # type: ignore[union-attr]
    assert {metric.name for metric in record.metrics} == {"accuracy", "macro_f1", "mcc"}
    assert {metric.split for metric in record.metrics} == {"test"}
    predictions = place.predictions()
    assert predictions is not None
    assert len(predictions) == len(server.bodies) == rows
    assert all(len(body["messages"]) == 1 + 2 * 2 + 1 for body in server.bodies)
    served = record.served
    assert served is not None
    assert (served.requests, served.input_tokens, served.output_tokens) == (rows, 7 * rows, 2 * rows)
    assert record.inference.latency_seconds_median is not None
    assert record.inference.latency_examples == rows
    assert any(finding.name == "network_latency" for finding in record.findings)
    place.verify(record)


@pytest.mark.parametrize("usage", [{"prompt_tokens": 7, "completion_tokens": 2}, None])
@pytest.mark.parametrize("task", ["class", "text"])
def test_what_does_not_exist_here_is_null_with_a_reason(
    task: str, usage: dict[str, int] | None, server: StandInEndpoint, make_place: MakePlace, tmp_path: Path
) -> None:
    server.usage = usage
    changes: dict[str, Any] = {}
    if task == "text":
        changes = {
            "data": write_csv(tmp_path / "pairs.csv", PAIRS, header=("article", "summary")),
            "task": {"name": "generation", "max_target_length": 6},
        }
    record = finish(make_place("endpoint", {"url": server.url, "model": "m"}, **changes))
    assert record.parameters is None
    assert record.stored_bytes is None
    assert record.memory.peak_memory_bytes is None
    assert "runs elsewhere" in record.missing["parameters"]
    assert "runs elsewhere" in record.missing["memory.peak_memory_bytes"]
    body = record.model_dump(mode="json", exclude={"spec", "curve", "metrics"})
    unexplained = [
        name for name in nulls(body) if not any(name == key or name.startswith(f"{key}.") for key in record.missing)
    ]
    assert unexplained == []
    assert all(record.missing.get(name) for name in nulls(body.get("served")) if f"served.{name}" not in record.missing)


def test_a_trial_that_was_cut_off_goes_on_and_pays_nothing_twice(
    server: StandInEndpoint, make_place: MakePlace
) -> None:
    place = make_place("endpoint", {"url": server.url, "model": "m", "concurrency": 1})
    server.failures = []
    say = server.say

    def fail_fourth(prompt: str) -> str:
        if len(server.bodies) == 3:
            server.failures = [Failure(401)]
        return say(prompt)

    server.say = fail_fourth
    with pytest.raises(EndpointError, match="HTTP 401"):
        finish(place)
    assert (len(server.bodies), len(place.replies.read())) == (4, 3)
    server.say = say
    place.begin_attempt()
    record = finish(place)
    rows = record.data.splits["test"].rows  # type: ignore[union-attr]
    assert len(server.bodies) == rows + 1
    server.close()  # what was answered is never asked again
    place.record_path.unlink()
    place.begin_attempt()
    assert finish(place).metrics == record.metrics


def test_another_seed_asks_only_what_no_trial_was_told(
    server: StandInEndpoint, bert_folder: Path, news_csv: Path, tmp_path: Path
) -> None:
    options = {"url": server.url, "model": "m"}
    study = make_study(bert_folder, news_csv, {"endpoint": options}, protocol={"seeds": [0, 1]})
    records = []
    for spec in plan(study):
        place = TrialStore(tmp_path / spec.id)
        place.write_spec(spec)
        records.append(finish(place))
        place.verify(records[-1])
    first, second = (record.served for record in records)
    assert first is not None
    assert second is not None
    assert (len(server.bodies), first.found, second.found) == (first.requests, 0, first.requests)
    assert first.input_tokens == second.input_tokens
    assert records[0].metrics == records[1].metrics


@pytest.mark.parametrize("in_series", [True, False])
def test_members_of_a_series_ask_the_same_request_once(
    in_series: bool, server: StandInEndpoint, bert_folder: Path, news_csv: Path, tmp_path: Path
) -> None:
    """Neither the base model nor, zero-shot, the training rows are part of a request."""
    if in_series:
        write_series(tmp_path, "train_rows", {"6": 6, "12": 12})
    served = {}
    for shown in (0, 2):
        for rows in (6, 12):
            options = {"url": server.url, "model": "m", "examples": shown}
            study = make_study(bert_folder, news_csv, {"endpoint": options}, protocol={"train_rows": rows})
            (spec,) = plan(study)
            place = TrialStore(tmp_path / "members" / str(rows) / "trials" / spec.id)
            place.write_spec(spec)
            record = finish(place)
            place.verify(record)
            assert record.served is not None
            served[shown, rows] = record.served
    asked = served[0, 6].requests
    assert served[0, 12].requests == asked
    assert served[0, 12].found == (asked if in_series else 0)
    assert served[2, 12].found == 0, "other solved examples are another request"
    assert len(server.bodies) == (3 if in_series else 4) * asked


def test_tokens_have_their_price(server: StandInEndpoint, make_place: MakePlace) -> None:
    record = finish(make_place("endpoint", {"url": server.url, "model": "m"}))
    rows = record.data.splits["test"].rows  # type: ignore[union-attr]
    tokens = {"m": TokenPrices(input=1_000_000, output=2_000_000)}
    priced = with_money(record, PricesSpec(currency="EUR", million_tokens=tokens))
    assert priced.money.trial == pytest.approx(rows * (7 + 2 * 2))
    assert priced.money.predictions == pytest.approx(1000 * (7 + 2 * 2))
    other = with_money(record, PricesSpec(currency="EUR", device_hour={"cpu": 3600.0}))
    assert other.money.trial is None
    assert other.missing["money.trial"] == "`prices` state no million_tokens for 'm'"


@pytest.mark.parametrize("profile", [False, True])
def test_nothing_is_asked_for_a_forecast(profile: bool, server: StandInEndpoint, make_place: MakePlace) -> None:
    place = make_place("endpoint", {"url": server.url, "model": "m", "concurrency": 2})
    forecast = forecast_of(place.spec(), profile=profile)
    assert server.bodies == []
    assert forecast.test_examples
    assert forecast.seconds["test"] == forecast.test_examples * 0.5
    assert "assumed" in forecast.missing["profile"]


def test_a_key_is_in_nothing_that_is_left(
    server: StandInEndpoint, make_place: MakePlace, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("SOME_KEY", KEY)
    server.say = lambda prompt: f"Bearer {KEY}"
    place = make_place("endpoint", {"url": server.url, "model": "m", "api_key_env": "SOME_KEY"})
    server.failures = [Failure(403, {"error": {"message": f"the key {KEY} is blocked"}})]
    with pytest.raises(EndpointError) as caught:
        finish(place)
    assert KEY not in str(caught.value)
    record = finish(place)
    assert set(server.keys) == {f"Bearer {KEY}"}
    assert record.served is not None
    assert record.served.unparsed == record.served.examples
    files = [path for path in place.folder.rglob("*") if path.is_file()]
    assert {path.name for path in files} >= {"replies.jsonl", "record.json", "predictions-test.jsonl", "events.jsonl"}
    assert [path for path in files if KEY.encode() in path.read_bytes()] == []
    assert KEY not in caplog.text
    assert KEY not in json.dumps(record.model_dump(mode="json"))


def test_a_study_is_refused_before_anything_runs_where_it_could_not_be_asked(
    bert_folder: Path, news_csv: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NO_SUCH_KEY", raising=False)
    endpoint = {"method": "endpoint", "url": "http://127.0.0.1:9/v1", "model": "m", "api_key_env": "NO_SUCH_KEY"}
    raw = {"model": str(bert_folder), "task": {"data": str(news_csv)}, "methods": {"asked": endpoint, "lora": {}}}
    study = parse(raw)
    with pytest.raises(StudyError, match=r"methods\.asked: the environment variable NO_SUCH_KEY") as caught:
        early.refuse_study(study, plan(study), required=True)
    assert "--methods lora" in caught.value.hint
