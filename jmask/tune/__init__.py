"""Hyperparameters by gradient: from data by leave-one-out error, from a population by its theory."""

from .coordinates import TunedRidges as TunedRidges
from .coordinates import ridge_per_coordinate as ridge_per_coordinate
from .curves import SamplesNeeded as SamplesNeeded
from .curves import fit_population as fit_population
from .curves import samples_needed as samples_needed
from .detectors import TunedDetector as TunedDetector
from .detectors import detection_ridge as detection_ridge
from .intervals import Interval as Interval
from .masks import TunedMask as TunedMask
from .masks import hide_rate as hide_rate
from .minimiser import Minimum as Minimum
from .minimiser import minimise as minimise
from .populations import PopulationRidge as PopulationRidge
from .populations import population_ridge as population_ridge
from .scalar import TunedRidge as TunedRidge
from .scalar import ridge as ridge
