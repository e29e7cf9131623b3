"""Real runs of a tiny model: its folder, its data, methods that misbehave, and one warm executor for all tests."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from running_helpers import Ended, OneExecutor, Prepared, SharedExecutor, Tiny, tiny_rows, write_rows
from tuneoff.cli.main import main
from tuneoff.planning.plan import plan
from tuneoff.store import StudyStore
from tuneoff.study.study import Study

FAULTY = '''
"""Full fine-tuning that goes wrong in a way of its choice after the first step."""

import os
import resource
import signal
import sys
import time

from tuneoff.interfaces import MethodOptions
from tuneoff.methods.full import Full


class FaultyOptions(MethodOptions):
    how: str = "raise"
    seconds: float = 600.0
    rank: int | None = None
    most: int = 8
    cgroup: str = ""


class Faulty(Full):
    Options = FaultyOptions
    # Asked to stop, it ends in the middle of a step.
    resumable = False

    def attach(self, model, task):
        print("attaching on", model.device)
        if self.options.how == "refuse" or (self.options.how == "attach" and model.device.type != "meta"):
            raise RuntimeError("this plug-in cannot attach")
        if self.options.how.startswith("load_") and model.device.type != "meta":
            import torch

            if self.options.how == "load_memory":
                torch.empty(1 << 60)
            if self.options.how == "load_abort":
                resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
                print("memory allocation of 17179869184 bytes failed", flush=True)
                os.abort()
            os.kill(os.getpid(), signal.SIGKILL)
        if self.options.how == "vanish":
            print("about to vanish", flush=True)
            os._exit(3)
        attached = super().attach(model, task)
        if self.options.how.startswith("batch_") and model.device.type != "meta":
            attached.module.register_forward_pre_hook(self._exhaust, with_kwargs=True)
        return attached

    def _exhaust(self, module, args, kwargs):
        """Runs out of memory in a training step on more examples than `most`."""
        if not module.training or len(kwargs["input_ids"]) <= self.options.most:
            return
        import torch

        if self.options.how == "batch_python":
            raise MemoryError
        if self.options.how == "batch_cuda":
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        if self.options.how == "batch_cgroup":
            # Within the limit of a cgroup of the test, whose memory is less than this.
            with open(f"{self.options.cgroup}/cgroup.procs", "w") as file:
                file.write(str(os.getpid()))
            bytearray(1 << 30)
        os.kill(os.getpid(), signal.SIGKILL)

    def after_step(self, attached, step, total_steps):
        if self.options.rank is not None and os.environ.get("RANK") != str(self.options.rank):
            return
        how = self.options.how
        if how == "raise":
            raise ZeroDivisionError("this plug-in divides by zero")
        if how == "stop":
            os.kill(os.getpid(), signal.SIGSTOP)
        if how in {"receive", "groups"}:
            from functools import partial

            import torch
            from torch import distributed

            if how == "receive":
                distributed.recv(torch.zeros(1), src=1 - distributed.get_rank())
            elif step == 2:
                other = distributed.new_group([0, 1])
                if distributed.get_rank() == 1:
                    distributed.all_reduce = partial(distributed.all_reduce, group=other)
        if how == "spin":
            while True:
                pass
        if how == "memory":
            raise MemoryError
        if how == "exit":
            os._exit(3)
        if how == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if how == "abort":
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            os.abort()
        if how == "full_disk":
            resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 14, 1 << 14))
        if how == "stubborn":
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        if how in {"slow", "stubborn"}:
            print("sleeping", flush=True)
            time.sleep(float(os.environ.get("FAULTY_SECONDS", self.options.seconds)))


plugin = Faulty
'''


def _save_model(folder: Path, kind: str, **sizes: Any) -> None:
    import torch
    from transformers import AutoConfig, AutoModel

    from tuneoff.trial.modeling.tokenizer import byte_tokenizer

    config = AutoConfig.for_model(
        kind, vocab_size=300, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64, **sizes
    )
    torch.manual_seed(0)
    AutoModel.from_config(config).save_pretrained(folder)
    byte_tokenizer(config).save_pretrained(folder)


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    """Model folders, arms and a plug-in."""
    made = Tiny(tmp_path_factory.mktemp("tiny"))
    _save_model(made.model, "bert", max_position_embeddings=64, initializer_range=0.2)
    _save_model(made.llama, "llama", max_position_embeddings=64, num_key_value_heads=2)
    write_rows(made.train, tiny_rows(90, 1))
    write_rows(made.test, tiny_rows(30, 2))
    made.wheels.mkdir()
    announced = made.plugins / "faulty_method-1.0.dist-info"
    announced.mkdir(parents=True)
    (announced / "METADATA").write_text("Metadata-Version: 2.1\nName: faulty-method\nVersion: 1.0\n")
    (announced / "entry_points.txt").write_text("[tuneoff.methods]\nfaulty = faulty_method:plugin\n")
    (made.plugins / "faulty_method.py").write_text(FAULTY)
    return made


@pytest.fixture(scope="session")
def child_environment(tiny: Tiny) -> dict[str, str]:
    """The environment of everything that is started: one thread, no network, the plug-in at hand."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        # Begun in the background of a script: what is ignored here would be ignored by all that is started.
        signal.signal(signal.SIGINT, signal.default_int_handler)
    return {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(tiny.plugins),
        "TUNEOFF_CACHE": str(tiny.root / "cache"),
        "TUNEOFF_WHEELS": str(tiny.wheels),
        "HF_HUB_OFFLINE": "1",
        "HF_HOME": str(tiny.root / "hub"),
        "COLUMNS": "200",
    }


