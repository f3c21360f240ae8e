"""Sweeps: simulation beside theory over a grid, resumable, on many cores, many devices or a cluster."""

from .plan import Study as Study
from .presets import preset as preset
from .run import sweep as sweep
from .store import Store as Store
from .table import SweepTable as SweepTable
from .table import read_table as read_table
