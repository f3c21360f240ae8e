"""Populations, penalties and scales by their names in golden.json, and problems with exact answers."""

import json
from pathlib import Path

import numpy as np

import jmask as jm

GOLDEN = json.loads((Path(__file__).parent / "golden.json").read_text())


def population(name, d):
    if name == "ar1_0.9":
        return jm.covariance.ar1(d, 0.9)
    if name == "diag_linspace_0.2_4":
        return jm.covariance.Diagonal(np.linspace(0.2, 4, d))
    k = np.arange(1, d + 1)
    sines = np.sqrt(2 / (d + 1)) * np.sin(np.pi * np.outer(k, k) / (d + 1))
    return jm.covariance.Dense((sines * k**-1.5) @ sines)


def penalty(name, value, d):
    return value if name == "scalar" else value * np.linspace(0.5, 2, d)


def scales(name):
    return None if name is None else jm.Scales([0.25, 4.0], [0.8, 0.2])


def scheme(hide_rate):
    return jm.LeaveOneOut() if hide_rate is None else jm.Bernoulli(hide_rate)


def isotropic_kappa(n, d, ridge):
    """κ for d unit eigenvalues, κ = ridge + γκ/(1 + κ): the positive root of κ² + (1 - γ - ridge)κ - ridge."""
    b = 1 - d / n - ridge
    root = np.sqrt(b**2 + 4 * ridge)
    return 2 * ridge / (b + root) if b > 0 else (root - b) / 2


def two_atom_kappa(n, counts, values, ridge):
    """κ for two distinct eigenvalues: the largest real root of a cubic."""
    (a, b), (s, t) = np.asarray(counts) / n, values
    # (κ - λ)(s + κ)(t + κ) - κ[a s (t + κ) + b t (s + κ)] = 0
    cubic = np.polymul([1, -ridge], np.polymul([1, s], [1, t]))
    cubic = np.polysub(cubic, np.polymul([1, 0], np.polyadd(a * s * np.array([1, t]), b * t * np.array([1, s]))))
    return np.roots(cubic).real.max()
