"""Results that other suites measured, read into study folders; one file per suite."""
