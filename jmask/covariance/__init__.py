"""Population covariances: what data is drawn from, and what the theory knows of it.

Each is a frozen pytree, differentiable in its fields. Structure is kept: the resolvent of a diagonal or
isotropic population costs O(d), of a circulant one O(d log d), of a spiked one a few products more than its
bulk, of a dense one a single eigendecomposition for any number of scalar ridges.
"""

from .base import Covariance as Covariance
from .base import Dense as Dense
from .base import Diagonal as Diagonal
from .builders import ar1 as ar1
from .builders import blocks as blocks
from .builders import equicorrelated as equicorrelated
from .builders import factors as factors
from .builders import from_samples as from_samples
from .builders import inverse_marchenko_pastur as inverse_marchenko_pastur
from .builders import latent_classes as latent_classes
from .builders import power_law as power_law
from .spiked import Spiked as Spiked
from .structured import Circulant as Circulant
from .structured import Isotropic as Isotropic