@pytest.fixture(scope="session")
def executor(child_environment: dict[str, str]) -> Iterator[SharedExecutor]:
    """One warm executor for all tests."""
    shared = SharedExecutor("cpu")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in child_environment.items():
            patch.setenv(name, value)
        assert shared.children.environment["PYTHONPATH"] == child_environment["PYTHONPATH"]
    yield shared
    shared.end()


@pytest.fixture
def faulty(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of the method that misbehaves, which this process then knows too."""
    monkeypatch.syspath_prepend(str(tiny.plugins))
    return "faulty"


@pytest.fixture
def shared(executor: SharedExecutor) -> Iterator[SharedExecutor]:
    """Studies of this test run on the shared executor."""
    with OneExecutor(executor).registered():
        yield executor


@pytest.fixture
def run(shared: SharedExecutor, capfd: pytest.CaptureFixture[str]) -> Callable[..., Ended]:
    """The command line in this process, its trials in processes of their own."""

    def call(*arguments: str | Path) -> Ended:
        capfd.readouterr()
        code = main([str(argument) for argument in arguments])
        captured = capfd.readouterr()
        return Ended(code, captured.out, captured.err)

    return call


@pytest.fixture
def prepare(tiny: Tiny, tmp_path: Path) -> Callable[..., Prepared]:
    """Makes a study's folder."""

    def make(methods: Any, folder: str = "study", execution: dict[str, Any] | None = None, **protocol: Any) -> Prepared:
        raw = tiny.study(methods, **protocol)
        raw["execution"] |= execution or {}
        study = Study(raw)
        trials = plan(study.spec)
        return Prepared(StudyStore.create(tmp_path / folder, study.spec, trials), trials, [])

    return make


@pytest.fixture
def command(child_environment: dict[str, str], tmp_path: Path) -> Callable[..., Ended]:
    """Runs `python -m tuneoff …` in a folder of its own, to its end."""

    def run(*arguments: str | Path, environment: dict[str, str] | None = None, timeout: float = 300) -> Ended:
        done = subprocess.run(
            [sys.executable, "-m", "tuneoff", *map(str, arguments)],
            cwd=tmp_path,
            env={**child_environment, **(environment or {})},
            capture_output=True,
            text=True,
            timeout=timeout,
        )
        return Ended(done.returncode, done.stdout, done.stderr)

    return run
