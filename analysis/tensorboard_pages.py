"""Screenshots of TensorBoard.

python -m analysis.tensorboard_pages exp          exp/plots/tensorboard.png, -histograms.png and -hparams.png

Needs Chromium (Debian: apt-get install chromium).
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.parse
import urllib.request

from PIL import Image

from cli import Parser
from errors import RunError, UsageError, report_errors
from storage.files import reserved_name

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
TAGS = "eval/(return|k)$|train/return$|policy/|loss/critic_loss|confidence/confidence_2"
PAGES = {  # what a file's name ends in: the page
    "": f"scalars&_smoothingWeight=0&tagFilter={urllib.parse.quote(TAGS)}",
    "-histograms": "histograms",
    "-hparams": "hparams",
}
ENDINGS = [f"{ending}.png" for ending in PAGES]
DEFAULT_OUTPUT = "exp/plots/tensorboard"
SIZE = "1470,1000"  # pixels: three charts side by side
LOAD_SECONDS, PAGE_SECONDS = 60, 180  # enough for slow machines


def logged(url):
    """{"scalars": ..., "histograms": ..., "hparams": ...}: what TensorBoard has read of each, empty if nothing.

    Raises:
        RunError: it does not answer.
    """

    def ask(path, data=None):
        request = urllib.request.Request(f"{url}data/plugin/{path}", data, {"Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=LOAD_SECONDS) as answer:
                return json.load(answer)
        except OSError as error:
            raise RunError(f"TensorBoard does not answer: {error}") from error

    found = {kind: [tags for tags in ask(f"{kind}/tags").values() if tags] for kind in ("scalars", "histograms")}
    return found | {"hparams": ask("hparams/experiment", b"{}").get("hparamInfos")}


def screenshot(browser, url, path):
    """Write a page as a PNG file.

    Raises:
        RunError: the browser writes no image, or the file cannot be written.
    """
    with tempfile.TemporaryDirectory() as profile:
        command = [browser, "--headless=new", "--disable-gpu", "--hide-scrollbars", f"--user-data-dir={profile}"]
        command += ["--no-sandbox"] * (os.name == "posix" and os.geteuid() == 0)  # as root it does not start without
        command += [f"--window-size={SIZE}", "--virtual-time-budget=20000", f"--timeout={PAGE_SECONDS * 1000}"]
        scratch = os.path.join(profile, "page.png")
        try:
            subprocess.run([*command, f"--screenshot={scratch}", url], capture_output=True, timeout=PAGE_SECONDS)
            Image.open(scratch).convert("RGB").quantize(128).save(path, optimize=True)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise RunError(f"{browser} took no screenshot of {url} that could be written to {path}") from error


def run(args):
    """Start TensorBoard, wait until it has read the logs, write the screenshots.

    Raises:
        UsageError: the browser is missing, or something is not in the logs.
        RunError: TensorBoard or the browser fails.
    """
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        raise UsageError(f"there is none of {', '.join(BROWSERS)} here (Debian: apt-get install chromium)")
    command = [sys.executable, "-m", "tensorboard.main", "--logdir", args.log_dir, "--host", "127.0.0.1", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as server:
        try:
            url = next(
                (word for line in server.stderr for word in line.split() if word.startswith("http://127.")), None
            )
            if url is None:
                raise RunError("TensorBoard did not start")
            deadline = time.monotonic() + LOAD_SECONDS
            while missing := [kind for kind, found in logged(url).items() if not found]:
                if time.monotonic() > deadline:
                    raise UsageError(f"{args.log_dir} has no {' and no '.join(missing)} for TensorBoard")
                time.sleep(0.5)
            with reserved_name(args.output or DEFAULT_OUTPUT, ENDINGS, args.replace) as output:
                for ending, page in PAGES.items():
                    screenshot(browser, f"{url}#{page}", f"{output}{ending}.png")
                    print(f"wrote {output}{ending}.png")
        finally:
            server.terminate()


def main():
    """The command line; every error is one sentence."""
    parser = Parser(description="Screenshots of TensorBoard.")
    parser.add_argument("log_dir", metavar="DIR", help="exp, or one run")
    parser.add_argument(
        "--output",
        help=f"first part of the files' names (default: {DEFAULT_OUTPUT}, with a number if that exists)",
    )
    parser.add_argument("--replace", action="store_true", help="replace files that exist (default: no)")
    args = parser.parse_args()
    if args.output and not args.replace:
        parser.refuse_existing([args.output + ending for ending in ENDINGS], "--replace it")
    with report_errors():
        run(args)


if __name__ == "__main__":
    main()
