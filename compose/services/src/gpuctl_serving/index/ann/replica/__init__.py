"""The GPU's copy of the index, in a process of its own: disposable, never waited for, never the truth."""
