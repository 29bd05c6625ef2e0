"""Conditional distributions p(z | η) of nodes; a new one is a file here and a line in `DISTRIBUTIONS`."""

from pcsim.circuit.distributions.base import Distribution, Draws, Local, LocalText, Shape, Textual
from pcsim.circuit.distributions.bernoulli import Bernoulli
from pcsim.circuit.distributions.categorical import Categorical
from pcsim.circuit.distributions.custom import Custom, from_log_prob
from pcsim.circuit.distributions.discretised_gaussian import DiscretisedGaussian
from pcsim.circuit.distributions.gaussian import Gaussian
from pcsim.circuit.distributions.laplace import Laplace
from pcsim.circuit.distributions.record import Record
from pcsim.circuit.distributions.student_t import StudentT

DISTRIBUTIONS: dict[str, type[Record]] = {
    "gaussian": Gaussian,
    "discretised_gaussian": DiscretisedGaussian,
    "bernoulli": Bernoulli,
    "categorical": Categorical,
    "laplace": Laplace,
    "student_t": StudentT,
}

__all__ = [
    "DISTRIBUTIONS",
    "Bernoulli",
    "Categorical",
    "Custom",
    "DiscretisedGaussian",
    "Distribution",
    "Draws",
    "Gaussian",
    "Laplace",
    "Local",
    "LocalText",
    "Record",
    "Shape",
    "StudentT",
    "Textual",
    "from_log_prob",
]
