"""What trials to come will cost in money, by their forecast and the study's prices."""

from __future__ import annotations

from collections.abc import Mapping

from tuneoff.analysis.money import HOUR_SECONDS, NO_PRICES, PREDICTIONS, names_of, price, unknown_device
from tuneoff.config.spec import PricesSpec
from tuneoff.records.forecast import ArmForecast, StudyForecast

_FIGURES = ("money", "search_money", "prediction_money")


def with_money(
    forecast: StudyForecast,
    prices: PricesSpec | None,
    devices: Mapping[str, int],
    search_seconds: Mapping[str, float],
    all_seconds: Mapping[str, float | None],
) -> StudyForecast:
    """Returns a forecast that tells money. What is not known is null, and `missing` says why.

    Args:
        forecast: with or without money of other prices.
        prices: that are stated; None for none.
        devices: arm -> devices of each of its trials.
        search_seconds: arm -> all trials of its search to come.
        all_seconds: arm -> all its trials to come; None where that is not known.
    """
    forecast = forecast.model_copy(update={"currency": "", "money": None, "missing": _others(forecast.missing)})
    arms = {
        label: _priced(arm, prices, devices.get(label, 1), search_seconds.get(label, 0.0))
        for label, arm in forecast.arms.items()
    }
    if prices is None:
        return forecast.model_copy(update={"arms": arms, "missing": {**forecast.missing, "money": NO_PRICES}})
    total, unknown = 0.0, []
    for label, seconds in all_seconds.items():
        hour = _hour(forecast.arms[label], prices, devices.get(label, 1))
        if hour is None or seconds is None:
            unknown.append(label)
        else:
            total += hour * seconds / HOUR_SECONDS
    missing = {**forecast.missing, "money": f"not known of {', '.join(unknown)}"} if unknown else forecast.missing
    return forecast.model_copy(
        update={
            "arms": arms,
            "currency": prices.currency,
            "money": None if unknown else total,
            "missing": missing,
        }
    )


def _priced(arm: ArmForecast, prices: PricesSpec | None, devices: int, search_seconds: float) -> ArmForecast:
    arm = arm.model_copy(update={**dict.fromkeys(_FIGURES), "missing": _others(arm.missing)})
    if prices is None:
        return arm.model_copy(update={"missing": {**arm.missing, **dict.fromkeys(_FIGURES, NO_PRICES)}})
    hour = _hour(arm, prices, devices)
    if hour is None:
        reason = _why_without_price(arm, prices)
        return arm.model_copy(update={"missing": {**arm.missing, **dict.fromkeys(_FIGURES, reason)}})
    missing: dict[str, str] = {}
    seconds, test_seconds = arm.trial_seconds, arm.seconds.get("test")
    if seconds is None:
        missing["money"] = missing["search_money"] = "the time of a trial is not known"
    elif not search_seconds:
        missing["search_money"] = "no trial of a search is to come"
    predictions = None
    if test_seconds is not None and arm.test_examples:
        # As many devices as the trial has share its test.
        predictions = hour * test_seconds * PREDICTIONS / arm.test_examples / HOUR_SECONDS
    else:
        missing["prediction_money"] = "the time of the test is not known"
    return arm.model_copy(
        update={
            "money": None if seconds is None else hour * seconds / HOUR_SECONDS,
            "search_money": None if "search_money" in missing else hour * search_seconds / HOUR_SECONDS,
            "prediction_money": predictions,
            "missing": {**arm.missing, **missing},
        }
    )


def _hour(arm: ArmForecast, prices: PricesSpec, devices: int) -> float | None:
    """Returns what an hour of an arm's trials costs; None where no price is stated for their device, or it is another
    than that which the times are of."""
    if arm.trials_device not in ("", arm.device):
        return None
    return price(prices, arm.device, names_of(arm.device, arm.device_name, arm.processor), devices)


def _why_without_price(arm: ArmForecast, prices: PricesSpec) -> str:
    if arm.trials_device not in ("", arm.device):
        return f"the forecast is of this machine's {arm.device}, and the trials run on other machines"
    return unknown_device(prices, arm.device_name or arm.device)


def _others(missing: Mapping[str, str]) -> dict[str, str]:
    return {name: reason for name, reason in missing.items() if name not in _FIGURES}
