"""Tracking: runs in MLflow, the registered model and its versions, promotion and release, and what a run was
made of.

Others start at `mlflow_runs`, `run_record`, `provenance.provenance` and `registry`.
"""
