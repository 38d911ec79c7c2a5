"""The built-in methods: Captum attributions that put rows and aggregators together."""
