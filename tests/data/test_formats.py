import gzip
import json
import tempfile
from pathlib import Path

import numpy as np
import pytest

from recsys_lt.data.formats.next_item import NextItemLines
from recsys_lt.data.formats.recbole import RecBoleAtomic
from recsys_lt.data.formats.sequence_text import SEQUENCE_TEXT
from recsys_lt.data.interactions import Interactions, Mark, Material
from recsys_lt.data.item_data import write_column
from recsys_lt.data.sources.amazon import Amazon
from recsys_lt.data.sources.movielens import RATINGS_CSV, RATINGS_DAT, U_DATA
from recsys_lt.data.sources.yelp import Yelp
from recsys_lt.errors import UserError


def rows(events: Interactions) -> list[tuple]:
    users, items = events.user_ids[events.users], events.item_ids[events.items]
    if events.times is None:
        return list(zip(users, items, strict=True))
    return list(zip(users, items, events.times.tolist(), strict=True))


def column(material: Material, name: str = "title") -> dict[str, str]:
    """A column of the items, as it is prepared, by the items' ids."""
    ids = material.read().item_ids.astype(np.str_)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "column.npy")
        write_column(file, name, material.item_data[name](ids), ids)
        return dict(zip(ids.tolist(), np.load(file).tolist(), strict=True))


@pytest.mark.parametrize("packed", [True, False])
def test_amazon(tmp_path, packed):
    reviews = [
        {"reviewerID": "A1", "asin": "B1", "reviewText": "x" * 50_000, "unixReviewTime": 1400000000},
        {"reviewerID": "A2", "asin": "B1", "helpful": [0, 0], "unixReviewTime": 1300000000},
        {"reviewerID": "A1", "asin": "B2", "unixReviewTime": 1300000000},
    ]
    meta = [
        {"asin": "B1", "title": 'It\'s a "brush"', "price": 1.5},
        {"asin": "B9", "title": "not reviewed"},
        {"asin": "B2", "categories": [["Beauty"]]},
    ]
    files = {
        "reviews_Beauty_5.json": "\n".join(map(json.dumps, reviews)) + "\n",
        "meta_Beauty.json": "\n".join(map(repr, meta)) + "\n",
    }
    for name, text in files.items():
        if packed:
            (tmp_path / f"{name}.gz").write_bytes(gzip.compress(text.encode()))
        else:
            (tmp_path / name).write_text(text)
    material = Amazon("Beauty").layout.find(tmp_path)
    assert material is not None
    assert len(material.files) == 2
    events = material.read()
    assert rows(events) == [("A1", "B1", 1400000000), ("A2", "B1", 1300000000), ("A1", "B2", 1300000000)]
    assert column(material) == {"B1": 'It\'s a "brush"', "B2": ""}
    assert Amazon("Toys_and_Games").layout.find(tmp_path) is None


def test_amazon_cut_short(tmp_path):
    whole = gzip.compress(b'{"reviewerID": "A", "asin": "B", "unixReviewTime": 1}\n' * 999)
    (tmp_path / "reviews_Beauty_5.json.gz").write_bytes(whole[:-20])
    with pytest.raises(UserError, match=r"reviews_Beauty_5.json.gz: it cannot be read.*Fetch the file again"):
        Amazon("Beauty").layout.find(tmp_path).read()


def test_amazon_metadata_are_never_evaluated(tmp_path):
    (tmp_path / "reviews_X_5.json").write_text('{"reviewerID": "A", "asin": "B", "unixReviewTime": 1}\n')
    (tmp_path / "meta_X.json").write_text("{'asin': 'B', 'title': __import__('os').getcwd()}\n")
    with pytest.raises(UserError, match=r"line 1: the line is not a product's record"):
        column(Amazon("X").layout.find(tmp_path))


