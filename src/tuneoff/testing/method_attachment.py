"""What a method promises of its model: attached, trained, saved, loaded, merged, converted and counted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from tuneoff import registry
from tuneoff.errors import StoreError, UnsupportedModel
from tuneoff.interfaces import Attached, Method
from tuneoff.measure.parameters import BaseIdentity, count
from tuneoff.testing.method_suite import Case, MethodSuite
from tuneoff.testing.settings import Setting, attach, create, step


class AttachmentContract(MethodSuite):
    """Attaching, training, saving, loading, merging and counting."""

    def test_it_says_what_it_is(self, name: str) -> None:
        method = registry.methods()[name]
        assert method.title
        assert method.summary
        assert method.paper
        for reference in method.references:
            assert reference.key.isalnum()
            assert reference.key.isascii()
            assert reference.authors
            assert reference.title
            assert 1900 < reference.year < 2100
        undescribed = [key for key, field in method.Options.model_fields.items() if not field.description]
        assert not undescribed
        if not any(field.is_required() for field in method.Options.model_fields.values()):
            method.create({})
        if method.trains:
            rate = method.learning_rate
            assert 0 < rate.low < rate.center < rate.high

    def test_training_changes_only_what_is_declared(self, case: Case) -> None:
        setting = case.setting
        method, attached = attach(case.method, case.options, setting)
        before = {n: p.detach().clone() for n, p in attached.module.named_parameters()}
        grouped = [id(p) for group in method.parameter_groups(attached, 0.1) for p in group["params"]]
        declared = {n for n, p in attached.module.named_parameters() if p.requires_grad}
        assert sorted(grouped) == sorted({id(p) for p in attached.module.parameters() if p.requires_grad})
        step(setting, method, attached, setting.rate)
        changed = {n for n, p in attached.module.named_parameters() if not torch.equal(p, before[n])}
        assert changed <= declared
        # Keys' biases cannot change attention, and unused vocabulary gets no gradient: nearly all else must move.
        assert len(changed) >= 0.8 * len(declared)
        for head in setting.view(attached.model).head:
            assert any(head in n.split(".") for n in changed)

    def test_what_is_saved_gives_the_same_logits_in_a_fresh_model(self, case: Case, tmp_path: Path) -> None:
        setting = case.setting
        method, attached = attach(case.method, case.options, setting)
        untrained = setting.logits(attached)
        step(setting, method, attached, setting.rate)
        expected = setting.logits(attached)
        assert not torch.allclose(expected, untrained, atol=1e-3)
        method.save(attached, tmp_path)
        again, fresh = attach(case.method, case.options, setting)
        again.load(fresh, tmp_path)
        assert torch.equal(setting.logits(fresh), expected)
        # A checkpoint goes back into the model that it was taken from, too.
        method.load(attached, tmp_path)
        assert torch.equal(setting.logits(attached), expected)

    def test_merging_keeps_the_logits(self, mergeable_case: Case) -> None:
        setting = mergeable_case.setting
        method, attached = attach(mergeable_case.method, mergeable_case.options, setting)
        step(setting, method, attached, setting.rate)
        expected = setting.logits(attached)
        merged = method.merge(attached)
        own = {f"{setting.view(merged).output}.weight"} if attached.extra.get("findings") else set()
        names = {n for n, _ in setting.model().named_parameters()}
        assert {n for n, _ in merged.named_parameters()} == names | own
        torch.testing.assert_close(setting.logits(Attached(merged, merged)), expected, atol=1e-4, rtol=1e-4)

    def test_a_plain_lora_gives_the_same_logits_or_says_why_there_is_none(
        self, converted_case: Case, tmp_path: Path
    ) -> None:
        setting = converted_case.setting
        method, attached = attach(converted_case.method, converted_case.options, setting)
        step(setting, method, attached, setting.rate)
        compare_plain_lora(method, attached, setting, tmp_path)

    def test_counts_add_up_and_agree_with_the_meta_device(self, case: Case) -> None:
        setting, method = case.setting, create(case.method, case.options)
        model = setting.model()
        view = setting.view(model)
        size = sum(p.numel() for p in model.parameters())
        head = sum(p.numel() for module in view.head for p in model.get_submodule(module).parameters())
        before = BaseIdentity.of(model, view)
        torch.manual_seed(1)
        attached = method.attach(model, view)
        counts = count(attached.module, before)
        untied = dict(attached.extra.get("findings", ())).get("untied_head")
        own = model.get_submodule(view.output or "").weight.numel() if untied else 0  # type: ignore[operator]
        assert counts.total.head == counts.trainable.head == head + own
        assert counts.total.base == size - head
        if not self.adds_frozen(case):
            assert counts.trainable.adapter == counts.total.adapter
        trainable = sum(p.numel() for p in attached.module.parameters() if p.requires_grad)
        assert counts.trainable.total == trainable

        empty = setting.model("meta")
        before = BaseIdentity.of(empty, setting.task.view(empty))
        with torch.device("meta"):
            assert count(method.attach(empty, setting.task.view(empty)).module, before) == counts

    def test_padding_never_moves_the_logits(self, case: Case) -> None:
        setting = case.setting
        method, attached = attach(case.method, case.options, setting)
        step(setting, method, attached, setting.rate)
        together = setting.logits(attached)
        alone = torch.cat([setting.logits(attached, [row]) for row in setting.rows])
        torch.testing.assert_close(together, alone, atol=2e-5, rtol=1e-4)

    def test_two_attachments_at_one_seed_train_alike(self, case: Case) -> None:
        setting, results = case.setting, []
        for _ in range(2):
            method, attached = attach(case.method, case.options, setting)
            torch.manual_seed(2)
            step(setting, method, attached, setting.rate)
            results.append(setting.logits(attached))
        assert torch.equal(*results)

    def test_refusals_say_why_and_what_to_do(self, attempt: tuple[str, Setting]) -> None:
        name, setting = attempt
        reason = self.refusal(name, setting)
        if reason is None:
            attach(name, {}, setting)
            return
        with pytest.raises(UnsupportedModel, match=reason) as caught:
            attach(name, {}, setting)
        assert caught.value.hint


def compare_plain_lora(method: Method[Any], attached: Attached, setting: Setting, folder: Path) -> bool:
    """Writes what was trained as a plain LoRA; returns whether there is one.

    Args:
        folder: an empty one.

    Raises:
        AssertionError: where PEFT puts it on a fresh model and that gives other logits, or a refusal leaves files.
    """
    from peft import PeftModel

    expected = setting.logits(attached)
    try:
        method.write_lora(attached, folder)
    except StoreError:
        assert not any(folder.iterdir())
        return False
    settings = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
    assert settings["peft_type"] == "LORA"
    assert not settings["use_dora"]
    assert not settings["use_rslora"]
    module: Any = PeftModel.from_pretrained(setting.model(), str(folder))
    found = setting.logits(Attached(module.get_base_model(), module))
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)
    return True
