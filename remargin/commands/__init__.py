"""The commands, one file per group; no logic, only words in and words out."""
