"""The two pictures of the README, from a real run and a real report.

    python docs/images/draw.py terminal 'recsys_lt loss=sce'                 # runs the command, writes terminal.svg
    python docs/images/draw.py report multirun/<sweep>/report.html 0 1500    # writes report.png, by headless Chromium

The report of today is of studies/long_tail/runs.parquet/beauty_ce/seeds, from 300 to 1840, with --users 0 --against
sasrec/ce/adam/dropout=0.5 --metric ndcg@10 head/ndcg@10 nonhead/ndcg@10: all columns of its table fit.

Neither picture loads anything: the font of the SVG is the viewer's monospace.
"""

import fcntl
import io
import os
import pty
import re
import shlex
import struct
import subprocess
import sys
import termios
from pathlib import Path

from PIL import Image
from rich._export_format import CONSOLE_SVG_FORMAT
from rich.console import Console
from rich.text import Text

HERE = Path(__file__).parent
COLUMNS = 100


def recorded(command: list[str]) -> str:
    """What a command writes to a terminal of 100 columns."""
    process, terminal = pty.fork()
    if process == 0:
        os.environ.update(TERM="xterm-256color", COLUMNS=str(COLUMNS), LINES="50")
        os.execvp(command[0], command)
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 50, COLUMNS, 0, 0))
    written = b""
    while True:
        try:
            part = os.read(terminal, 65_536)
        except OSError:  # the end, on Linux
            part = b""
        if not part:
            os.waitpid(process, 0)
            return written.decode()
        written += part


def screen(written: str) -> list[str]:
    """The lines left on the screen: progress bars overwrite themselves."""
    lines: list[str] = []
    for line in re.sub(r"\x1b\[\?25[lh]", "", written).replace("\r\n", "\n").split("\n"):
        if line.startswith("\r\x1b[1A") or line.startswith("\x1b[1A"):
            lines.pop()
        lines.append(re.split(r"\r?\x1b\[2K|\r", line)[-1])
    return lines


def terminal(command: str, written: str | None = None) -> None:
    """Write terminal.svg: the command and what it leaves on the screen."""
    lines = screen(recorded(shlex.split(command)) if written is None else written)
    said = "\n".join(lines).replace(str(Path.cwd()), "~").rstrip()
    console = Console(record=True, width=COLUMNS, file=io.StringIO())
    console.print(Text.from_ansi(f"$ {command}\n{said}"))
    console.print()  # the picture's edge cuts underscores off its last line
    plain = re.sub(r"@font-face \{\{.*?\}\}\n", "", CONSOLE_SVG_FORMAT, flags=re.DOTALL)
    svg = console.export_svg(title="recsys_lt", code_format=plain, unique_id="terminal")
    (HERE / "terminal.svg").write_text(svg.replace("Fira Code, ", ""))


def report(page: str, top: str = "0", bottom: str = "1500") -> None:
    """Write report.png: the part of a report between two heights, in pixels."""
    path = HERE / "report.png"
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", f"--window-size=1200,{bottom}"]
    address = Path(page).absolute().as_uri()
    subprocess.run(["chromium", *options, f"--screenshot={path}", address], check=True)
    shown = Image.open(path).crop((0, int(top), 1200, int(bottom)))
    shown.quantize(256).save(path, optimize=True)


if __name__ == "__main__":
    {"terminal": terminal, "report": report}[sys.argv[1]](*sys.argv[2:])
