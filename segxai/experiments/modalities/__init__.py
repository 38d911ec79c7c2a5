"""Modalities: what each channel weighs, inside a lesion and around it (section 3.2)."""
