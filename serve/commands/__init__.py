"""Commands: what is typed after `stillwatch`, one file for a command or for two that belong together. Each file defines
a `Command`, which `serve.cli` lists. A command imports the rooms that it needs only when it runs, so that the command
line starts quickly.
"""
