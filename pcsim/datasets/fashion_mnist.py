"""Fashion-MNIST (Xiao, Rasul and Vollgraf, 2017): clothes, in four files with the names of MNIST's."""

from pcsim.datasets.mnist import read
from pcsim.datasets.types import ArrayReader, Dataset, Downloads

FASHION_MNIST = Dataset(
    title="Fashion-MNIST, 60,000 + 10,000 pictures of clothes, 28x28",
    channel=1,
    reader=ArrayReader(read, "idx"),
    sizes=(28,),
    downloads=Downloads(
        base_url="http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
        md5={
            "train-images-idx3-ubyte.gz": "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
            "train-labels-idx1-ubyte.gz": "25c81989df183df01b3e8a0aad5dffbe",
            "t10k-images-idx3-ubyte.gz": "bef4ecab320f06d8554ea6380940ec79",
            "t10k-labels-idx1-ubyte.gz": "bb300cfdad3c16e7a12a480ee83cd310",
        },
    ),
)
