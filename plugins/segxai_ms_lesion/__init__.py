"""Multiple-sclerosis lesions on FLAIR and MPRAGE: the plugin `ms_lesion` of segxai."""

FILES = ("flair", "mprage")  # of a case: known before the network's libraries are imported
