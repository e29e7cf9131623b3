"""Devices as part of what a trial is."""

from __future__ import annotations

from typing import Any

import pytest

from tuneoff.config.spec import StudySpec
from tuneoff.errors import StudyError
from tuneoff.planning.loading import parse
from tuneoff.planning.plan import plan, question


def study(methods: Any, **keys: Any) -> StudySpec:
    return parse(
        {"model": "minilm", "task": {"data": "reuters-r8"}, "protocol": {"seeds": 1}, "methods": methods, **keys}
    )


def ids(spec: StudySpec) -> dict[str, str]:
    return {trial.label: trial.id for trial in plan(spec)}


def test_one_device_is_no_part_of_a_trial() -> None:
    plain = study(["lora", "full"])
    assert ids(plain) == ids(study(["lora", "full"], devices=1, shard=False))
    assert question(plain) == question(study(["lora", "full"], devices=1))
    assert "devices" not in question(plain)


def test_several_devices_are_another_trial_and_another_question() -> None:
    one, two = study(["full"]), study(["full"], devices=2)
    assert ids(one) != ids(two)
    assert question(two)["devices"] == 2
    assert [trial.devices for trial in plan(two)] == [2]
    sharded = study(["full"], devices=2, shard=True)
    assert ids(sharded) != ids(two)
    assert question(sharded)["shard"] is True
    assert plan(sharded)[0].shard


def test_a_row_may_say_otherwise_and_stand_twice() -> None:
    spec = study({"lora": {}, "lora-2": {"method": "lora", "devices": 2}})
    assert {trial.label: trial.devices for trial in plan(spec)} == {"lora": 1, "lora-2": 2}
    assert question(spec) == question(study(["lora"]))
    other = study({"lora": {"devices": 1}, "full": {}}, devices=2)
    assert {trial.label: trial.devices for trial in plan(other)} == {"lora": 1, "full": 2}
    assert ids(other)["lora"] == ids(spec)["lora"]


def test_the_same_row_on_the_same_devices_is_refused() -> None:
    with pytest.raises(StudyError, match="same method and configuration as 'lora'"):
        plan(study({"lora": {}, "twin": {"method": "lora", "devices": 2}}, devices=2))


def test_what_uses_no_model_runs_on_one_device() -> None:
    spec = study({"majority": {}, "full": {"shard": True}}, devices=2)
    assert {trial.label: (trial.devices, trial.shard) for trial in plan(spec)} == {
        "majority": (1, False),
        "full": (2, True),
    }
    assert ids(spec)["majority"] == ids(study(["majority"]))["majority"]


def test_sharding_is_refused_where_it_cannot_be() -> None:
    with pytest.raises(StudyError, match="several devices; set devices too"):
        plan(study(["full"], shard=True))
    with pytest.raises(StudyError, match="lora cannot be sharded; full can"):
        plan(study({"full": {}, "lora": {}}, devices=2, shard=True))
