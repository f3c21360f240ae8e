"""jmask: masked self-supervised regression on JAX, fitted exactly and predicted in theory."""

from . import covariance as covariance
from . import theory as theory
from ._types import STATUS_ADVICE as STATUS_ADVICE
from ._types import check as check
from .closed_form import Fit as Fit
from .closed_form import fit as fit
from .gram import Gram as Gram
from .masking import Bernoulli as Bernoulli
from .masking import LeaveOneOut as LeaveOneOut
from .masking import Partition as Partition
from .masking import Patterns as Patterns
from .objective import masked_loss as masked_loss
from .objective import sampled_masked_loss as sampled_masked_loss
from .scales import Scales as Scales
from .validation import RidgePath as RidgePath
from .validation import leave_one_out_error as leave_one_out_error
from .validation import ridge_path as ridge_path
from .validation import test_error as test_error
from .validation import train_error as train_error

__version__ = "0.1.0"
