"""What does gradient descent cost against the closed form, and to what accuracy?

    python benchmarks/descent.py

For well- and ill-conditioned populations: steps and seconds to a relative distance of 1e-6 from the closed form, for
the default heavy ball, plain descent at its best step, Adam and L-BFGS.
"""

import jax
import numpy as np
import optax
from _common import timed, write

import jmask as jm

RIDGE = 0.01
TARGET = 1e-6


def main(d=256):
    populations = {
        "isotropic": jm.covariance.Diagonal(np.ones(d)),
        "ar1 0.9": jm.covariance.ar1(d, 0.9),
        "power law 1": jm.covariance.power_law(d, 1.0).realise(jax.random.key(1)),
    }
    rows = []
    for name, population in populations.items():
        x = population.sample(jax.random.key(0), 2 * d)
        closed = timed(lambda x=x: jm.fit(x, RIDGE).weights)["median"]
        values = np.linalg.eigvalsh(np.asarray(x.T @ x) / (2 * d)) + RIDGE
        condition = float(values[-1] / values[0])
        rules = {
            "heavy ball (default)": None,
            "plain": optax.sgd(1 / (values[0] + values[-1])),
            "adam": optax.adam(optax.exponential_decay(0.02, 500, 0.5)),
            "l-bfgs": optax.lbfgs(memory_size=20),
        }
        for rule_name, rule in rules.items():

            def run(rule=rule, tolerance=1e-7, x=x):
                options = {"optimizer": rule, "tolerance": tolerance, "max_steps": 20_000, "compare": True}
                return jm.fit_gradient(x, RIDGE, **options)

            tolerance = 1e-3  # tighten until the distance is reached: the gradient norm alone does not say
            while float((result := run(tolerance=tolerance)).distance) > TARGET and bool(result.converged):
                tolerance /= 10
            seconds = timed(lambda run=run, tolerance=tolerance: run(tolerance=tolerance).fit.weights, 3)["median"]
            rows.append(
                {
                    "population": name,
                    "d": d,
                    "condition number": condition,
                    "optimizer": rule_name,
                    "steps": int(result.steps),
                    "distance": float(result.distance),
                    "reached": bool(result.distance <= TARGET),
                    "seconds": seconds,
                    "over closed form": seconds / closed,
                }
            )
    write("descent", rows)


if __name__ == "__main__":
    main()
