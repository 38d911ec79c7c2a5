"""Seconds until the command line answers: imports and `--help`, each in a fresh process.

Fails if `import segxai` loads torch.

    python benchmarks/startup.py [--rounds 7] [--json FILE]
"""

import argparse
import subprocess
import sys
from functools import partial

from workbench.clock import in_turns, spread
from workbench.report import finish, options, table

COMMANDS = {
    "python -c pass": ["-c", "pass"],
    "import segxai": ["-c", "import segxai"],
    "segxai --help": ["-m", "segxai", "--help"],
    "segxai run --help": ["-m", "segxai", "run", "--help"],
    "segxai experiment --help": ["-m", "segxai", "experiment", "--help"],
    "segxai cohort --help": ["-m", "segxai", "cohort", "--help"],
    "segxai compare --help": ["-m", "segxai", "compare", "--help"],
    "from segxai import open_result": ["-c", "from segxai import open_result"],
    "from segxai import explain": ["-c", "from segxai import explain"],
}
NO_TORCH = "import sys, segxai; sys.exit('torch' in sys.modules)"


def main() -> None:
    """Time every command in turns, after one round to warm the disk's cache."""
    asked = arguments()
    if run(["-c", NO_TORCH]):
        raise SystemExit("import segxai loads torch")
    ways = {name: partial(run, words) for name, words in COMMANDS.items()}
    in_turns(ways, 1)
    figures = {name: spread(times) for name, times in in_turns(ways, asked.rounds).items()}
    lines = [
        [name, f"{one['seconds']:.3f}", f"{one['fastest']:.3f} to {one['slowest']:.3f}"]
        for name, one in figures.items()
    ]
    table("seconds, median", ["command", "seconds", "rounds"], lines)
    print("import segxai does not load torch")
    finish("startup", asked, figures)


def arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = options(__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    return parser.parse_args()


def run(words: list[str]) -> int:
    """Run Python with these words, and return its exit status."""
    return subprocess.run([sys.executable, *words], stdout=subprocess.DEVNULL).returncode


if __name__ == "__main__":
    main()
