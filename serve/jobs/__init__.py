"""Jobs: work over files of any size. Partitions on disk, tasks, executors on one machine or a Ray cluster,
checkpoints to resume from, progress and a summary at the end.

Others start at `tasks.ReadTask`, `executors.EXECUTORS`, `checkpoint.Checkpoint`, `progress.Progress` and
`summary.summary_text`.
"""
