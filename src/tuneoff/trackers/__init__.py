"""Optional outlets that follow a study, each in a process of its own; one file each."""
