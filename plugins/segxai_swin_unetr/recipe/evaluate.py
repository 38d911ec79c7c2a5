"""Score the Swin UNETR on a patient: `python -m segxai_swin_unetr.recipe.evaluate --help`."""

from segxai_ms_lesion.recipe.evaluate import evaluate

from segxai_swin_unetr.network import load_swin_unetr

if __name__ == "__main__":
    evaluate("swin_unetr", load_swin_unetr)
