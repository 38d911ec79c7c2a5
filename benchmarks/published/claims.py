"""The table of claims: each claim of the paper, tested by segxai's own commands, with a verdict.

Runs `segxai run`, `cohort` and `experiment` on patient26 of open_ms with the three lesion models,
and on phantoms with the lesions of 28 real masks; reads their tables; and writes a page. A step
whose last file is there is not run again, and segxai goes on within a step: stop it whenever you
like. Steps that were not run are named on the page, and claims are judged by what there is.

    python benchmarks/published/claims.py --out DIR [--steps 0] [--json FILE] [--page FILE.md]
"""

import argparse
import json
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from mask_phantoms import write_phantoms
from others import write_others
from page import write_page
from paper import CLAIMS
from scoring import write_scores
from tables import Tables
from verdicts import verdict

ROOT = Path(__file__).parents[2]
PATIENT = "patient26"
MAPS = ("--method", "gradient", "--score", "logit,probability")
# Rows of the signed max: exact on the patient, and as many of each domain of a phantom.
EXACT = ("--aggregator", "mean,signed_max", "--rows", "2000", "--controls", "spheres,matched")
FEW_ROWS = ("--aggregator", "mean,signed_max", "--rows", "8", "--controls", "spheres,matched")
STEPS_MM = ("--steps", "0,1,2,3,4,5,7,9,12,15,18,22,25", "--no-dilation", "--volume", "all")
MOVED = ("--fills", "zero,dark", "--places", "5", "--sizes", "93", "--contrasts", "0,0.5,1,1.5")
# Of the other models, where a score takes eight dense passes or more, two small lesions that are
# found, and one to move.
FEW_STEPS_MM = ("--steps", "0,3,7,12,18,25", "--no-dilation", "--volume", "10,40")
FEW_MOVED = ("--fills", "dark", "--places", "2", "--sizes", "20", "--contrasts", "0,1")
# Labels of two small lesions that are found, the first to be moved, and of a false alarm.
FEW = {"nnunet": "15,17,16", "swin_unetr": "16,9,17"}


@dataclass(frozen=True)
class Step:
    """A command of segxai, and the file that it writes last."""

    words: tuple[str, ...]
    product: Path

    @property
    def done(self) -> bool:
        """Whether its last file is there."""
        return self.product.is_file()

    def told(self, out: Path, data: Path) -> str:
        """Return the command with OUT and DATA for the folders."""
        text = shlex.join(("segxai", *self.words))
        return text.replace(str(out), "OUT").replace(str(data), "DATA")


def main() -> None:
    """Run what was not run, and judge."""
    asked = arguments()
    out, data = asked.out.absolute(), asked.data.absolute()
    if not data.is_dir():
        print(f"no images at {data}: give the folder of open_ms with --data; nothing is run")
        return
    plan = list(steps(out, data))
    left = [step for step in plan if not step.done]
    if left and asked.steps != 0:
        write_phantoms(data, out / "phantoms")
    for step in left[: asked.steps]:
        print(f"$ {step.told(out, data)}", flush=True)
        step.product.parent.mkdir(parents=True, exist_ok=True)
        # 1 is a cohort with cases that failed, which its tables say.
        if subprocess.run([sys.executable, "-m", "segxai", *step.words]).returncode not in (0, 1):
            raise SystemExit("the step failed; the same command goes on from here")
    for results in sorted({path.parent for path in out.glob("*/*/*.h5")}):
        write_others(results)
    folders = table_folders(out)
    for folder in folders:
        write_scores(folder)
    report(Tables(folders), plan, asked)


def arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    data = ROOT.parent / "shared" / "data" / "open_ms"
    add("--out", type=Path, required=True, metavar="DIR", help="of all results; made if new")
    add("--data", type=Path, default=data, help="folder of open_ms")
    add("--steps", type=int, metavar="N", help="run at most N steps; 0: only judge what is there")
    add("--json", type=Path, metavar="FILE", help="write observations and verdicts here")
    add("--page", type=Path, metavar="FILE.md", help="write the page here, figures in ../images")
    return parser.parse_args()


# ------------------------------------------------------------------------------------------- steps


