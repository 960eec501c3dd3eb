"""facelib: face verification by contrastive learning, ArcFace against InfoNCE.

    config      every setting in one flat Config; presets; digest
    data        RecordIO, .bin, LFW and CFP, alignment, rendered faces, samplers, feed
    models      IResNet (InsightFace's weights fit), and frozen CLIP, DINOv2, I-JEPA: foundation
    losses      ArcFace, InfoNCE, hybrid, CoReFace: one small class each
    train       the loop, on 1 process, N processes, N nodes (`python -m facelib.train RUN`)
    launch      the subprocess that trains: start, follow, stop
    runs        run folders: create, load, list, compare
    evaluate    embeddings, verification protocols, identity bootstrap, paired comparison
    results     a trained run as tables and frames, for notebooks
    analysis    geometry of embeddings: centre snapping and its nulls; centres: of a run, as frames
    plots       pictures: frame + ax -> ax
    sweep       a grid of parameters over a notebook
    study       the numbered notebooks in order; report builds the HTML site
    publish     small committed records, the source of every number in the README

Command line: `python -m facelib --help`.
"""
