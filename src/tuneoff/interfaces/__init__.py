"""What plug-ins and the line share: the contracts of methods, tasks, sources and trackers, and the types in
them.

A plug-in imports from here, and errors from `tuneoff.errors`; that is all it needs to know of tuneoff.
"""

from tuneoff.config.data import ModelSpec, SourceSpec
from tuneoff.interfaces.examples import (
    Batch,
    Choice,
    Example,
    Features,
    attention_masks,
    computed_tokens,
    letter_of,
)
from tuneoff.interfaces.executor import ExecutorOptions, ExecutorPlugin
from tuneoff.interfaces.label_sets import read_labels, write_labels
from tuneoff.interfaces.method import (
    ADAPTER_FILES,
    WEIGHTS_FILE,
    Answered,
    AnyMethod,
    Baseline,
    LearningRate,
    Method,
    MethodOptions,
    PlainCode,
    Questions,
    Reference,
    ServedModel,
    is_trained_folder,
    misfit,
    save_weights,
    saved_shapes,
)
from tuneoff.interfaces.metrics import MeanMetric, MetricDefinition, Outputs, PooledMetric
from tuneoff.interfaces.model import Attached, StartRows, TaskView
from tuneoff.interfaces.proposals import Proposal, ProposalSetting, Rule
from tuneoff.interfaces.rows import Rows, has_lone_surrogate, is_missing
from tuneoff.interfaces.source import ModelFiles, Source
from tuneoff.interfaces.tag_sequences import OUTSIDE, Entity, read_entities, split_tag, write_tags
from tuneoff.interfaces.task import ColumnRole, Task, TaskOptions
from tuneoff.interfaces.tracker import StudyInfo, Tracker, TrialInfo, flatten
from tuneoff.records.prior import Prior
from tuneoff.records.record import Finding, Metric, Prediction
from tuneoff.records.served import Reply, Served

__all__ = [
    "ADAPTER_FILES",
    "OUTSIDE",
    "WEIGHTS_FILE",
    "Answered",
    "AnyMethod",
    "Attached",
    "Baseline",
    "Batch",
    "Choice",
    "ColumnRole",
    "Entity",
    "Example",
    "ExecutorOptions",
    "ExecutorPlugin",
    "Features",
    "Finding",
    "LearningRate",
    "MeanMetric",
    "Method",
    "MethodOptions",
    "Metric",
    "MetricDefinition",
    "ModelFiles",
    "ModelSpec",
    "Outputs",
    "PlainCode",
    "PooledMetric",
    "Prediction",
    "Prior",
    "Proposal",
    "ProposalSetting",
    "Questions",
    "Reference",
    "Reply",
    "Rows",
    "Rule",
    "Served",
    "ServedModel",
    "Source",
    "SourceSpec",
    "StartRows",
    "StudyInfo",
    "Task",
    "TaskOptions",
    "TaskView",
    "Tracker",
    "TrialInfo",
    "attention_masks",
    "computed_tokens",
    "flatten",
    "has_lone_surrogate",
    "is_missing",
    "is_trained_folder",
    "letter_of",
    "misfit",
    "read_entities",
    "read_labels",
    "save_weights",
    "saved_shapes",
    "split_tag",
    "write_labels",
    "write_tags",
]