def test_yelp(tmp_path):
    reviews = [("u1", "b1", "2018-12-31 23:59:59"), ("u1", "b2", "2019-01-01 00:00:00")]
    reviews += [("u2", "b1", "2019-06-01 10:00:00"), ("u2", "b2", "2019-12-31 00:00:01")]
    (tmp_path / "yelp_academic_dataset_review.json").write_text(
        "".join(json.dumps({"user_id": u, "business_id": b, "date": d}) + "\n" for u, b, d in reviews)
    )
    (tmp_path / "yelp_academic_dataset_business.json").write_text(
        '{"business_id": "b1", "name": "Café"}\n{"business_id": "b2", "name": "Bar"}\n'
    )
    material = Yelp("2019-01-01 00:00:00", "2019-12-31 00:00:00").layout.find(tmp_path)
    events = material.read()
    assert [row[:2] for row in rows(events)] == [("u1", "b2"), ("u2", "b1")]
    assert events.times[0] < events.times[1]
    assert column(material) == {"b1": "Café", "b2": "Bar"}


def test_movielens_100k(tmp_path):
    (tmp_path / "u.data").write_text("196\t242\t3\t881250949\n186\t302\t3\t891717742\n")
    (tmp_path / "u.item").write_bytes("242|Misérables, Les (1995)|01\n302|L.A.|02\n".encode("latin-1"))
    material = U_DATA.find(tmp_path)
    events = material.read()
    assert rows(events) == [("196", "242", 881250949), ("186", "302", 891717742)]
    assert column(material) == {"242": "Misérables, Les (1995)", "302": "L.A."}


def test_movielens_dat(tmp_path):
    (tmp_path / "ratings.dat").write_text("1::1193::5::978300760\n1::661::3::978302109\n")
    (tmp_path / "movies.dat").write_bytes("1193::Café::Drama\n661::Giant Peach::Musical\n".encode("latin-1"))
    material = RATINGS_DAT.find(tmp_path)
    events = material.read()
    assert rows(events) == [("1", "1193", 978300760), ("1", "661", 978302109)]
    assert column(material) == {"1193": "Café", "661": "Giant Peach"}


def test_movielens_csv(tmp_path):
    (tmp_path / "ratings.csv").write_text("userId,movieId,rating,timestamp\n1,2,3.5,1112486027\n")
    (tmp_path / "movies.csv").write_text('movieId,title,genres\n2,"Dad, Poor Dad (1967)",Comedy\n')
    material = RATINGS_CSV.find(tmp_path)
    events = material.read()
    assert rows(events) == [("1", "2", 1112486027)]
    assert column(material) == {"2": "Dad, Poor Dad (1967)"}


def test_recbole(tmp_path):
    (tmp_path / "other-name.inter").write_text(
        'user_id:token\titem_id:token\trating:float\ttimestamp:float\n7\t"b\t3\t2.0\n7\ta\t3\t1.5\n'
    )
    (tmp_path / "other-name.item").write_text('item_id:token\tmovie_title:token_seq\na\tA b\n"b\tB\n')
    material = RecBoleAtomic("mine").find(tmp_path)
    events = material.read()
    assert rows(events) == [("7", '"b', 2.0), ("7", "a", 1.5)]
    assert column(material) == {"a": "A b", '"b': "B"}
    (tmp_path / "second.inter").write_text("")
    assert RecBoleAtomic("mine").find(tmp_path) is None  # which of the two?
    assert RecBoleAtomic("second").find(tmp_path) is not None


