"""How well a classifier tells tiles apart."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torchmetrics.functional.classification import binary_auroc, binary_confusion_matrix, binary_roc

CLASSES = ("clean", "artifact")


@dataclass(frozen=True)
class Judgement:
    """Figures on tiles that were not trained on.

    Attributes
    ----------
    metrics
        Precision, recall and F1 of each class, accuracy, and the area under the ROC curve where there are both classes.
    confusion
        ``(2, 2)``; rows are what a person said, columns what the network says, clean first.
    false_positive_rate, true_positive_rate
        ``(k,)``, the ROC curve; empty where there is one class alone.
    """

    metrics: dict[str, float]
    confusion: NDArray[np.intp]
    false_positive_rate: NDArray[np.float64]
    true_positive_rate: NDArray[np.float64]


def judge(labels: NDArray[np.intp], probabilities: NDArray[np.float32], threshold: float) -> Judgement:
    """Compare predictions with labels.

    Parameters
    ----------
    labels
        ``(n,)``, 0 for clean and 1 for artifact.
    probabilities
        ``(n,)``, of an artifact.
    threshold
        Probability from which on a tile has an artifact.
    """
    truth, score = torch.from_numpy(np.asarray(labels, np.int64)), torch.from_numpy(probabilities.astype(np.float32))
    # A prediction at the threshold is an artifact, which torchmetrics sees otherwise.
    confusion = binary_confusion_matrix((score >= threshold).long(), truth).numpy()
    metrics = {"accuracy": float(np.trace(confusion) / max(1, confusion.sum()))}
    for number, name in enumerate(CLASSES):
        hits = confusion[number, number]
        found, there = confusion[:, number].sum(), confusion[number].sum()
        metrics[f"precision_{name}"] = float(hits / max(1, found))
        metrics[f"recall_{name}"] = float(hits / max(1, there))
        metrics[f"f1_{name}"] = float(2 * hits / max(1, found + there))
    false_rate, true_rate = np.empty(0), np.empty(0)
    if 0 < truth.sum() < len(truth):
        metrics["auc"] = float(binary_auroc(score, truth))
        rates = binary_roc(score, truth)
        false_rate, true_rate = rates[0].numpy().astype(float), rates[1].numpy().astype(float)
    return Judgement(metrics, confusion.astype(np.intp), false_rate, true_rate)
