"""Exercise 1: the backward pass of a network with one hidden layer, in plain NumPy.

B rows of a batch, I inputs, H hidden numbers, O outputs. A gradient has the shape of what it is the gradient of, and
its name is the name of that with a d before it: dX is the gradient of the loss at X.
"""

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Array: TypeAlias = npt.NDArray[Any]


def dense(X: Array, W: Array, b: Array) -> Array:
    """X (B, I), W (I, O), b (O,) -> Y (B, O)."""
    return X @ W + b


def dense_backward(X: Array, W: Array, dY: Array) -> tuple[Array, Array, Array]:
    """X (B, I), W (I, O), dY (B, O) -> dX (B, I), dW (I, O), db (O,).

    X is what the layer's forward took, and dY is the gradient at what it returned. dW and db are sums over the rows.
    """
    raise NotImplementedError("exercise: write dense_backward in backward.py")


def relu(X: Array) -> Array:
    """X (B, H) -> Y (B, H): negative numbers become 0."""
    return np.maximum(X, 0)


def relu_backward(X: Array, dY: Array) -> Array:
    """X (B, H), dY (B, H) -> dX (B, H). The derivative at 0 is taken as 0. Neither X nor dY is changed."""
    raise NotImplementedError("exercise: write relu_backward in backward.py")


def cross_entropy(logits: Array, y: Array) -> Array:
    """logits (B, O), y (B,) in 0..O-1 -> losses (B,): minus the log of the softmax probability of the right class."""
    shifted = logits - logits.max(axis=1, keepdims=True)
    return np.asarray(np.log(np.exp(shifted).sum(axis=1)) - shifted[np.arange(len(y)), y])


def cross_entropy_backward(logits: Array, y: Array, global_rows: int) -> Array:
    """logits (B, O), y (B,) in 0..O-1 -> dlogits (B, O).

    This is the gradient of the sum of the B losses, divided by global_rows. The batch may have more rows than these B:
    the others are on other ranks.
    """
    raise NotImplementedError("exercise: write cross_entropy_backward in backward.py")


def network_backward(
    X: Array, y: Array, global_rows: int, W1: Array, b1: Array, W2: Array, b2: Array
) -> tuple[Array, Array, Array, Array]:
    """Forward and backward of dense, ReLU, dense and cross-entropy -> dW1 (I, H), db1 (H,), dW2 (H, O), db2 (O,).

    X (B, I), y (B,), W1 (I, H), b1 (H,), W2 (H, O), b2 (O,). The gradient is of the sum of losses over global_rows.
    """
    raise NotImplementedError("exercise: write network_backward in backward.py, with the functions above")
