"""Multiple-sclerosis lesions by a Swin UNETR: the plugin `swin_unetr` of segxai."""