# Rows of both files: a Latin-1 letter, an article, a year of no film, and no title.
U_ITEM = """\
1|Toy Story (1995)|01-Jan-1995||http://us.imdb.com/M/title-exact?Toy%20Story%20(1995)|0|0|0|1
12|Usual Suspects, The (1995)|14-Aug-1995||http://us.imdb.com/M/title-exact?Usual%20Suspects,%20The%20(1995)|0|0|0|0
267|unknown||||1|0|0|0
362|Blues Brothers 2000 (1998)|06-Feb-1998||http://us.imdb.com/M/title-exact?Blues+Brothers+2000+(1998)|0|1|0|0
1005|Double vie de Véronique, La (Double Life of Veronique, The) (1991)|01-Jan-1991|||0|0|0|0
1201|Marlene Dietrich: Shadow and Light (1996) |02-Apr-1996|||0|0|0|0
1412|Land Before Time III: The Time of the Great Giving (1995) (V)|01-Jan-1995|||0|0|0|1
"""
ML_100K_ITEM = """\
item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq
1\tToy Story\t1995\tAnimation Children's Comedy
12\tUsual Suspects, The\t1995\tCrime Thriller
267\tunkonwn\tunkonwn\tunknown
362\tBlues Brothers 2000\t1998\tAction Comedy Musical
1005\tDouble vie de Véronique, La (Double Life of Veronique, The)\t1991\tDrama
1201\tMarlene Dietrich: Shadow and Light\t1996\tDocumentary
1412\tLand Before Time III: The Time of the Great Giving (1995)\tV\tAnimation Children's
"""


def test_ml_100k_has_the_same_titles_from_its_owner_and_from_recbole(tmp_path):
    ids = [line.partition("|")[0] for line in U_ITEM.splitlines()]
    (tmp_path / "u.data").write_text("".join(f"1\t{item}\t3\t9\n" for item in ids))
    (tmp_path / "u.item").write_bytes(U_ITEM.encode("latin-1"))
    inter = "".join(f"1\t{item}\t3\t9\n" for item in ids)
    (tmp_path / "ml-100k.inter").write_text(f"user_id:token\titem_id:token\trating:float\ttimestamp:float\n{inter}")
    (tmp_path / "ml-100k.item").write_text(ML_100K_ITEM, encoding="utf-8")
    owner, recbole = (column(layout.find(tmp_path)) for layout in (U_DATA, RecBoleAtomic("ml-100k")))
    assert recbole == owner
    assert owner["12"] == "Usual Suspects, The (1995)"
    assert owner["267"] == "unknown"
    assert owner["1201"] == "Marlene Dietrich: Shadow and Light (1996)"


def test_recbole_without_a_year_has_the_title_alone(tmp_path):
    (tmp_path / "x.inter").write_text("user_id:token\titem_id:token\n1\ta\n1\tb\n")
    (tmp_path / "x.item").write_text("item_id:token\tname:token_seq\trelease_year:token\na\tA\t\nb\tB\t1999\n")
    assert column(RecBoleAtomic("x").find(tmp_path)) == {"a": "A", "b": "B (1999)"}


def test_sequence_text(tmp_path):
    (tmp_path / "sequences.txt").write_text("9 1 2 1\n\n4 3\n9 2\n")
    events = SEQUENCE_TEXT.find(tmp_path).read()
    assert rows(events) == [("9", "1"), ("9", "2"), ("9", "1"), ("4", "3"), ("9", "2")]
    assert events.place(3) == "line 3"
    (tmp_path / "items.tsv").write_text(
        'item_id\traw_id\ttitle\tattributes\n1\tB01\tOne "1\tx\n2\tB02\t\tx\n3\tB03\tThree\tx\n'
    )
    material = SEQUENCE_TEXT.find(tmp_path)
    assert material.read().item_ids.tolist() == ["B01", "B02", "B03"]
    assert column(material) == {"B01": 'One "1', "B02": "", "B03": "Three"}


def test_sequence_text_with_a_table_that_lacks_an_item(tmp_path):
    (tmp_path / "sequences.txt").write_text("9 1 2\n")
    (tmp_path / "items.tsv").write_text("item_id\ttitle\n1\tOne\n")
    with pytest.raises(UserError, match=r"items.tsv: item 2 of the sequences is not in it"):
        SEQUENCE_TEXT.find(tmp_path).read()


