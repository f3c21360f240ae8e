"""Predicted errors against fits of simulated data.

Allowance: 4 standard errors over the seeds plus 4/d of the prediction, the size of the corrections that the
deterministic equivalents leave out. Seeds are fixed; nothing here was tuned to pass.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jmask as jm

D, SEEDS = 240, 6
HEAVY = jm.Scales([0.25, 4.0], [0.8, 0.2])
RAMP = np.linspace(0.1, 0.9, D)
QUARTERS = jm.Partition(np.arange(D) // (D // 4))
HALVES = jm.Partition(np.arange(D) % 2)

POPULATIONS = {
    "ar1": jm.covariance.ar1(D, 0.9),
    "ring": jm.covariance.ar1(D, 0.7, circulant=True),
    "diagonal": jm.covariance.Diagonal(np.linspace(0.2, 4, D)),
    "power law": jm.covariance.power_law(D, 1.0),
    "spiked": jm.covariance.Spiked(jm.covariance.Diagonal(np.tile([0.3, 3.0], D // 2)), [20.0, 8.0]),
}

CASES = [
    ("ar1", 0.5, 0.1, jm.LeaveOneOut(), None),
    ("ar1", 1, RAMP, jm.LeaveOneOut(), None),
    ("ar1", 2, 0.01, jm.LeaveOneOut(), HEAVY),
    ("ar1", 1, 0.2, jm.Bernoulli(0.3), None),
    ("ar1", 0.5, 0.2, jm.Bernoulli(0.5), HEAVY),
    ("ar1", 2, 0.0, jm.Bernoulli(0.2), None),
    ("ar1", 1, 0.2, QUARTERS, None),
    ("ar1", 0.5, RAMP, HALVES, None),
    ("ar1", 2, 0.1, HALVES, HEAVY),
    ("ring", 0.5, 0.0, jm.LeaveOneOut(), None),
    ("ring", 2, 0.0, jm.LeaveOneOut(), HEAVY),
    ("ring", 1, RAMP, jm.Bernoulli(0.3), None),
    ("diagonal", 0.5, 0.3, jm.LeaveOneOut(), HEAVY),
    ("diagonal", 2, RAMP, jm.LeaveOneOut(), None),
    ("power law", 0.5, 1e-3, jm.LeaveOneOut(), None),
    ("power law", 2, 1e-3, jm.Bernoulli(0.3), None),
    ("spiked", 1, 0.3, jm.LeaveOneOut(), None),
    ("spiked", 2, RAMP, jm.LeaveOneOut(), HEAVY),
]


def name(case):
    population, ratio, ridge, scheme, scales = case
    kind = "ramp" if np.ndim(ridge) else ridge
    return f"{population}-{ratio}-{kind}-{type(scheme).__name__}-{'heavy' if scales else 'gaussian'}"


@pytest.mark.parametrize("case", CASES, ids=name)
def test_errors(case):
    population, ratio, ridge, scheme, scales = case
    keys = jax.random.split(jax.random.key(7), SEEDS)
    fixed = POPULATIONS[population].realise(jax.random.key(1))
    n = int(ratio * D)
    train, test = [], []
    for key in keys:
        x = fixed.sample(key, n, scales)
        fit = jm.fit(x, ridge, scheme)
        train.append(float(jm.train_error(fit, x)))
        test.append(float(jm.test_error(fit, fixed)))
    believed = fixed if np.ndim(ridge) or isinstance(scheme, jm.Partition) else POPULATIONS[population]
    predicted = jm.theory.errors(believed, n, ridge, scheme, scales)
    assert bool(jnp.all(predicted.converged))
    for simulated, theory in ((train, float(predicted.train)), (test, float(predicted.test))):
        allowance = 4 * np.std(simulated, ddof=1) / np.sqrt(SEEDS) + 4 / D * theory
        assert abs(np.mean(simulated) - theory) < allowance + 1e-12


def test_per_coordinate_errors():
    c = POPULATIONS["diagonal"]
    keys = jax.random.split(jax.random.key(3), 20)

    @jax.jit
    def simulate(key):
        x = c.sample(key, D)
        return jm.test_error(jm.fit(x, jnp.asarray(0.3)), c, per_coordinate=True)

    simulated = np.stack([simulate(key) for key in keys])
    predicted = jm.theory.errors(c, D, 0.3).test_per_coordinate
    allowance = 5 * simulated.std(0, ddof=1) / np.sqrt(20) + 4 / D * predicted
    assert (np.abs(simulated.mean(0) - predicted) < allowance).all()


def test_leave_one_out_of_heavy_tails_is_the_elliptical_test_error():
    c = POPULATIONS["ar1"]
    left_out = [
        float(jm.leave_one_out_error(c.sample(key, 2 * D, HEAVY), 0.1))
        for key in jax.random.split(jax.random.key(5), SEEDS)
    ]
    elliptical = float(jm.theory.errors(c, 2 * D, 0.1, scales=HEAVY).test)
    gaussian = float(jm.theory.errors(c, 2 * D, 0.1).test)
    allowance = 4 * np.std(left_out, ddof=1) / np.sqrt(SEEDS) + 4 / D * elliptical
    assert abs(np.mean(left_out) - elliptical) < allowance
    assert abs(elliptical / gaussian - 1) > 0.05
