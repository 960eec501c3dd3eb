"""People's own pairs, drawn pairs, and the lists of CALFW, CPLFW and AgeDB-30."""

from pathlib import Path

import numpy as np
import pytest

from facelib.cli.main import main
from facelib.errors import BadData, UserError
from facelib.formats.benchmarks import load_benchmark
from facelib.prepare.draw import draw_from_folder
from facelib.prepare.pairs import read_pair_list
from tests.data.toys import write_jpeg

LISTS = {
    "commas": "Ann/1.jpg,Ann/2.jpg,same\nAnn/1.jpg,Bo B/1.jpg,different\n",
    "semicolons, header": "file1;file2;same\nAnn/1.jpg;Ann/2.jpg;1\nAnn/1.jpg;Bo B/1.jpg;0\n",
    "tabs": "Ann/1.jpg\tAnn/2.jpg\tTrue\nAnn/1.jpg\tBo B/1.jpg\tFalse\n",
    "more columns": ",left,right,label,day\n0,Ann/1.jpg,Ann/2.jpg,1.0,1\n"
    "1,Ann/1.jpg,Bo B/1.jpg,0.0,0\n",
    "match": "Ann/1.jpg,Ann/2.jpg,Match\nAnn/1.jpg,Bo B/1.jpg,mismatch\n",
    "label first, quotes": '1,"Ann/1.jpg","Ann/2.jpg"\n0,Ann/1.jpg,Bo B\\1.jpg\n',
}


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "pairs.txt"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize("form", LISTS)
def test_a_list_of_paths_is_read_in_each_form(tmp_path: Path, form: str):
    # Mutation: split() of a line with tabs; the header taken for a pair.
    pairs = read_pair_list(write(tmp_path, LISTS[form]), tmp_path)
    assert [(p.image1.name, p.image2.parent.name, p.same) for p in pairs] == [
        ("1.jpg", "Ann", True), ("1.jpg", "Bo B", False)]  # fmt: skip
    assert [(p.id1, p.id2) for p in pairs] == [(0, 0), (0, 1)]


def test_two_lines_a_pair_carry_the_folds_of_calfw(tmp_path: Path):
    # Mutation: 0 as a fold of its own, so that a fold holds impostor pairs only.
    genuine = [f"A_{i}_0001.jpg\t{i}\nA_{i}_0002.jpg\t{i}\n" for i in (1, 2, 3)]
    impostors = [f"A_{i}_0001.jpg\t0\nB_{i}_0001.jpg\t0\n" for i in (1, 2, 3)]
    pairs = read_pair_list(write(tmp_path, "".join(genuine + impostors)), tmp_path)
    assert [pair.fold for pair in pairs] == [0, 1, 2, 0, 1, 2]
    assert [pair.same for pair in pairs] == [True] * 3 + [False] * 3
    assert pairs[0].id1 == pairs[0].id2 == pairs[3].id1 != pairs[3].id2


def test_people_of_agedb_are_read_from_its_names_and_others_from_genuine_pairs(tmp_path: Path):
    text = "1 1_Ann_20_f.jpg 2_Ann_50_f.jpg\n0 3_Bo_20_m.jpg 4_Cy_50_m.jpg\n"
    pairs = read_pair_list(write(tmp_path, text + "0 5_Ann_9_f.jpg 6_Bo_8_m.jpg\n"), tmp_path)
    assert [(pair.id1, pair.id2) for pair in pairs] == [(0, 0), (1, 2), (0, 1)]
    text = "x/a.jpg x/b.jpg 1\nx/b.jpg x/c.jpg 1\nx/a.jpg x/d.jpg 0\n"
    assert [p.id1 == p.id2 for p in read_pair_list(write(tmp_path, text), tmp_path)] == [1, 1, 0]


@pytest.mark.parametrize(("text", "said"), [
    ("a.jpg,b.jpg,maybe\n", "line 1 is 'a.jpg b.jpg maybe', wanted two paths and same/different"),
    ("p,q,a,b\nx.jpg,y.jpg,1,0\nx.jpg,z.jpg,0,1\n", "line 2 is 'x.jpg y.jpg 1 0'"),
    ("a.jpg,b.jpg,1\n", "1 genuine and 0 impostor pairs, wanted both"),
    ("../a.jpg,b.jpg,1\na.jpg,c.jpg,0\n", "line 1: '../a.jpg' leads outside"),
    ("x/a.jpg x/b.jpg 1\nx/a.jpg x/b.jpg 0\n", "line 2: x/a.jpg and x/b.jpg are marked different"),
    ("a.jpg 1\nb.jpg 1\nc.jpg 0\n", "line 3 has 0 and the next is not there"),
    ("file1,file2,same\n", "holds no pair"),
])  # fmt: skip
def test_a_malformed_list_of_pairs_is_refused_with_its_line(tmp_path: Path, text, said):
    with pytest.raises(BadData, match=said):
        read_pair_list(write(tmp_path, text), tmp_path)


@pytest.fixture
def people(tmp_path: Path) -> Path:
    for i, count in enumerate((4, 3, 2, 5, 2, 3, 1, 1)):
        for n in range(count):
            write_jpeg(tmp_path / "people" / f"p{i}" / f"{n}.jpg", 30 * i + n)
    return tmp_path / "people"


def test_drawn_pairs_are_half_genuine_seeded_and_no_person_is_in_two_folds(people: Path):
    # Mutation: folds cut from one list of pairs; Python's global random state.
    pairs = draw_from_folder(people, 20, folds=2, seed=3)
    assert (
        pairs
        == draw_from_folder(people, 20, folds=2, seed=3)
        != draw_from_folder(people, 20, 2, seed=4)
    )
    assert np.mean([pair.same for pair in pairs]) == 0.5
    assert all((pair.image1.parent == pair.image2.parent) == pair.same for pair in pairs)
    assert len({frozenset((pair.image1, pair.image2)) for pair in pairs}) == 20
    first, second = ({i for p in pairs if p.fold == f for i in (p.id1, p.id2)} for f in (0, 1))
    assert not first & second


def test_more_pairs_than_there_are_is_an_error_with_the_number_that_works(people: Path):
    with pytest.raises(UserError, match=r"pairs=7, folds=2: .* e.g. --pairs 4"):
        draw_from_folder(people, 7, folds=2)
    with pytest.raises(UserError, match=r"wanted 1000; use --pairs (\d+) or fewer") as caught:
        draw_from_folder(people, 4000, folds=2)
    with pytest.raises(UserError, match="at most 0 genuine .*; use fewer --folds, or more people"):
        draw_from_folder(people, 40, folds=5)
    with pytest.raises(UserError, match=r"pairs=6, folds=1: wanted two .* --pairs 4 --folds 2"):
        draw_from_folder(people, 6, folds=1)
    most = int(str(caught.value).split("--pairs ")[1].split()[0])
    assert len(draw_from_folder(people, most, folds=2)) == most


def test_both_forms_of_the_command_write_a_benchmark(people: Path, tmp_path: Path, capsys):
    path = write(tmp_path, "p0/0.jpg,p0/1.jpg,same\np0/0.jpg,p1/0.jpg,different\n")
    for given in (
        [str(path), str(people)],
        ["--folder", str(people), "--pairs", "8", "--folds", "2"],
    ):
        out = tmp_path / f"{len(given)}.bin"
        assert not main(["prepare", "pairs", *given, "--out", str(out)])
        assert load_benchmark(out).same.mean() == 0.5
    assert main(["prepare", "pairs", "--out", str(out)]) == 2
    assert "give a list and its folder" in capsys.readouterr().err
