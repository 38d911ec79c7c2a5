"""How the embedded Swin UNETR was trained."""
