"""Published records: what is written, intervals over repeats, differences."""

import json
import re

import nbformat
import numpy as np
import pandas as pd
import pytest
from scipy import stats

from facelib.config import make_config
from facelib.errors import UserError
from facelib.paths import REPO
from facelib.studies import readme
from facelib.studies import records as publish

DIFFERENCE = r"[+-][\d.]+ \[[+-][^]]*\]"  # with its interval
MARKS = (readme.ANSWER, readme.RESULTS)


def report(accuracy):
    figures = {
        "rendered": True, "pairs": 7000, "auc": accuracy, "eer": 1 - accuracy,
        "strict": {"accuracy": accuracy - 0.2, "tar": 0.5, "threshold": 0.4},
        "best": {"accuracy": accuracy}, "intervals": {"best.accuracy": [0.8, 0.95]},
    }  # fmt: skip
    return {"benchmarks": {"cfp_ff": figures, "cfp_fp": figures}}


def rows(gap=0.02, repeats=5):
    rng = np.random.default_rng(0)
    found = []
    for seed in range(repeats):
        level = 0.9 + 0.02 * rng.standard_normal()  # some renderings are harder than others
        for loss, extra in (("arcface", 0.0), ("infonce", gap), ("hybrid", 0.01 * (-1) ** seed)):
            cfg = make_config(loss=loss, seed=seed, data_seed=seed)
            row = {"run": cfg.run_name, **cfg.to_dict(), "report": report(level + extra)}
            found.append(row)
    return found


@pytest.fixture
def record(tmp_path, monkeypatch):
    monkeypatch.setattr(publish, "published_root", lambda: tmp_path)
    monkeypatch.setattr(readme, "published_root", lambda: tmp_path)
    publish.publish(rows(), "toy", "make toy")
    return publish.load_record("toy")


def test_a_record_holds_a_row_a_run_and_benchmark_and_how_it_was_made(record):
    # Catches: lost benchmarks, settings that differ between runs listed as shared.
    frame, about = record
    assert len(frame) == 5 * 3 * 2
    assert frame["best.accuracy.lo"].eq(0.8).all()
    assert frame["strict.accuracy.lo"].isna().all()
    assert about["command"] == "make toy"
    assert about["shared_settings"]["lr"] == 0.1
    assert not {"seed", "loss", "data_seed"} & set(about["shared_settings"])


def test_intervals_of_an_old_method_are_marked(record, tmp_path):
    # Catches: intervals of the identity bootstrap read as those of today.
    path = tmp_path / "toy" / "record.json"
    about = json.loads(path.read_text())
    del about["intervals"]
    path.write_text(json.dumps(about))
    results = path.with_name("results.csv")
    pd.read_csv(results).assign(lo=0.1, hi=0.2).to_csv(results, index=False)
    frame, _ = publish.load_record("toy")
    assert not [c for c in frame if c.endswith(("lo", "hi"))]
    assert frame["best.accuracy.lo (identity bootstrap)"].eq(0.8).all()


def test_settings_that_a_sweep_varies_are_columns(tmp_path, monkeypatch):
    # Catches: rows of an ablation that nothing tells apart.
    monkeypatch.setattr(publish, "published_root", lambda: tmp_path)
    found = []
    for rank in (2, 8):
        model = {"backbone": "generic-vit", "init": "pretrained", "lora_rank": rank}
        cfg = make_config(loss="infonce", **model)
        found.append({"run": cfg.run_name, **cfg.to_dict(), "report": report(0.9)})
    publish.publish(found, "ranks", "make toy")
    frame, about = publish.load_record("ranks")
    assert frame.groupby("run")["lora_rank"].first().tolist() == [2, 8]
    assert set(frame["loss"]) == {"infonce-lora-generic-vit"}
    assert "lora_rank" not in about["shared_settings"]
    assert about["shared_settings"]["backbone"] == "generic-vit"
    assert publish.repeat_intervals(frame)["group"][0] == "InfoNCE-LoRA on the stand-in"
    named = frame.assign(loss="rank " + frame["lora_rank"].astype(str))
    assert set(publish.repeat_intervals(named)["group"]) == {"rank 2", "rank 8"}


def test_intervals_are_student_s_over_repeats_on_the_logit_scale(record):
    # Catches: a normal quantile, a population deviation, pairs counted as repeats, no logit.
    frame, _ = record
    row = publish.repeat_intervals(frame).iloc[0]
    values = frame.query("loss == 'arcface' and benchmark == 'cfp_ff'")["best.accuracy"]
    mean = values.mean()
    reach = stats.t.ppf(0.975, 4) * stats.sem(values) / (mean * (1 - mean))
    odds = mean / (1 - mean) * np.exp([-reach, reach])
    assert (row["lo"], row["hi"]) == pytest.approx(tuple(odds / (1 + odds)))
    assert row["repeats"] == 5
    plain = publish.t_interval(values.to_numpy())
    assert plain[1:] == pytest.approx(stats.t.interval(0.95, 4, mean, stats.sem(values)))


def test_no_limit_of_a_share_lies_beyond_0_or_100_percent():
    # Catches: 98.3 [95.2, 101.4] %; a width of 0 where all repeats are right.
    mean, lo, hi = publish.t_interval(np.array([0.999, 0.96, 0.99]), share=True)
    assert 0 < lo < mean < hi < 1
    assert np.isnan(publish.t_interval(np.ones(5), share=True)[1:]).all()


