"""The data sets by the names that studies use; a new one is a file beside this and a line here."""

from pcsim.datasets.celeba import CELEBA
from pcsim.datasets.cifar10 import CIFAR10
from pcsim.datasets.digits import DIGITS
from pcsim.datasets.fashion_mnist import FASHION_MNIST
from pcsim.datasets.folder import FOLDER
from pcsim.datasets.mnist import MNIST
from pcsim.datasets.mnist5k import MNIST5K
from pcsim.datasets.natural import BARS, NATURAL
from pcsim.datasets.svhn import SVHN
from pcsim.datasets.types import Dataset

DATASETS: dict[str, Dataset] = {
    "digits": DIGITS,
    "mnist5k": MNIST5K,
    "mnist": MNIST,
    "fashion_mnist": FASHION_MNIST,
    "cifar10": CIFAR10,
    "svhn": SVHN,
    "celeba": CELEBA,
    "natural": NATURAL,
    "bars": BARS,
    "folder": FOLDER,
}
