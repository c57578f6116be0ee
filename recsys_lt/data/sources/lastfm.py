"""LastFM as LLaRA and S-DPO split it; nobody hosts it as plain files."""

from recsys_lt.data.formats.next_item import NextItemLines
from recsys_lt.data.interactions import Material
from recsys_lt.data.sources.published import find_or_fetch
from recsys_lt.data.sources.source import Request


class LastFM:
    """Listening histories with their next artist."""

    def locate(self, request: Request) -> Material:
        by_hand = (
            "It is hosted as pickles only, which this program never opens: from the data of"
            " https://github.com/ljy0ustc/LLaRA write train.jsonl, val.jsonl and test.jsonl with rows"
            ' {"seq": [ids], "next": id} and id2name.txt with lines id::name into one folder'
        )
        return find_or_fetch(request, [NextItemLines()], [], by_hand)
