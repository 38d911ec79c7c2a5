"""How the embedded network was trained."""
