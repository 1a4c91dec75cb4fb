"""What makes an acknowledged write survive: the append log, its replay, snapshots, and recovery at start."""
