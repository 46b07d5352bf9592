"""Processes that train and are killed, forked from one that has imported everything."""

import contextlib
import multiprocessing
import os
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path

import torch

import selfsight.engine.run
from selfsight.cli import main
from selfsight.engine.checkpoint import save_checkpoint

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(
    ["torch._dynamo", "selfsight.cli.learn", "selfsight.workflows.train.run", "selfsight.methods.contrastive.moco"]
)


def work(words: list[str], told: Connection) -> None:
    """Run a command; a byte is sent when the writing of a checkpoint begins, and another one when it has ended."""
    torch.set_num_threads(1)

    def save(*given, **more):
        told.send_bytes(b"begins")
        try:
            return save_checkpoint(*given, **more)
        finally:
            told.send_bytes(b"ended")

    selfsight.engine.run.save_checkpoint = save
    with Path(os.devnull).open("w") as nothing, contextlib.redirect_stdout(nothing), contextlib.redirect_stderr(nothing):
        os._exit(main(words))


def started(words: list[str]) -> tuple[BaseProcess, Connection]:
    """A process that runs a command, and the connection on which it reports."""
    ours, theirs = CONTEXT.Pipe()
    process = CONTEXT.Process(target=work, args=(words, theirs), daemon=True)
    process.start()
    theirs.close()
    return process, ours
