"""One directory per study, one per trial; the only owner of file names.

    STUDY/
      study.json               the study as it was last run, the ids of its trials, and where it was run from
      search.json              what its search tried, found and chose; made anew from the records
      forecast.json            what it was expected to take, made before its first trial
      lock                     held while a run writes here
      trackers.json            what became of the trackers, and which trials they followed
      trackers/NAME/           a tracker's own files, where it keeps them here
      jobs/                    which trials the jobs of a cluster run, and what they printed besides
      report/                  made anew from the records at any time
      report-xxxxxx/           likewise, of the arms and seeds that one run asked for, where the folder holds more
      trials/ID/
        trial.json             the trial's specification
        record.json            its sealed result
        predictions-SPLIT.jsonl
        deployability.json     forms in which its trained model was measured again, sealed
        predictions-test-FORM.jsonl  likewise, what each form answered
        weights/               what must be kept beside the base model
        events.jsonl           progress, one line each
        log.txt                everything the process printed
        log-rank-N.txt         likewise, of further ranks on several devices
        trackers.json          trackers that were given up before it ended, if any
        checkpoints/N/         what its training continues from; the last two, until it is finished
        attempts/N/            what earlier, unfinished attempts left

All paths inside are relative, so a study can be copied anywhere. Files appear whole or not at all.

Its modules:

    study.py        StudyStore: a study's folder
    trial.py        TrialStore: a trial's folder
    trial_log.py    TrialLog: what a trial tells while it runs
    checkpoints.py  Checkpoints: what a trial's training continues from
    deployability.py  DeployabilityFile: forms in which a trained model was measured again
    joining.py      whether a study may be kept in the folder of an earlier one
    series.py       SeriesStore: a folder of several studies, one for each value of a list
    transfer.py     a trial's files taken over by another folder
    merging.py      joins folders of parts of one study
    trackers.py     StudyTrackers: what a study keeps of its trackers
    lock.py         one run at a time
    files.py        files that are there whole or not at all
"""

from tuneoff.store.checkpoints import TRIALS, KeptCheckpoints, StoredCheckpoint
from tuneoff.store.files import give_usual_modes, link, refuse_overwriting, write_atomically
from tuneoff.store.series import SeriesMember, SeriesStore
from tuneoff.store.study import StudyStore
from tuneoff.store.trial import TrialStore

__all__ = [
    "TRIALS",
    "KeptCheckpoints",
    "SeriesMember",
    "SeriesStore",
    "StoredCheckpoint",
    "StudyStore",
    "TrialStore",
    "give_usual_modes",
    "link",
    "refuse_overwriting",
    "write_atomically",
]
