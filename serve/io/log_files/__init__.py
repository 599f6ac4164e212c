"""Files of logs: opened whatever packs them, known by how they begin, and read record by record within bounds.

Ask here for `files.Log`, `opening.LogError` and `json_records.Record`.
"""
