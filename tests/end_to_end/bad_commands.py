"""Command lines that are wrong, a line each: the arguments, a bar, and words that the answer must hold."""

#: After ``dataset=synthetic logger=none trainer.max_epochs=1`` and small data.
CHOICES = """
trainer.max_epoch=3 | trainer.max_epoch, Did you mean trainer.max_epochs?
sede=3 | sede, Did you mean seed?
+trainer.gradient_clip_val=1 | gradient_clip_val, conf/trainer
+colour=blue | colour, there is no key
++colour=blue | colour, configuration
loss=5 | loss=5, a group is a choice
loss=[ce] | loss=[ce], a group is a choice
loss=null | loss=null, a group is a choice
+experiment=true | +experiment=true, a group is a choice
dataset.k_core=-1 hydra.job.chdir=true | dataset.k_core, -1 is no number of events
loss=sc | loss, 'sc', sce
modle=gru4rec | modle, model, Did you mean model?
+experiment=nothing | experiment, nothing, beauty_sce
dataset=beuaty | beuaty, beauty
loss.k=5 | loss.k, there is no key
model.dropout=1.7 | dropout is 1.7, [0, 1)
loss=sce loss.k=501 | 501 negatives, 40 items
loss=sce loss.k=41 | loss.k=40
loss=sce loss.k=39 loss.pool=unseen | 39 negatives, loss.k=38
loss=bpr loss.k=40 loss.pool=non_target | 40 negatives, loss.k=39
loss=sce loss.k=0 | loss.k, greater than 0
loss=sce loss.pool=none | loss.pool, unseen
loss=sce loss.share=user | loss.share, batch
loss=sce loss.alpha=inf | loss.alpha, finite
metrics.ks=[10,1000] | 1000, 40 items, metrics.ks=[10]
metrics.ks=[1,5] | 10 is not among, metrics.ks
metrics.ks=10 | metrics.ks, a valid list
metrics.ks=[a] | metrics.ks, a valid integer
metrics.mask_seen=maybe | metrics.mask_seen, keep_target
metrics.groups=[0.5,0.6,0.2] | metrics.groups.shares, sum to 1
metrics.groups.window=90 | metrics.groups.window, 90d
metrics.groups.window=90dd | metrics.groups.window, 90d
metrics.groups.windows=90d | metrics.groups.windows, Did you mean metrics.groups.window?
metrics.groups=null | metrics.groups, a mapping whose _target_ names a GroupSettings
optimizer.lr=0 | optimizer.lr, greater than 0
optimizer.lr=fast | optimizer.lr, fast, a valid number
optimizer.lr=inf | optimizer.lr, finite
optimizer.weight_decay=inf | optimizer.weight_decay, finite
trainer.batch_rows=0 | trainer.batch_rows, greater than 0
dataset.cache_dir=~nobody2/x | the name of no user
dataset.cache_dir= | dataset.cache_dir, empty
trainer.num_workers=99999999 | trainer.num_workers, 1024
trainer.max_epochs=1e3 | trainer.max_epochs, a valid integer
trainer.max_epochs=${seed}x | trainer.max_epochs, '0x'
seed=-1 | seed, greater than or equal to 0
seed=??? | seed, no value
seed=${nope} | ${nope}, no such key
seed=[1] | seed, a valid integer
seed=true | seed, a valid integer
~seed | ~seed, every run needs it
~trainer | ~trainer, every run needs it
~model | ~model, every run needs it
~loss | ~loss, every run needs it
~model.width | width, conf/model
~dataset.source | source, it lacks the key
~precision | precision, it lacks the key
debug=maybe | debug, a valid boolean
precision=fp8 | precision, bf16
precision=fp16-mixed strategy=cpu | precision, CPU, bf16-mixed
precision=fp16-mixed optimizer=lazy_adam | precision, lazy_adam, optimizer=adam
schedule=cosine schedule.warmup=2 | schedule.warmup, less than 1
optimizer=sam optimizer.accumulate=later | optimizer.accumulate, two_pass
optimizer=eisam optimizer.rho=0 | optimizer.rho, greater than 0
optimizer=sam optimizer.base=sgd | optimizer.base, optimizer/base=sgd
optimizer=sam optimizer/base=sdg | sdg, sgd
optimizer=sam optimizer.base._target_=recsys_lt.losses.ce.CE | optimizer.base._target_, no Optimizer
optimizer=nadam optimizer.base._target_=torch.optim.LBFGS optimizer.weight_decay=null | optimizer, closure
optimizer=nadam optimizer.weight_decay=-1 | optimizer, weight_decay
optimizer=sam +optimizer.base.lr=1 | optimizer.base.lr, optimizer.lr
optimizer=lazy_adam strategy=ddp trainer.devices=2 | lazy_adam, optimizer=adam
dataset.split=random | random, leave_one_out
dataset.split=temporal dataset.temporal_cuts=[0.9,0.8] | temporal_cuts, rising
dataset.split=as_given | ready split
dataset.k_core=-5 | dataset.k_core, -5
dataset.k_core=99999 | nothing is left
dataset.source=null | dataset.source, Source
dataset.source=5 | dataset.source, Source
dataset.expect={users:abc} | dataset.expect.users, a valid integer
dataset.expect={people:3} | people, users
dataset.expect={users:3} | instead of 3
dataset.source.mean_length=inf | dataset.source.mean_length, finite
dataset.source.mean_length=1e300 | dataset.source.mean_length, from 5 to 1000000
dataset.source.exponent=inf | dataset.source.exponent, finite
dataset.source.n_items=1 | dataset.source.n_items, at least 2
dataset.source.n_users=99999999999 | memory
dataset.raw_dir=. | dataset.raw_dir, reads no folder
dataset.name=.. | dataset.name, no plain name
model.width=99999999999 | model.width, at most
model.width=-1 | width -1
model.heads=3 | heads 3, divide width
model.train=maybe | model.train, there is no key
model._target_=null | model._target_, package.module.Class
model._target_=5 | model._target_, package.module.Class
model._target_=nosuch.Class | nosuch.Class, model._target_
model._target_=builtins.dict | builtins.dict, Backbone
model._partial_=false | model._partial_, Give true
loss._target_=os.getcwd | loss._target_, Loss
metrics.groups._target_=builtins.list | metrics.groups._target_, GroupSettings
model=llamarec llm=tiny_random model.train=maybe | model.train, a valid boolean
model=e4srec llm.lora.rank=0 | llm.lora.rank, greater than 0
model=e4srec llm.dtype=int4 | llm.dtype, 'float32'
llm=tiny_random | llm, model=e4srec
model=e4srec llm=tiny_random model.supervise=maybe | model.supervise, all
model=e4srec llm=tiny_random model.max_length=0 | model.max_length, greater than 0
model=e4srec llm=tiny_random model.max_length=99999 | model.max_length=99999
model=e4srec llm=tiny_random llm.lora.targets=[nosuch] | llm.lora.targets, q_proj
model=llamarec llm=tiny_random model.candidates=99 | model.candidates, each candidate is one letter
model=bigrec llm=tiny_random model.beams=0 | beams 0
loss=own | loss=own, no objective of its own
logger=wandb logger.mode=5 | logger.mode, offline
trainer.devices=2 | trainer.devices, strategy=ddp
strategy=fsdp | fsdp, strategy=ddp
strategy=deepspeed | deepspeed, strategy=ddp
strategy=gpu | strategy=gpu, strategy=cpu
resume=nowhere | resume, no key
seed=0,1 | seed=0,1, Ambiguous value
seed | seed, no key=value
dataset.name=${model | dataset.name, quotes
hydra.run.dir='' | hydra.run.dir, empty
hydra.sweep.dir='' | hydra.sweep.dir, empty
hydra.run.dir=/dev/null/x | /dev/null/x, a file, not a folder
hydra.run.dir=/dev/null | /dev/null, in the way
hydra.verbose=inf | hydra, begin
hydra/launcher=nosuch | hydra/launcher, joblib
--no-such-flag | --no-such-flag, --help
"""

#: The modules that read run folders, with their arguments; ``run`` is an empty folder, ``notes.txt`` a file.
COMMANDS = """
table nowhere | nowhere, no such folder
table run | run, metrics.json
table notes.txt | notes.txt
report nowhere | nowhere, no such folder
report run | run, metrics.json
report run --users -1 | --users
dataset beuaty | beuaty, beauty
dataset file dataset.cache_dir=run | dataset.path
dataset synthetic colour=blue | colour, there is no key
protocols nowhere | nowhere, no such folder
protocols run | run, metrics.json
protocols run --seed -1 | --seed
recommend nowhere --user 1 | nowhere, no such folder
recommend run --user 1 | run, config.yaml
recommend notes.txt --user 1 | notes.txt
recommend run --user 1 --k 0 | --k
sharpness nowhere | nowhere, no such folder
sharpness run | run, config.yaml
sharpness run --batches 0 | --batches
sharpness run --rho inf | --rho
sharpness run --rho -1 | --rho
"""


def cases(table: str) -> list[tuple[str, list[str]]]:
    """Arguments and words of each line of a table."""
    lines = [line.split(" | ") for line in table.strip().splitlines()]
    return [(arguments, words.split(", ")) for arguments, words in lines]
