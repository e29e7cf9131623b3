"""What trials cost in money: their time, or the tokens of a model that others run, at prices that the user states."""

from __future__ import annotations

from tuneoff.analysis.figures import why_missing
from tuneoff.config.spec import PricesSpec
from tuneoff.records.record import Money, TrialRecord
from tuneoff.records.served import Served

NO_PRICES = "the study has no `prices`"
PREDICTIONS = 1000
"""Predictions whose price is told."""
HOUR_SECONDS = 3600.0
MILLION = 1e6


def price(
    prices: PricesSpec, device: str, names: tuple[str, ...] = (), devices: int = 1, trials_at_once: int = 1
) -> float | None:
    """Returns what an hour of a trial costs; None where no price is stated for its device.

    Args:
        prices: that are stated.
        device: as torch names it: `cpu`, `cuda:0`.
        names: of the GPU or the processor, which come first.
        devices: how many it uses; the price of a processor is the whole machine's.
        trials_at_once: how many trials divide the processor, and so its price.
    """
    by_name = {name.casefold(): amount for name, amount in prices.device_hour.items()}
    kind = device.partition(":")[0]
    amounts = (by_name.get(name.casefold()) for name in (*names, kind))
    amount = next((amount for amount in amounts if amount is not None), None)
    return None if amount is None else amount / trials_at_once if kind == "cpu" else amount * devices


def names_of(device: str, device_name: str, processor: str) -> tuple[str, ...]:
    """Returns the names by which a device may have a price; those that are not known are empty."""
    return (device_name, processor) if device == "cpu" else (device_name,)


def unknown_device(prices: PricesSpec, device: str) -> str:
    """Returns why a device has no price."""
    return f"`prices` state none for {device!r}, only for {', '.join(prices.device_hour) or 'tokens'}"


def with_money(record: TrialRecord, prices: PricesSpec | None, reason: str = NO_PRICES) -> TrialRecord:
    """Returns a record with what it cost. What is not known is null, and `missing` says why.

    Args:
        record: as it was read.
        prices: that are stated; None for none.
        reason: why there are none.
    """
    money, missing = (Money(), dict.fromkeys(("trial", "predictions"), reason))
    if prices is not None:
        money, missing = _money(record, prices)
    return record.model_copy(
        update={
            "money": money,
            "missing": {**record.missing, **{f"money.{name}": why for name, why in missing.items()}},
        }
    )


def _money_of_tokens(served: Served, prices: PricesSpec) -> tuple[Money, dict[str, str]]:
    """Returns what the tokens cost that a trial had a model read and write which others run. Tokens that another trial
    of the study was charged for count here too, so that arms compare."""
    tokens = prices.million_tokens.get(served.model)
    if tokens is None:
        reason = f"`prices` state no million_tokens for {served.model!r}"
    elif served.input_tokens is None or served.output_tokens is None:
        reason = "the server does not count tokens"
    else:
        trial = (served.input_tokens * tokens.input + served.output_tokens * tokens.output) / MILLION
        return Money(trial=trial, predictions=trial * PREDICTIONS / served.examples), {}
    return Money(), dict.fromkeys(("trial", "predictions"), reason)


def _money(record: TrialRecord, prices: PricesSpec) -> tuple[Money, dict[str, str]]:
    if record.served is not None:
        return _money_of_tokens(record.served, prices)
    environment = record.environment
    if environment is None:
        return Money(), dict.fromkeys(("trial", "predictions"), "which device it ran on is not recorded")
    names = names_of(environment.device, environment.device_name, environment.processor)
    at_once = environment.trials_at_once
    hour = price(prices, environment.device, names, record.spec.devices, at_once)
    one_device = price(prices, environment.device, names, trials_at_once=at_once)
    if hour is None or one_device is None:
        why = unknown_device(prices, environment.device_name or environment.device)
        return Money(), dict.fromkeys(("trial", "predictions"), why)
    seconds, pace = record.timing.total_seconds, record.inference.batched_examples_per_second
    # Text was written by all its devices, for the test; a batch is timed on one, except of weights that no one holds.
    is_of_all = record.inference.generated_tokens_per_second is not None or record.spec.shard
    missing = {}
    if seconds is None:
        missing["trial"] = why_missing(record, "timing.total_seconds")
    if not pace:
        missing["predictions"] = why_missing(record, "inference.batched_examples_per_second")
    money = Money(
        trial=None if seconds is None else hour * seconds / HOUR_SECONDS,
        predictions=(hour if is_of_all else one_device) * PREDICTIONS / pace / HOUR_SECONDS if pace else None,
    )
    return money, missing
