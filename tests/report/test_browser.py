"""The page in a real browser: no errors on its console, and every picture decoded and drawn."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from PIL import Image

from pcsim.figures.run_view import view
from pcsim.report.write import write_report

BROWSER = next(
    (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))),
    None,
)
PROBE = """
<script>
addEventListener("load", () => {
  const wide = document.documentElement.scrollWidth > document.documentElement.clientWidth;
  const dead = [...document.images].filter(i => !(i.complete && i.naturalWidth > 0)).length;
  console.log(`PROBE images=${document.images.length} dead=${dead} overflows=${wide}`);
});
</script>
"""


@pytest.mark.slow
@pytest.mark.skipif(BROWSER is None, reason="no Chromium here")
@pytest.mark.parametrize("width", [1200, 390])
def test_the_page_opens_without_errors_and_fits_its_window(
    langevin: Path, vanilla: Path, tmp_path: Path, width: int
) -> None:
    target = tmp_path / "report.html"
    write_report([view(vanilla), view(langevin)], target)
    # the page has no script of its own; the probe asks the browser what became of it
    target.write_text(
        target.read_text(encoding="utf-8").replace("</body>", f"{PROBE}</body>"), encoding="utf-8"
    )
    shot = tmp_path / "shot.png"
    assert BROWSER is not None
    done = subprocess.run(
        [BROWSER, "--headless=new", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}",
         f"--window-size={width},4000", f"--screenshot={shot}", "--enable-logging=stderr", "--v=0", target.as_uri()],
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    said = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    probe = re.search(r"PROBE images=(\d+) dead=(\d+) overflows=(\w+)", "\n".join(said))
    assert probe is not None, done.stderr[-2000:]
    assert int(probe[1]) >= 10
    assert probe[2] == "0"
    assert probe[3] == "false", "the page is wider than its window"
    assert len(said) == 1, said
    with Image.open(shot) as picture:
        assert picture.width == width
        assert len(picture.convert("L").getcolors() or []) > 10
