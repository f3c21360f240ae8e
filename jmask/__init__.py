"""jmask: masked self-supervised regression on JAX, fitted exactly and predicted in theory."""

from . import covariance as covariance
from . import theory as theory
from ._types import STATUS_ADVICE as STATUS_ADVICE
from ._types import check as check
from .masking import Bernoulli as Bernoulli
from .masking import LeaveOneOut as LeaveOneOut
from .masking import Partition as Partition
from .masking import Patterns as Patterns
from .scales import Scales as Scales

__version__ = "0.1.0"
