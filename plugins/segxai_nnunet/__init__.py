"""Any model that nnU-Net v2 trained: the plugin `nnunet` of segxai."""

from segxai_ms_lesion import FILES as FILES  # of the embedded model