def steps(out: Path, data: Path) -> Iterator[Step]:
    """List all commands, the most telling first."""
    home = out / PATIENT
    yield run(home / "ms_lesion", data, "ms_lesion", *MAPS, *EXACT)
    yield from on_tables((home / "ms_lesion" / f"{PATIENT}.h5",), home / "ms_lesion")
    yield from on_model(home / "ms_lesion", MOVED, STEPS_MM)
    yield from phantoms(out / "phantoms", "held_out")
    for model in ("ms_lesion", *FEW):
        yield run(home / f"{model}_heat", data, model, "--method", "gradcam++")
    for model, labels in FEW.items():
        few = ("--aggregator", "mean", "--instances", labels)
        yield run(home / model, data, model, *MAPS, *few)
        yield from on_tables((home / model / f"{PATIENT}.h5",), home / model)
        moved = (*FEW_MOVED, "--label", labels.split(",")[0])
        yield from on_model(home / model, moved, FEW_STEPS_MM)
    yield from phantoms(out / "phantoms", "trained")


def phantoms(folder: Path, cohort: str) -> Iterator[Step]:
    """Explain a cohort of phantoms, and compare its domains."""
    words = (str(folder / f"{cohort}.csv"), "--plugin", "ms_lesion", *MAPS, *FEW_ROWS)
    home = folder / cohort
    yield Step(("cohort", *words, "--out", str(home)), home / "instances.csv")
    yield from on_tables((home,), home, "flags")


def run(folder: Path, data: Path, model: str, *words: str) -> Step:
    """Explain the patient by a model."""
    images = [f"{name}={data / PATIENT / file}.nii.gz" for name, file in CHANNELS.items()]
    reference = str(data / PATIENT / "gt.nii.gz")
    file = folder / f"{PATIENT}.h5"
    asked = ("--plugin", model, "--reference", reference, "--case", PATIENT, *words)
    return Step(("run", *images, *asked, "--out", str(file)), file.with_suffix(".png"))


CHANNELS = {"flair": "flair", "mprage": "t1"}


def on_tables(results: tuple[Path, ...], folder: Path, *more: str) -> Iterator[Step]:
    """Run the experiments that read results alone."""
    for name in ("outcomes", "sizes", "modalities", *more):
        words = ("--cut", "0.1", "--no-shapley") if name == "modalities" else ()
        yield experiment(name, results, folder / "experiments", *words)


def on_model(folder: Path, moved: tuple[str, ...], context: tuple[str, ...]) -> Iterator[Step]:
    """Run the experiments that ask the model; each fill of the context may take long."""
    result = (folder / f"{PATIENT}.h5",)
    yield experiment("synthetic", result, folder / "experiments", *moved)
    for fills, name in (("zero,healthy", "experiments"), ("dark", "experiments_dark")):
        yield experiment("context", result, folder / name, "--fills", fills, *context)


def experiment(name: str, results: tuple[Path, ...], out: Path, *words: str) -> Step:
    """Run an experiment."""
    asked = ("experiment", name, *map(str, results), *words, "--out", str(out))
    return Step(asked, out / f"{name}.txt")


# ------------------------------------------------------------------------------------------ report


def table_folders(out: Path) -> dict[Path, str]:
    """Name the data of every folder of tables."""
    kinds = {"held_out": "held-out", "trained": "trained"}
    found = sorted([*out.glob("*/*/experiments*"), *out.glob("*/*/others")])
    return {folder: _data_of(folder.parent, kinds) for folder in found}


def _data_of(folder: Path, kinds: dict[str, str]) -> str:
    kind = kinds.get(folder.name)
    return f"phantoms, {len(list(folder.glob('mask*.h5')))} {kind} masks" if kind else PATIENT


def report(tables: Tables, plan: list[Step], asked: argparse.Namespace) -> None:
    """Print the verdicts, and write the files that were asked for."""
    judged = []
    for claim in CLAIMS:
        observed = list(claim.observe(tables))
        judged.append((claim, observed, verdict(observed)))
        print(f"{claim.text} [{claim.where}]: {judged[-1][2]}")
    if asked.json:
        rows = [
            {"claim": claim.text, "verdict": words, "observations": [asdict(one) for one in seen]}
            for claim, seen, words in judged
        ]
        asked.json.write_text(json.dumps(rows, indent=1, allow_nan=False) + "\n")
    if asked.page:
        out, data = asked.out.absolute(), asked.data.absolute()
        told = [(step.told(out, data), step.done) for step in plan]
        write_page(asked.page, judged, told, out)


if __name__ == "__main__":
    main()
