"""Multiple-sclerosis lesions by a Swin UNETR: the plugin `swin_unetr` of segxai."""

from segxai_ms_lesion import FILES as FILES
