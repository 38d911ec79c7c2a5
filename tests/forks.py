"""Processes that are warm: forks of one that has imported what commands need."""

import multiprocessing

FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload([
    "segxai.cli.progress",
    "segxai.methods.gradcam",
    "segxai.methods.smoothgrad",
    "segxai.models.own_model",
    "segxai.pipeline",
    "segxai.report.export",
    "segxai.report.pictures",
    "segxai.rerun",
    "segxai_ms_lesion.adapter",
    "segxai_natural_image.adapter",
    "segxai_nnunet.adapter",
    "monai.bundle",
    "transformers.models.segformer.modeling_segformer",
    "tests.commandline",
    "tests.fuzz.outcomes",
])  # fmt: skip
