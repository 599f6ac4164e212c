"""Reports: figures and pages of a training run and of the exam.

Others start at `run_page.write_run_page` and `exam_report.write_exam`.
"""