def test_differences_are_paired(record):
    # Catches: unpaired differences, which the spread between renderings would drown.
    frame, _ = record
    steady = publish.repeat_differences(frame, "infonce", "arcface")
    assert steady["difference"].to_list() == pytest.approx([2, 2], abs=1e-3)
    assert (steady["lo"] > 0).all()
    wobbling = publish.repeat_differences(frame, "hybrid", "arcface")
    assert (wobbling["lo"] < 0).all()
    assert (wobbling["hi"] > 0).all()


def test_one_repeat_has_no_interval(tmp_path, monkeypatch):
    # Catches: an order claimed from a single run.
    monkeypatch.setattr(publish, "published_root", lambda: tmp_path)
    publish.publish(rows(repeats=1), "single", "make single")
    frame, _ = publish.load_record("single")
    gaps = publish.repeat_differences(frame, "infonce", "arcface")
    assert gaps["lo"].isna().all()


def test_the_readme_section_is_put_between_its_marks(record, tmp_path):
    # Catches: text around the marks lost, or a second copy at each call.
    path = tmp_path / "README.md"
    marked = ["\n".join((begin, "former text", end)) for begin, end in MARKS]
    path.write_text("\n".join(("before", *marked, "after\n")))
    readme.refresh_readme(path, "toy")
    once = path.read_text()
    readme.refresh_readme(path, "toy")
    assert path.read_text() == once
    assert once.startswith("before\n")
    assert once.endswith("after\n")
    assert "former" not in once
    assert "|InfoNCE − ArcFace|best threshold|**+2.0" in once
    path.write_text("no marks")
    with pytest.raises(UserError, match="put the two marks back"):
        readme.refresh_readme(path, "toy")


def test_readme_and_notebook_say_what_the_record_says(record, tmp_path, monkeypatch):
    # Catches: a sentence that is typed, or made by a second function with another correction.
    notebook = nbformat.read(REPO / "notebooks" / "13_results.ipynb", 4)
    cells = {cell.id: cell.source for cell in notebook.cells if cell.cell_type == "code"}
    told = next(source for source in cells.values() if "readme.loss_sentences" in source)

    def said() -> tuple[list[str], str]:
        names = {"readme": readme, "Markdown": str, "repeats": publish.load_record("toy")[0]}
        gaps = re.findall(DIFFERENCE, eval(told, names))
        return gaps, readme.headline("toy") + readme.readme_section("toy")

    gaps, section = said()
    assert len(gaps) > 5 and all(gap in section for gap in gaps)
    assert set(re.findall(DIFFERENCE, section)) == set(gaps)
    frame, _ = publish.load_record("toy")
    frame.loc[frame["loss"] == "infonce", "best.accuracy"] -= 0.05
    frame.to_csv(tmp_path / "toy" / "results.csv", index=False)
    changed, section = said()
    assert changed != gaps and all(gap in section for gap in changed)


def test_a_control_is_published_beside_its_loss_and_not_under_its_name(tmp_path, monkeypatch):
    # Catches: repeats of CoReFace and of its weight-0 control averaged as one method.
    monkeypatch.setattr(publish, "published_root", lambda: tmp_path)
    both = []
    for seed in range(2):
        for weight in (0.0, 0.05):
            cfg = make_config(loss="coreface", dropout=0.4, coreface_weight=weight, seed=seed)
            row = {"run": cfg.run_name, **cfg.to_dict(), "report": report(0.9 + weight)}
            both.append(row)
    publish.publish(both, "views", "make views")
    frame, _ = publish.load_record("views")
    assert set(frame["loss"]) == {"coreface", "coreface-control"}
    gaps = publish.repeat_differences(frame, "coreface", "coreface-control")
    assert gaps["difference"].to_list() == pytest.approx([5, 5])
    assert gaps["comparison"][0] == "CoReFace − ArcFace, two dropout views"


def test_settings_that_differ_between_runs_are_columns_of_the_record(tmp_path, monkeypatch):
    # Catches: losses compared with their own margins, and a record that does not say which.
    monkeypatch.setattr(publish, "published_root", lambda: tmp_path)
    configs = [make_config(loss=loss) for loss in ("cosface", "circle")]
    rows = [{"run": c.run_name, **c.to_dict(), "report": report(0.9)} for c in configs]
    publish.publish(rows, "margins", "make margins")
    frame, about = publish.load_record("margins")
    assert frame.groupby("loss", sort=False)[["s", "m"]].first().to_numpy().tolist() == [
        [32, 0.35], [256, 0.25]
    ]  # fmt: skip
    assert not {"s", "m"} & set(about["shared_settings"])


def test_unknown_records_and_empty_sweeps_are_clear_errors(record):
    # Catches: an empty record that reads like a result.
    with pytest.raises(UserError, match=r"no published record 'tpy': there are toy"):
        publish.load_record("tpy")
    with pytest.raises(UserError, match="no finished cells"):
        publish.publish([], "empty", "make empty")
    with pytest.raises(UserError, match="/nowhere.jsonl: no such file"):
        publish.publish_sweep("/nowhere.jsonl", "x", "make x")
    assert isinstance(record[0], pd.DataFrame)
