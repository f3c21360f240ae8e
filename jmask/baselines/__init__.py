"""Other covariance estimates as masked predictors: the PCA family, factor analysis, shrinkage, sparse precisions.

Any precision P predicts every coordinate from the others by A = I - diag(P)⁻¹P, as Q does in the closed form. All
baselines come back in one class, so that errors and eigenvalues are computed on one footing. Data are taken as
they are: nothing here centres.
"""

from .factors import correlation_pca as correlation_pca
from .factors import factor_analysis as factor_analysis
from .factors import hetero_pca as hetero_pca
from .factors import ppca as ppca
from .predictor import Predictor as Predictor
from .predictor import from_precision as from_precision
from .shrinkage import graphical_lasso as graphical_lasso
from .shrinkage import ledoit_wolf as ledoit_wolf
from .shrinkage import nonlinear_shrinkage as nonlinear_shrinkage
