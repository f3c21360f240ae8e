"""The definitions, slowly: normal equations coordinate by coordinate, mask by mask, refit by refit, in NumPy."""

import itertools

import numpy as np


def all_masks(d, p):
    """Every mask of d coordinates with its Bernoulli probability."""
    hidden = np.array(list(itertools.product([False, True], repeat=d)))
    return hidden, p ** hidden.sum(1) * (1 - p) ** (~hidden).sum(1)


def pattern_weights(x, ridge, hidden, probabilities):
    """Weights from d normal equations, each a mean over the patterns that hide its coordinate."""
    n, d = x.shape
    ridge = np.broadcast_to(ridge, d)
    s = x.T @ x / n
    weights = np.zeros((d, d))
    for k in range(d):
        share = probabilities * hidden[:, k]
        share = share / share.sum()
        normal, target = np.diag(ridge).astype(float), np.zeros(d)
        for w, mask in zip(share, hidden, strict=True):
            kept = ~mask
            normal += w * np.outer(kept, kept) * s
            target += w * kept * s[k]
        seen = share @ ~hidden > 0
        weights[k, seen] = np.linalg.solve(normal[np.ix_(seen, seen)], target[seen])
    return weights


def pattern_errors(weights, x, hidden, probabilities):
    """(d,) mean squared masked errors."""
    d = x.shape[1]
    errors = np.zeros(d)
    for k in range(d):
        share = probabilities * hidden[:, k]
        share = share / share.sum()
        for w, mask in zip(share, hidden, strict=True):
            errors[k] += w * np.mean((x[:, k] - (x * ~mask) @ weights[k]) ** 2)
    return errors


def group_patterns(groups):
    """The patterns of a partition."""
    groups = np.asarray(groups)
    return np.array([groups == g for g in np.unique(groups)])


def left_out(fit, x, ridge, centred=False):
    """(n, d) residuals of every sample under fit(x without it, ridge n/(n - 1)) -> weights."""
    n = x.shape[0]
    residual = np.zeros_like(x)
    for i in range(n):
        rest = np.delete(x, i, 0)
        mean = rest.mean(0) if centred else np.zeros(x.shape[1])
        weights = fit(rest - mean, ridge * n / (n - 1))
        residual[i] = (x[i] - mean) - weights @ (x[i] - mean)
    return residual
