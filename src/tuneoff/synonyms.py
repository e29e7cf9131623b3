"""Names of options, keys and commands in other tools -> their names here."""

from __future__ import annotations

_SYNONYMS = {
    # keys of a study and of methods
    "adam_epsilon": ("eps", "epsilon"),
    "attention": ("attn", "attn_implementation", "flash_attention"),
    "batch_size": ("bs", "batch", "train_batch_size", "per_device_train_batch_size", "effective_batch_size"),
    "batching": ("group_by_length", "length_grouping", "bucketing", "sortish", "train_sampling_strategy"),
    "clip_norm": ("clip", "grad_clip", "gradient_clipping", "max_grad_norm", "gradient_clip_val"),
    "data": ("dataset", "train_file", "data_path", "csv"),
    "devices": ("gpus", "n_gpu", "num_gpus", "nproc_per_node", "num_processes"),
    "epochs": ("num_train_epochs", "n_epochs", "max_epochs"),
    "evaluation_batch_size": ("eval_batch_size", "per_device_eval_batch_size"),
    "gradient_accumulation_steps": ("accumulate", "grad_accum", "accumulation_steps", "accumulate_grad_batches"),
    "label": ("label_column", "target_column", "class_column"),
    "learning_rate": ("lr", "rate"),
    "max_length": ("max_len", "max_seq_length", "max_seq_len", "seq_len", "sequence_length", "cutoff_len"),
    "max_steps": ("steps", "num_steps", "max_train_steps"),
    "max_target_length": ("max_new_tokens", "generation_max_length"),
    "methods": ("arms", "techniques", "algorithms", "peft_type", "peft_method"),
    "model": ("base_model", "model_name", "model_name_or_path", "model_id", "checkpoint", "backbone", "weights"),
    "precision": ("fp16", "bf16", "dtype", "torch_dtype", "mixed_precision", "half"),
    "r": ("rank", "lora_r", "lora_rank"),
    "schedule": ("scheduler", "lr_scheduler", "lr_scheduler_type"),
    "search": ("hpo", "sweep", "tune", "n_trials", "num_trials"),
    "seeds": ("seed", "random_seed", "random_state", "repeats", "runs"),
    "select_metric": ("metric_for_best_model", "eval_metric"),
    "targets": ("target_modules", "lora_target_modules"),
    "test_fraction": ("test_size", "test_split"),
    "text": ("text_column",),
    "train_rows": ("train_size", "max_train_samples", "num_train", "limit", "sample", "subset"),
    "validation_fraction": ("val_size", "val_split", "validation_size", "validation_split", "dev_split"),
    "validation_rows": ("eval_rows", "max_eval_samples"),
    "warmup_ratio": ("warmup", "warmup_proportion"),
    "weight_decay": ("wd", "l2"),
    # options of the command line
    "device": ("gpu", "cuda", "cpu", "accelerator"),
    "no_profile": ("no_probe",),
    "out": ("o", "output", "output_dir", "out_dir", "outdir", "output_path", "save_dir", "save_to", "folder", "dest"),
    "tracker": ("report_to", "logger", "wandb", "mlflow", "tensorboard"),
    # commands
    "cache": ("clean", "purge", "caches"),
    "compare": ("diff", "versus", "vs"),
    "doctor": ("check", "env", "info", "diagnose"),
    "export": ("save", "merge", "push"),
    "init": ("new", "create", "setup", "start_project"),
    "list": ("ls", "methods", "models", "recipes", "datasets"),
    "plan": ("estimate", "forecast", "dry_run", "preview"),
    "predict": ("infer", "inference", "classify", "generate"),
    "recommend": ("best", "choose", "advise", "suggest"),
    "report": ("eval", "evaluate", "results", "result", "summary", "test"),
    "run": ("train", "fit", "finetune", "fine_tune", "start", "resume", "continue", "launch", "execute", "bench"),
    "show": ("describe", "details", "explain"),
    "watch": ("status", "monitor", "tail", "follow", "progress", "top"),
}

HERE: dict[str, tuple[str, ...]] = {}
"""Name in other tools, with underscores -> names here, of which some exist where it was typed."""
for _name, _synonyms in _SYNONYMS.items():
    for _synonym in _synonyms:
        HERE[_synonym] = (*HERE.get(_synonym, ()), _name)
