"""Results that other suites measured, read into study folders.

PEFT's `method_comparison`: `peft_benchmark` finds its files and writes the folder, `peft_run` is one file,
`peft_records` makes trials and records of them, `peft_findings` says what holds of all together.
"""
