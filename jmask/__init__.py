"""jmask: masked self-supervised regression on JAX, fitted exactly and predicted in theory."""

from . import baselines as baselines
from . import covariance as covariance
from . import theory as theory
from . import tune as tune
from ._types import STATUS_ADVICE as STATUS_ADVICE
from ._types import check as check
from .closed_form import Fit as Fit
from .closed_form import fit as fit
from .descent import GradientFit as GradientFit
from .descent import fit_gradient as fit_gradient
from .detect import Directions as Directions
from .detect import directions as directions
from .eigen import Eigen as Eigen
from .eigen import correlation_pca_eigen as correlation_pca_eigen
from .eigen import pca_eigen as pca_eigen
from .eigen import predictor_eigen as predictor_eigen
from .gram import Gram as Gram
from .masking import Bernoulli as Bernoulli
from .masking import LeaveOneOut as LeaveOneOut
from .masking import Partition as Partition
from .masking import Patterns as Patterns
from .objective import masked_loss as masked_loss
from .objective import sampled_masked_loss as sampled_masked_loss
from .scales import Scales as Scales
from .study import Study as Study
from .study import sweep as sweep
from .validation import RidgePath as RidgePath
from .validation import leave_one_out_error as leave_one_out_error
from .validation import ridge_path as ridge_path
from .validation import test_error as test_error
from .validation import train_error as train_error

__version__ = "0.1.0"
