"""`artmask evaluate`: say how well predicted artifacts agree with true ones."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from artifact_mask.config import EvaluateConfig
from artifact_mask.errors import ConfigError, ImageError, StorageError
from artifact_mask.io.evaluation_picture import ComparedField, Curve, Distribution, save_evaluation_picture
from artifact_mask.io.files import write_atomically
from artifact_mask.kernels.agreement import BINS, Counts, Truth, pool, precision_recall
from artifact_mask.kernels.truth import ARTIFACT, IGNORE
from artifact_mask.workflows.evaluated_fields import EvaluatedField, find_evaluated_fields
from artifact_mask.workflows.predictions import cut_of_files, find_model
from artifact_mask.workflows.progress import Progress, Silent
from artifact_mask.workflows.training import read_in_order

WORST_SHOWN = 4
_SCORES = ("precision", "recall", "f1", "iou")


@dataclass(frozen=True)
class Evaluation:
    """How an evaluation ended.

    Attributes
    ----------
    scores
        A row for the pooled pixels and one for the median field, strict and tolerant; as in ``scores.csv``.
    fields
        A row a field; as in ``fields.csv``.
    missing
        Names of the fields without a prediction.
    failures
        Why fields could not be compared, by name.
    outputs
        What was written, by a word for people.
    seconds
        Wall time.
    """

    scores: pd.DataFrame
    fields: pd.DataFrame
    missing: tuple[str, ...]
    failures: Mapping[str, str]
    outputs: Mapping[str, Path]
    seconds: float

    @property
    def is_whole(self) -> bool:
        """Whether every field of the truth was compared."""
        return not (self.missing or self.failures)


class _Ring(NamedTuple):
    """What is forgiven around an artifact."""

    name: str
    px: int


class _Judged(NamedTuple):
    """Counts of a field for each ring, and of its probabilities ``(2, BINS)``."""

    counts: list[Counts]
    probabilities: list[NDArray[np.int64]] | None


def evaluate(config: EvaluateConfig, progress: Progress | None = None) -> Evaluation:
    """Compare predicted artifacts with true ones, and write the scores and a picture.

    Parameters
    ----------
    config
        What to compare.
    progress
        Listener.

    Returns
    -------
    Evaluation
        Scores, and the fields that could not be compared: these are left out, never taken for clean.

    Raises
    ------
    ConfigError
        If no field has a truth, no prediction belongs to one, or what is given is ambiguous.
    PlateError
        If a plate is not there, is not complete, or lacks the channel.
    ModelError
        If the model's file is not one.
    ImageError
        If no field at all can be compared.
    StorageError
        If the scores cannot be written.
    """
    progress, began = progress or Silent(), time.monotonic()
    fields, unreadable = find_evaluated_fields(config, progress)
    failures = dict(unreadable)
    rings = [_Ring("strict", 0)] + ([_Ring("tolerant", config.ring_px)] if config.ring_px else [])
    judged, missing = _judge_all(fields, rings, failures, progress)
    if not judged:
        told = [f"{name}: {error}" for name, error in failures.items()] or [f"{missing[0]} has no prediction"]
        raise ImageError(f"None of {len(fields) + len(unreadable)} fields could be compared. {told[0]}")
    _tell_cut(config, list(judged.values()), progress)
    _tell_copies(list(judged.values()), progress)
    curves = _pool_curves(list(judged.values()), rings)
    scores = _tabulate_scores(list(judged.values()), rings, curves)
    table = _tabulate_fields(fields, judged, rings, failures)
    try:
        outputs = _write(config, rings, fields, judged, curves, scores, table)
    except OSError as error:
        raise StorageError(
            f"{config.dest} cannot be written ({error}). Make room, or name another folder with --dest."
        ) from error
    return Evaluation(scores, table, tuple(missing), failures, outputs, time.monotonic() - began)


def _judge_all(
    fields: Sequence[EvaluatedField], rings: Sequence[_Ring], failures: dict[str, str], progress: Progress
) -> tuple[dict[int, _Judged], list[str]]:
    """Count on each field, by its number, and name those without a prediction; failures are added to."""
    progress.begin("evaluate", len(fields))
    judged, missing = {}, []
    readers = [partial(_judge, field, rings) for field in fields]
    for number, found in enumerate(read_in_order(readers)):
        name = fields[number].name
        if isinstance(found, ConfigError):
            raise found
        if isinstance(found, Exception):
            failures[name] = f"{found}" or type(found).__name__
        elif found is None:
            missing.append(name)
        else:
            judged[number] = found
        progress.advance(1, int(number not in judged), 0)
    return judged, missing


def _judge(field: EvaluatedField, rings: Sequence[_Ring]) -> _Judged | None:
    compared = field.read()
    if compared is None:
        return None
    truth = Truth(compared.truth == ARTIFACT, compared.truth == IGNORE)
    mask, probability = compared.prediction
    counts = [truth.count(mask, ring_px=ring.px) for ring in rings]
    if probability is None:
        return _Judged(counts, None)
    return _Judged(counts, [truth.count_probabilities(probability, ring_px=ring.px) for ring in rings])


def _tell_cut(config: EvaluateConfig, judged: Sequence[_Judged], progress: Progress) -> None:
    """Say what made objects of files of probabilities, whose model is not known."""
    is_chosen = config.threshold is not None and config.min_object_px is not None
    if find_model(config.prediction) or is_chosen or all(field.probabilities is None for field in judged):
        return
    cut = cut_of_files(config)
    progress.note(
        f"Probabilities are cut at {cut.threshold:g}, and objects of fewer than {cut.min_object_px} px dropped; what "
        "is not given is that of the model that artmask ships. Change it with --threshold and --min-object-px."
    )


def _tell_copies(judged: Sequence[_Judged], progress: Progress) -> None:
    """Doubt a truth that no person can have drawn."""
    strict = [field.counts[0] for field in judged]
    n_equal = sum(bool(counts.n_objects) and not counts.false_px + counts.missed_px for counts in strict)
    if n_equal:
        progress.note(
            f"In {n_equal} fields with artifacts, prediction and truth are the same to the pixel. If the truth is a "
            "copy of predictions that nobody has corrected there, the scores are too good."
        )


def _pool_curves(judged: Sequence[_Judged], rings: Sequence[_Ring]) -> list[Curve]:
    """Curves of precision over recall, strict and tolerant; none if not all predictions are probabilities."""
    curves = []
    for number, ring in enumerate(rings):
        counted = np.zeros((2, BINS), np.int64)
        for field in judged:
            if field.probabilities is None:
                return []
            counted += field.probabilities[number]
        curves.append(Curve(_describe_ring(ring), *precision_recall(counted)[1:]))
    return curves


def _describe_ring(ring: _Ring) -> str:
    return f"tolerant, ring of {ring.px} px" if ring.px else "strict"


def _score(counts: Counts) -> dict[str, float]:
    """Scores of the pixels."""
    of_classes = {"artifact": counts.artifact, "background": counts.background}
    return {f"{name}_{kind}": getattr(of, name) for kind, of in of_classes.items() for name in _SCORES} | {
        "mean_iou": counts.mean_iou,
        "accuracy": counts.accuracy,
    }


def _tabulate_scores(judged: Sequence[_Judged], rings: Sequence[_Ring], curves: Sequence[Curve]) -> pd.DataFrame:
    rows = []
    for number, ring in enumerate(rings):
        counts = [field.counts[number] for field in judged]
        pooled = pool(counts)
        head: dict[Any, object] = {"pixels": ring.name, "ring_px": ring.px}
        rows.append(
            head
            | {"of": "pooled", "fields": len(counts)}
            | _score(pooled)
            | {
                "average_precision": curves[number].average_precision if curves else float("nan"),
                "objects": pooled.n_objects,
                "objects_found": pooled.n_found,
                "object_recall": pooled.object_recall,
                "false_objects_per_field": pooled.n_false_objects / len(counts),
            }
        )
        # Where there is nothing to be found, most scores mean nothing.
        with_artifacts = [one for one in counts if one.n_objects]
        described = [_score(one) | {"object_recall": one.object_recall} for one in with_artifacts]
        medians = pd.DataFrame(described, columns=[*_score(pooled), "object_recall"]).median()
        alarms = float(np.median([one.n_false_objects for one in counts]))
        rows.append(
            head
            | {"of": "median field", "fields": len(with_artifacts)}
            | medians.to_dict()
            | {"false_objects_per_field": alarms}
        )
    return pd.DataFrame(rows)


def _tabulate_fields(
    fields: Sequence[EvaluatedField],
    judged: Mapping[int, _Judged],
    rings: Sequence[_Ring],
    failures: Mapping[str, str],
) -> pd.DataFrame:
    """One row a field, also for those that could not be compared."""
    rows: list[dict[str, object]] = []
    for number, field in enumerate(fields):
        row: dict[str, object] = {"plate": field.plate, "well": field.well, "field": field.field, "file": field.file}
        found = judged.get(number)
        if found is None:
            rows.append(row | {"error": failures.get(field.name, "there is no prediction")})
            continue
        row |= {"error": "", "objects": found.counts[0].n_objects, "objects_found": found.counts[0].n_found}
        for ring, counts in zip(rings, found.counts, strict=True):
            described = _score(counts) | {
                "false_objects": counts.n_false_objects,
                "true_px": counts.true_px,
                "false_px": counts.false_px,
                "missed_px": counts.missed_px,
            }
            row |= {f"{name}_{ring.name}": value for name, value in described.items()}
        rows.append(row)
    known = {field.name for field in fields}  # others were found unreadable before
    rows += [{"file": name, "error": error} for name, error in failures.items() if name not in known]
    return pd.DataFrame(rows)


def _write(
    config: EvaluateConfig,
    rings: Sequence[_Ring],
    fields: Sequence[EvaluatedField],
    judged: Mapping[int, _Judged],
    curves: Sequence[Curve],
    scores: pd.DataFrame,
    table: pd.DataFrame,
) -> dict[str, Path]:
    outputs = {
        "scores": config.dest / "scores.csv",
        "fields": config.dest / "fields.csv",
        "picture": config.dest / "evaluation.png",
    }
    write_atomically(outputs["scores"], scores.to_csv(index=False, float_format="%.6g", lineterminator="\n").encode())
    write_atomically(outputs["fields"], table.to_csv(index=False, float_format="%.6g", lineterminator="\n").encode())
    points = [pool([field.counts[n] for field in judged.values()]).artifact for n in range(len(rings))]
    save_evaluation_picture(
        outputs["picture"],
        curves,
        [(point.recall, point.precision) for point in points],
        _distribute(list(judged.values()), rings),
        _show_worst(fields, judged, rings[-1]),
    )
    return outputs


def _distribute(judged: Sequence[_Judged], rings: Sequence[_Ring]) -> list[Distribution]:
    """F1 and IoU of the fields with artifacts."""
    found = []
    for score, name in (("f1", "F1"), ("iou", "IoU")):
        for number, ring in enumerate(rings):
            values = [getattr(field.counts[number].artifact, score) for field in judged if field.counts[0].n_objects]
            found.append(Distribution(f"{name}\n{ring.name}", np.array(values, float)))
    return found


def _show_worst(fields: Sequence[EvaluatedField], judged: Mapping[int, _Judged], ring: _Ring) -> list[ComparedField]:
    """Fields with the lowest F1, and of these, those with most wrong pixels first."""
    last = {number: field.counts[-1] for number, field in judged.items() if field.counts[-1].artifact.f1 < 1}
    order = sorted(last, key=lambda n: (last[n].artifact.f1, -last[n].false_px - last[n].missed_px))
    shown = []
    for number in order[:WORST_SHOWN]:
        field, counts = fields[number], last[number]
        compared = field.read()
        if compared is None:
            continue
        said = f"F1 {counts.artifact.f1:.2f} ({ring.name}), {counts.n_found} of {counts.n_objects} objects found"
        shown.append(
            ComparedField(
                title=f"{field.name}\n{said}, {counts.n_false_objects} false",
                image=field.read_image() if field.read_image else None,
                truth=compared.truth == ARTIFACT,
                left_out=compared.truth == IGNORE,
                predicted=compared.prediction.mask,
            )
        )
    return shown
