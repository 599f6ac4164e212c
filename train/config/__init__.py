"""Config: all settings of a run as frozen records, checked before any work starts."""
