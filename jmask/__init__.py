"""jmask: masked self-supervised regression on JAX, fitted exactly and predicted in theory."""

from importlib import import_module as _import_module
from typing import TYPE_CHECKING

from . import baselines as baselines
from . import covariance as covariance
from . import theory as theory
from ._types import STATUS_ADVICE as STATUS_ADVICE
from ._types import check as check
from .closed_form import Fit as Fit
from .closed_form import fit as fit
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
from .ridges import RidgePath as RidgePath
from .ridges import ridge_path as ridge_path
from .scales import Scales as Scales
from .validation import leave_one_out_error as leave_one_out_error
from .validation import test_error as test_error
from .validation import train_error as train_error

if TYPE_CHECKING:
    from . import tune as tune
    from .descent import GradientFit as GradientFit
    from .descent import fit_gradient as fit_gradient
    from .detect import Directions as Directions
    from .detect import directions as directions
    from .study import Study as Study
    from .study import sweep as sweep

__version__ = "0.1.0"

# What stands on optax, or on much of the rest, is imported when first asked for.
_LATER = {
    "tune": "tune",
    **dict.fromkeys(("GradientFit", "fit_gradient"), "descent"),
    **dict.fromkeys(("Directions", "directions"), "detect"),
    **dict.fromkeys(("Study", "sweep"), "study"),
}


def __getattr__(name: str) -> object:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = _import_module(f".{_LATER[name]}", __name__)
    value = globals()[name] = module if name == _LATER[name] else getattr(module, name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_LATER})
