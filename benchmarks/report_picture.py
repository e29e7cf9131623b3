"""Takes the picture of a report that README.md shows: `python benchmarks/report_picture.py runs/quickstart-1a2b3c`.

Needs Chromium. Writes docs/report.png anew, of the page that a run wrote, as far down as its first picture.
"""

from __future__ import annotations

import io
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

PICTURE = Path(__file__).parents[1] / "docs" / "report.png"
WIDTH, HEIGHT = 1000, 620
COLOURS = 256


def take(page: Path, width: int = WIDTH, height: int = HEIGHT) -> bytes:
    """Returns the top of a page, of that many pixels, as a PNG of few colours."""
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        raise SystemExit("no chromium here: sudo apt install chromium")
    with tempfile.TemporaryDirectory() as folder:
        shot = Path(folder) / "page.png"
        command = [browser, "--headless=new", "--no-sandbox", "--hide-scrollbars", f"--user-data-dir={folder}/profile"]
        command += [f"--window-size={width},{height + 200}", f"--screenshot={shot}", page.resolve().as_uri()]
        subprocess.run(command, check=True, capture_output=True, timeout=120)
        image = Image.open(shot).convert("RGB").crop((0, 0, width, height))
    out = io.BytesIO()
    image.quantize(COLOURS, dither=Image.Dither.NONE).save(out, "PNG", optimize=True)
    return out.getvalue()


def main() -> None:
    """Writes the picture of the study whose folder is named."""
    if len(sys.argv) != 2:
        raise SystemExit(__doc__)
    PICTURE.write_bytes(take(Path(sys.argv[1]) / "report" / "report.html"))
    print(f"{PICTURE}: {PICTURE.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
