"""Multiple-sclerosis lesions on FLAIR and MPRAGE: the plugin `ms_lesion` of segxai."""
