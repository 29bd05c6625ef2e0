"""Fetches official files with their checksums through pooch."""

from pathlib import Path

from pcsim.datasets.types import Downloads, Progress
from pcsim.errors import DataError

TIMEOUT = 30  # seconds without an answer


class _Bar:
    """What pooch calls a progress bar, passed on as `progress(bytes done, bytes in all)`."""

    def __init__(self, progress: Progress) -> None:
        self.progress, self.total, self.done = progress, 0, 0

    def update(self, size: int) -> None:
        self.done += size
        self.progress(self.done, self.total)

    def reset(self) -> None:
        self.done = 0

    def close(self) -> None:
        """Nothing is left open."""


def fetch(downloads: Downloads, folder: Path, progress: Progress, by_hand: str) -> Path:
    """The folder with all official files, those already there and unchanged not fetched again.

    Raises DataError, ending with the command `by_hand`, if a file cannot be fetched or has another checksum.
    """
    import pooch

    folder.mkdir(parents=True, exist_ok=True)
    for name, md5 in downloads.md5.items():
        url = downloads.base_url + name
        fetcher = pooch.HTTPDownloader(progressbar=_Bar(progress), timeout=TIMEOUT)
        try:
            pooch.retrieve(url, known_hash=f"md5:{md5}", fname=name, path=folder, downloader=fetcher)
        except ValueError as error:
            raise DataError(
                f"{url}: {error}; fetch it by hand from the publisher, then run: {by_hand}"
            ) from error
        except OSError as error:
            if error.errno is not None:  # the disk, not the network: requests' errors carry no number
                raise
            raise DataError(
                f"cannot fetch {url} ({_short(error)}); fetch it by hand, then run: {by_hand}"
            ) from error
    return folder


def _short(error: OSError) -> str:
    text = str(error)
    return text if len(text) < 200 else f"{text[:200]}…"
