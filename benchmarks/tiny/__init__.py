"""The bundled pair of tiny models: tasks, training, evaluation and export.

sample.py     ``Sample``: a chat prompt and its one right answer
tasks/        generators of samples
splits.py     train, validation and test prompts, disjoint by a hash of the prompt
prompts.py    ``load_prompts(split, per_task)`` and ``check(sample, text)``
chat.py       the chat template, in Jinja and in Python
tokenizer.py  byte-level BPE of 512 tokens
model.py      the network in plain torch
batches.py    samples to padded batches
drafts.py     where a draft lies on the canvas, in training and in reference decoding
loss.py       autoregressive and block-diffusion objectives
optim.py      Muon and Adam with float32 master weights
checkpoint.py saved states and logs
train.py      one training stage, resumable
decode.py     reference decoding: blocks, and greedy next-token
evaluate.py   accuracy and tokens per step by task
export.py     model folders for servers
plots.py      curves
picture.py    one answer as its blocks fill in
paths.py      where files are kept
"""
