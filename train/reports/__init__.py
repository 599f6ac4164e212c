"""Reports: figures and pages of a training run and of the exam."""
