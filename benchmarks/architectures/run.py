"""Running: each job of the plan by `segxai run`, into one result for each image and network."""

import json
import sys
import time
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path

import nibabel as nib
import pandas as pd
import segxai_ms_lesion
from plan import CORNERS, INSTANCES, MOST_VOXELS, MS_NETWORKS, SIDE, Job

from segxai.cli import main as segxai_main

EMBEDDED = Path(segxai_ms_lesion.__file__).parent / "case"
FILES = {
    "embedded": ("flair.nii.gz", "mprage.nii.gz"),
    "patient26": ("flair.nii.gz", "t1.nii.gz"),
}


def segxai(*words: object) -> tuple[int, str]:
    """Run a command of segxai in this process; return its status and what it said."""
    said, arguments = StringIO(), sys.argv
    sys.argv = ["segxai", *map(str, words)]
    try:
        with redirect_stdout(said), redirect_stderr(said):
            segxai_main()
    except SystemExit as end:
        return int(end.code or 0), said.getvalue()
    finally:
        sys.argv = arguments
    return 0, said.getvalue()


def ready(*words: object) -> str:
    """Run a command that must succeed."""
    status, said = segxai(*words)
    if status:
        raise SystemExit(f"segxai {' '.join(map(str, words))}\n{said}")
    return said


class Place:
    """A folder with what was computed: PLACE/CASE/NETWORK.h5, and the costs of all jobs."""

    def __init__(self, folder: Path, data: Path) -> None:
        self.folder, self.data = folder, data
        self.log = folder / "costs.jsonl"

    def result(self, job: Job) -> Path:
        """Name the result of a job: one for each, since a result of many runs opens slowly."""
        return self.folder / job.case / job.network / f"{job.name}.h5"

    def survey(self, case: str) -> Path:
        """Name the result whose instances are explained by all networks."""
        return self.folder / case / "survey.h5"

    def costs(self) -> list[dict]:
        """Read what each job took, or why it was refused."""
        lines = self.log.read_text().splitlines() if self.log.exists() else ()
        return [json.loads(line) for line in lines]

    def has(self, job: Job) -> bool:
        """Return whether a job is done, and was not refused."""
        return any(one["job"] == vars(job) and not one["status"] for one in self.costs())

    def has_images(self, case: str) -> bool:
        """Return whether the images of a case are there."""
        return case != "patient26" or (self.data / case).is_dir()

    def images(self, case: str) -> list[Path]:
        """Cut the block of a case out of its images; none for the embedded photograph."""
        if case not in FILES:
            return []
        source = EMBEDDED if case == "embedded" else self.data / case
        blocks = []
        for name in FILES[case]:
            block = self.folder / case / name
            if not block.exists():
                block.parent.mkdir(parents=True, exist_ok=True)
                cut = tuple(slice(start, start + SIDE) for start in CORNERS[case])
                nib.save(nib.load(source / name).slicer[cut], block)
            blocks.append(block)
        return blocks

    def run(self, job: Job) -> None:
        """Run a job, unless it was run, and note what it took."""
        if any(one["job"] == vars(job) for one in self.costs()):
            return
        more: list[object] = ["--full"] if job.case == "coins" else []
        if not job.is_class_level:
            more += ["--labels", ",".join(map(str, self.labels(job.case)))]
            if job.network in MS_NETWORKS[1:]:
                more += ["--instances", self.survey(job.case)]
        self.result(job).parent.mkdir(parents=True, exist_ok=True)
        words = ["run", *self.images(job.case), "--plugin", job.network, *job.words, *more]
        start = time.process_time()
        status, said = segxai(*words, "--out", self.result(job))
        spent = time.process_time() - start
        note = {"job": vars(job), "status": status, "seconds": spent, "said": said}
        with self.log.open("a") as log:
            log.write(json.dumps(note) + "\n")
        print(f"{spent:6.1f} s {status} {job}", flush=True)

    def labels(self, case: str) -> Sequence[int]:
        """Choose the instances: of those that the first network finds, the largest that are small.

        Of the coins, the three smallest.
        """
        network = "natural_image" if case == "coins" else MS_NETWORKS[0]
        table = self.folder / case / "instances.csv"
        if not table.exists():
            survey = self.survey(case)
            also = ["--full"] if case == "coins" else []
            words = ["--method", "input_x_gradient", "--out", survey, "--overwrite", *also]
            ready("run", *self.images(case), "--plugin", network, *words)
            ready("table", survey, "--out", table, "--overwrite")
        rows = pd.read_csv(table)
        if case == "coins":
            return list(rows.nsmallest(INSTANCES, "voxels")["label"])
        return list(rows[rows["voxels"] <= MOST_VOXELS].nlargest(INSTANCES, "voxels")["label"])
