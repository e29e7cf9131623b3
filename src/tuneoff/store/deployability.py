"""What a trial's folder keeps of the forms in which its trained model was measured again."""

from __future__ import annotations

from pathlib import Path

from tuneoff.errors import CorruptRecord
from tuneoff.records.deployability import DEPLOYABILITY_VERSION, Deployability
from tuneoff.store.files import check_version, read_json, sealed, unsealed, validated, write_atomically

AGAIN = "Remove it and run `tuneoff deployability` again."


class DeployabilityFile:
    """The sealed file of one trial. Unlike a record it grows: each form that is measured is written at once."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "deployability.json"
        self._trial = folder.name

    def write(self, results: Deployability) -> None:
        """Writes the results, in the place of those before."""
        write_atomically(self.path, sealed(results.model_dump(mode="json")), make_folder=False)

    def read(self) -> Deployability | None:
        """Reads the results; None where nothing was measured.

        Raises:
            CorruptRecord: if the file was changed or damaged, or belongs to another trial.
            StoreError: if another version of tuneoff wrote it.
        """
        if not self.path.exists():
            return None
        body = unsealed(self.path, read_json(self.path), hint=AGAIN)
        check_version(self.path, "deployability", body.get("deployability_version"), DEPLOYABILITY_VERSION)
        results = validated(Deployability, body, self.path, "a record of deployability")
        if results.trial != self._trial:
            raise CorruptRecord(f"{self.path} belongs to another trial, {results.trial}", hint=AGAIN)
        return results
