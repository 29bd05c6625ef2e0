"""Downloads from a loopback server: kept, checked against their sums, refused when another file comes."""

import hashlib
import threading
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from pcsim import datasets
from pcsim.datasets.downloads import fetch
from pcsim.datasets.types import Downloads
from pcsim.errors import DataError
from tests.datasets import layouts
from tests.datasets.layouts import noise

SMALL = (noise(0, 20, 28, 28), np.arange(20) % 10)


@pytest.fixture
def served(tmp_path):
    """The official MNIST files (small ones) on a loopback server, with the list of what was asked for."""
    folder = layouts.mnist_folder(tmp_path / "server", SMALL, SMALL)
    asked: list[str] = []

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, *_):
            asked.append(self.path)

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    sums = {path.name: hashlib.md5(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}
    yield Downloads(f"http://127.0.0.1:{server.server_port}/", sums), asked
    server.shutdown()
    server.server_close()
    thread.join()


def test_prepare_without_a_source_downloads_once(tmp_path, served, monkeypatch):
    downloads, asked = served
    monkeypatch.setitem(datasets.DATASETS, "mnist", replace(datasets.DATASETS["mnist"], downloads=downloads))
    seen: list[tuple[int, int]] = []
    datasets.prepare("mnist", root=tmp_path / "root", progress=lambda *at: seen.append(at))
    assert np.array_equal(datasets.load("mnist", root=tmp_path / "root").train[:, 0], SMALL[0])
    assert len(asked) == 4
    assert any(done == total > 1000 for done, total in seen)
    datasets.prepare("mnist", root=tmp_path / "root")
    assert len(asked) == 4


def test_a_file_with_another_sum_is_refused_and_not_kept(tmp_path, served):
    downloads, _ = served
    wrong = Downloads(downloads.base_url, dict.fromkeys(downloads.md5, "0" * 32))
    with pytest.raises(
        DataError, match=r"hash.*fetch it by hand .*then run: pcsim data prepare mnist --from FOLDER"
    ):
        fetch(wrong, tmp_path / "kept", lambda *_: None, "pcsim data prepare mnist --from FOLDER")
    assert not any((tmp_path / "kept").iterdir())


def test_a_missing_file_and_a_dead_server(tmp_path, served):
    downloads, _ = served
    absent = Downloads(downloads.base_url, {"absent.gz": "0" * 32})
    with pytest.raises(DataError, match=r"cannot fetch http://127.*absent\.gz .*404.*then run: the command"):
        fetch(absent, tmp_path / "kept", lambda *_: None, "the command")
    with pytest.raises(DataError, match=r"cannot fetch http://127\.0\.0\.1:1/"):
        fetch(Downloads("http://127.0.0.1:1/", absent.md5), tmp_path / "kept", lambda *_: None, "the command")


def test_the_listed_sums_are_those_of_the_official_files():
    listed = datasets.DATASETS["mnist"].downloads.md5
    for name in ("t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz"):
        content = layouts.sample(f"mnist-{name}").read_bytes()
        assert hashlib.md5(content).hexdigest() == listed[name]
