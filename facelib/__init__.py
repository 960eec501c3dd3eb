"""facelib: face verification by contrastive learning, ArcFace against InfoNCE.

Rooms, from the top down. Each may import the rooms below it and none above (`make test` checks):

    cli         the verbs of `python -m facelib`: arguments in, one call, text out
    runner      notebooks as programs: execute, sweep, study, site
    studies     one file per chapter, and what chapters share: results, plots, records
    audit       who of a benchmark is in a training set
    evaluate    a model and a benchmark in, scores out
    training    loop, learner, optimiser, checkpoint, plan
    data        training sets, sampler, loader, feed
    rendered    the embedded faces and shapes, entered through `rendered.dataset`
    models      IResNet, foundation models, LoRA
    prepare     people's files to ours: alignment, LFW, CFP, lists, folders
    losses      one file per loss, and what losses share
    runs        run folders; the subprocess that trains
    metrics     arrays in, numbers out
    formats     bytes: RecordIO, `.bin`, benchmarks, decoding (no torch)
    safety      one rule each: files of people and runs, ends of commands, orphans

Beside them: config, limits, rows, presets, paths, digests, errors, distributed, doctor.
Where to add something: `.github/CONTRIBUTING.md`. Command line: `python -m facelib --help`.
"""
