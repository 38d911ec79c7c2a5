"""Score the nnU-Net on a patient: `python -m segxai_nnunet.recipe.evaluate --help`."""

from segxai_ms_lesion.recipe.evaluate import evaluate

from segxai_nnunet.recipe.train import load_checkpoint

if __name__ == "__main__":
    evaluate("nnunet", load_checkpoint)
