"""The network's equations written down once more, straight from the formulas, in float64 and for one process.

Shares no code with the package. Slow and plain on purpose: one row at a time, one list of weights.
"""

import numpy as np

Weights = list[tuple[np.ndarray, np.ndarray]]


def row_gradient(weights: Weights, x: np.ndarray, label: int) -> tuple[float, Weights]:
    """Loss -log softmax(z)[label] of one row, and its derivatives by every W and b."""
    activations = [x]
    for number, (W, b) in enumerate(weights):
        z = activations[-1] @ W + b
        activations.append(z if number == len(weights) - 1 else np.where(z > 0, z, 0))
    z = activations.pop()
    p = np.exp(z) / np.exp(z).sum()
    dz = p - np.eye(len(z))[label]
    gradients: Weights = []
    for number in reversed(range(len(weights))):
        gradients.insert(0, (np.outer(activations[number], dz), dz))
        dz = (weights[number][0] @ dz) * (activations[number] > 0)
    return float(-np.log(p[label])), gradients


def train_epoch(
    weights: Weights, X: np.ndarray, y: np.ndarray, order: np.ndarray, batch: int, lr: float
) -> list[float]:
    """One epoch of mini-batch SGD in the given order, updating the weights; returns each batch's mean loss."""
    losses = []
    for start in range(0, len(order), batch):
        rows = order[start : start + batch]
        results = [row_gradient(weights, X[row], y[row]) for row in rows]
        losses.append(sum(loss for loss, _ in results) / len(rows))
        for layer, (W, b) in enumerate(weights):
            W -= lr * sum(gradients[layer][0] for _, gradients in results) / len(rows)
            b -= lr * sum(gradients[layer][1] for _, gradients in results) / len(rows)
    return losses
