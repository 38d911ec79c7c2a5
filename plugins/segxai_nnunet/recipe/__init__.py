"""How the embedded nnU-Net was trained."""
