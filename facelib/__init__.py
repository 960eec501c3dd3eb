"""facelib: face verification by contrastive learning, ArcFace against InfoNCE.

    config      every setting in one flat Config; digest; limits: allowed values; presets
    data        RecordIO, .bin, LFW and CFP, alignment, rendered faces, samplers, loader, feed
    models      IResNet (InsightFace's weights fit); CLIP, DINOv2, I-JEPA; LoRA adapters
    losses      ArcFace, InfoNCE, hybrid, CoReFace, cluster-guided, comparators: a small class each;
                chunked: contrastive terms by blocks; negatives: memories of earlier batches;
                sharded: a classifier by blocks and over the processes (shards: in the loop)
    train       the loop, on 1 process, N processes, N nodes (`python -m facelib.train RUN`);
                learner: backbone and criterion as one module; schedule: length, rate, optimiser;
                gradcache: a batch larger than memory, in chunks
    launch      the subprocess that trains: start, follow, stop
    runs        run folders: create, load, list, compare
    evaluate    embeddings, verification protocols, identity bootstrap, paired comparison, frozen
                models, face clustering, IJB templates, MegaFace
    results     a trained run as tables and frames, for notebooks
    analysis    geometry of embeddings: centre snapping and its nulls; centres: of a run, as frames
    strangers   people held out of training, before and after; overview: a row a finished run
    pose        TAR and impostor tails by pose; maps: UMAP; hardest: hardest pairs of several runs
    adaptation  LoRA runs as frames; ablation, diagnostics: of cluster-guided training
    overlap     audit of a training set against benchmarks: names, image hashes, embeddings
    clusters    face clustering of runs, as frames
    negatives_study  the number of negatives: rows, costs, tables
    plots       pictures: frame + ax -> ax
    sweep       a grid of parameters over a notebook
    study       the numbered notebooks in order; report builds the HTML site
    publish     small committed records, the source of every number in the README

Command line: `python -m facelib --help`.
"""
