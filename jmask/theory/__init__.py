"""Deterministic equivalents: what masked regression does when n and d are large, without data."""

from .equivalent import FixedPoint as FixedPoint
from .equivalent import effective_ridge as effective_ridge
from .equivalent import fixed_point as fixed_point
from .limit import Limit as Limit
from .limit import bayes as bayes
from .optimum import Floor as Floor
from .optimum import best_rank as best_rank
from .optimum import floor as floor
from .risk import Errors as Errors
from .risk import errors as errors
from .spectral import PpcaError as PpcaError
from .spectral import SpectralError as SpectralError
from .spectral import eigenvector_variance as eigenvector_variance
from .spectral import ppca as ppca
from .spectral import spectral_error as spectral_error
from .spikes import Outliers as Outliers
from .spikes import outliers as outliers
from .spikes import threshold as threshold
from .trajectory import Descent as Descent
from .trajectory import descent as descent
