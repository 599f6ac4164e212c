"""Jobs: work over files of any size. Partitions on disk, tasks, executors on one machine or a Ray cluster,
checkpoints to resume from, progress and a summary at the end.
"""
