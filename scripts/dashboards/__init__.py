"""The dashboards: one module each; `panels` is how they are written, `python -m scripts.dashboards` writes the JSON."""
