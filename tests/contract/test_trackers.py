"""Every tracker of the registry, and one for tests, keeps a tracker's promises."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from tuneoff import registry
from tuneoff.testing import TrackerContract

pytest_plugins = ("tracker_fixtures",)


@pytest.mark.usefixtures("doubles", "no_outlets")
class TestTrackers(TrackerContract):
    @classmethod
    def names(cls) -> Iterable[str]:
        return [*registry.trackers(), "recorder"]
