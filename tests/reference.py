"""Another implementation of what the library trains: plain NumPy, float64, no sharing.

Tests compare widthlab with this. It uses nothing of widthlab.
"""

import numpy as np

PHI = {
    "tanh": (np.tanh, lambda h: 1 - np.tanh(h) ** 2),
    "relu": (lambda h: np.maximum(h, 0), lambda h: (h > 0).astype(h.dtype)),
    "linear": (lambda h: h, np.ones_like),
}


def draw(rng, sizes, std):
    """Matrices of shape (fan-in, fan-out) with the given standard deviations."""
    pairs = zip(sizes[:-1], sizes[1:], std, strict=True)
    return [s * rng.standard_normal((i, o)) for i, o, s in pairs]


def forward(weights, x, activation="tanh"):
    """Pre-activations, activations (inputs first) and outputs."""
    phi = PHI[activation][0]
    before, after = [], [x]
    for w in weights[:-1]:
        before.append(after[-1] @ w)
        after.append(phi(before[-1]))
    return before, after, after[-1] @ weights[-1]


def error(outputs, targets):
    """Loss and its gradient in the outputs: cross-entropy of labels, else squared."""
    count = len(outputs)
    if targets.ndim == 2:
        return np.sum((outputs - targets) ** 2) / 2 / count, (outputs - targets) / count
    z = outputs - outputs.max(axis=1, keepdims=True)
    log_p = z - np.log(np.exp(z).sum(axis=1, keepdims=True))
    slope = np.exp(log_p)
    slope[np.arange(count), targets] -= 1
    return -log_p[np.arange(count), targets].mean(), slope / count


def gradients(weights, x, targets, activation="tanh"):
    """Loss and gradients of all matrices, by hand."""
    slope_of = PHI[activation][1]
    before, after, outputs = forward(weights, x, activation)
    loss, back = error(outputs, targets)
    out = []
    for index in reversed(range(len(weights))):
        out.insert(0, after[index].T @ back)
        if index:
            back = (back @ weights[index].T) * slope_of(before[index - 1])
    return loss, out


def sgd(weights, rates, x, targets, batches, activation="tanh", first_rates=None):
    """Losses of all steps and the weights after each, rates being one a matrix."""
    losses, history = [], [weights]
    for step, batch in enumerate(batches):
        loss, grads = gradients(weights, x[batch], targets[batch], activation)
        now = first_rates if step == 0 and first_rates is not None else rates
        weights = [w - r * g for w, r, g in zip(weights, now, grads, strict=True)]
        losses.append(loss)
        history.append(weights)
    return np.array(losses), history


def slope_and_error(widths, values):
    """Mean over seeds of the log-log slope against width, and its standard error.

    `values` has one row a seed. Each seed has a regression of its own.
    """
    x = np.log(widths)
    x = x - x.mean()
    slopes = np.log(values) @ x / (x @ x)
    return slopes.mean(), slopes.std(ddof=1) / np.sqrt(len(slopes))
