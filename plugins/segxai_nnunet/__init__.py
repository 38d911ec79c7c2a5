"""Any model that nnU-Net v2 trained: the plugin `nnunet` of segxai."""