def test_items_table_with_a_short_line(tmp_path):
    (tmp_path / "sequences.txt").write_text("9 1 2\n")
    (tmp_path / "items.tsv").write_text("item_id\ttitle\n1\n")
    with pytest.raises(UserError, match=r"items.tsv, line 2: 1 columns where the first line has 2"):
        SEQUENCE_TEXT.find(tmp_path).read()


def write_next_item(folder, train, valid, test, names):
    for name, part in (("train", train), ("val", valid), ("test", test)):
        lines = (json.dumps({"seq": seq, "next": following}) + "\n" for seq, following in part)
        (folder / f"{name}.jsonl").write_text("".join(lines))
    (folder / "id2name.txt").write_text("".join(f"{i}::{name}\r\n" for i, name in enumerate(names)))


def test_next_item_lines_are_chained_back(tmp_path):
    window, pad = 3, 8
    sequences = [[0, 1, 2, 3, 4, 5, 0], [6, 7], [1]]
    train = [
        (list(sequence[max(0, at - window) : at]) or [pad], sequence[at])
        for sequence in sequences
        for at in range(len(sequence))
    ]
    write_next_item(tmp_path, train, [([pad, 1, 2], 3)], [([4, 5], 6)], ["a::b", "c", "d", "e", "f", "g", "h", "Café"])
    material = NextItemLines().find(tmp_path)
    events = material.read()
    by_user: dict[str, list[str]] = {}
    for user, item in rows(events):
        by_user.setdefault(user, []).append(item)
    assert by_user == {
        "train-0": list("0123450"),
        "train-1": ["6", "7"],
        "train-2": ["1"],
        "val-0": ["1", "2", "3"],
        "test-0": ["4", "5", "6"],
    }
    history = [Mark.HISTORY, Mark.HISTORY]
    assert events.marks[-6:].tolist() == [*history, Mark.VALID, *history, Mark.TEST]
    assert not events.marks[:-6].any()
    assert list(column(material).values()) == ["a::b", "c", "d", "e", "f", "g", "h", "Café"]


def test_next_item_without_a_name(tmp_path):
    write_next_item(tmp_path, [([0], 7)], [], [], "ab")
    with pytest.raises(UserError, match=r"train.jsonl, line 1: item 7 has no name in id2name.txt"):
        NextItemLines().find(tmp_path).read()


def test_next_item_needs_all_four_files(tmp_path):
    write_next_item(tmp_path, [([0], 1)], [], [], "ab")
    (tmp_path / "val.jsonl").unlink()
    assert NextItemLines().find(tmp_path) is None


@pytest.mark.parametrize(
    ("header", "text", "said"),
    [
        ("class:token_seq", "Animation Children's Comedy", "Animation, Children's, Comedy"),
        ("categories:token_seq", "['Make Up', 'Nails']", "Make Up, Nails"),
        ("genre:token_seq", "", ""),
    ],
)
def test_attributes_of_recbole(tmp_path, header, text, said):
    (tmp_path / "x.inter").write_text("user_id:token\titem_id:token\nu\tb\nu\ta\n")
    (tmp_path / "x.item").write_text(f"item_id:token\ttitle:token_seq\t{header}\na\tA\t{text}\n")
    material = RecBoleAtomic("x").find(tmp_path)
    assert column(material, "attributes") == {"b": "", "a": said}
    assert column(material) == {"b": "", "a": "A"}
    (tmp_path / "x.item").write_text("item_id:token\tyear:token\na\t1\n")
    assert list(RecBoleAtomic("x").find(tmp_path).item_data) == ["year"]


@pytest.mark.parametrize("header", ["attributes", "genres"])
def test_attributes_of_a_table_beside_sequences(tmp_path, header):
    (tmp_path / "sequences.txt").write_text("u 2 1\n")
    (tmp_path / "items.tsv").write_text(f"item_id\ttitle\t{header}\n1\tA\tMake Up|Nails\n2\tB\tHot Dogs\n")
    assert column(SEQUENCE_TEXT.find(tmp_path), "attributes") == {"2": "Hot Dogs", "1": "Make Up, Nails"}
