"""Config: all settings of a run as frozen records, checked before any work starts.

Others start at `settings.Settings` and `settings.settings_of`.
"""
