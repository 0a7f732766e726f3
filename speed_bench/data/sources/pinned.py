"""Addresses of the files that are read one by one, with their sha256 where it was seen."""

from collections.abc import Mapping
from typing import Final

from speed_bench.data.sources.source import File, HubFile

HUB: Final = "https://huggingface.co"
RAW: Final = "https://raw.githubusercontent.com"
OPENXLAB: Final = "https://opencompass.openxlab.space/utils/AdaLEval"


def github(repo: str, revision: str, files: Mapping[str, str | None], folder: str = "") -> tuple[File, ...]:
    """Files of a repository at a revision: name in a library -> sha256. `folder` is what the names leave out."""
    return tuple(File(name, f"{RAW}/{repo}/{revision}/{folder}{name}", sha256) for name, sha256 in files.items())


def hub_files(repo: str, revision: str, names: tuple[str, ...], drop: tuple[str, ...] = ()) -> tuple[HubFile, ...]:
    """Files of a dataset repository of the Hub at a revision."""
    return tuple(HubFile(name, repo, revision, drop) for name in names)


HUMANEVALPACK_FILES = {
    "data/python/data/humanevalpack.jsonl": "b1376d72be4bd016a62ad043d9de3846edb8d63edf1222da802a31330c14c3a7",
    "data/js/data/humanevalpack.jsonl": "04c86c1fac5f33818d9187cba278ed1dfc66cc259372dd8342126aa580fb7569",
    "data/java/data/humanevalpack.jsonl": "a8d077d300bbdc2eda91e1a733deb2944678bce8fcc7eb272214626516768cc1",
    "data/go/data/humanevalpack.jsonl": "0ee2cdca46d70afb33d913a0d4b205624fe4ded2f28c2efdb241727221837993",
    "data/cpp/data/humanevalpack.jsonl": "891a390c1b9d2cb85dd8fbebcf1d88dbdd565734a6b2b3259f9ddb3fe95e33d7",
    "data/rust/data/humanevalpack.jsonl": "01ece28eaf490d7af037ce53095083dacfd38022cf5b82662ccb78024dc269a1",
}
MMATH_FILES = {
    "mmath/ar.json": "33546b37f73ee3170dff215b2060dea674e6670362fdd92bffc7a118967b181d",
    "mmath/en.json": "7f42894b99188d12b2603760cf4ee44a08a39769e63f6d6240f1ed807bdc1752",
    "mmath/es.json": "a2d8155e8b07878c925344c6eb4a1768e91053e828e379204bc00543aa42b973",
    "mmath/fr.json": "2355f5a9b23b8aedae375c46b2bb8b85055f8ccc0a4915cfabe9f10828ea426b",
    "mmath/ja.json": "2e5964f29fd0bec489dd935ed14e037cc6dabc54399e808e9a6d9c8ffabcda30",
    "mmath/ko.json": "835a5c115a3050464d9f9ecdf103bda83657d47e690301392da5f92a6f04b956",
    "mmath/pt.json": "84458d7e48a47e7affc8da38b239ad80162eb26e7f6f31fcc7d65a8350b80f35",
    "mmath/th.json": "c00fa4017186c96230659ffe3164ff0dc7c73e1f63f4441b8bef445c507c2bc5",
    "mmath/vi.json": "b27008d2f9944f068887419460db869685f0f20c4eb179ecc5275e56895662ba",
    "mmath/zh.json": "f90e5eb7e7dc49ce56e9a23ac0661e0fdbc7397c3330229afef35e0c94e0738c",
}
BAMBOO_FILES = {
    "datasets/showspred_4k.jsonl": "4725a715e4dd378ad10ae32f8d35111d3c15ce55f970aeb028f109e294d7ef05",
    "datasets/showspred_16k.jsonl": "2383b9ad68bfabd269c879824ff79daefc52337b51d16b67ee0914c92a7758c3",
    "datasets/meetingpred_4k.jsonl": "9b30ae86ad8459079990edeac44996337ae9a9761533ec67d5f2b00b39adc1c6",
    "datasets/meetingpred_16k.jsonl": None,
    "datasets/showssort_4k.jsonl": "7ae4b5025384d32d82f2b79a711c34b1a6e8af5228d501cbf3bbcb3d55288306",
    "datasets/private_eval_16k.jsonl": "78850414f4a5e24be3a97d4d731b3e6bacf3f59a842feb0e7e6b98ec841648f1",
}
GUTENBERG_FILES = (
    File(
        "pride_and_prejudice_1342-0.txt",
        f"{RAW}/GITenberg/Pride-and-Prejudice_1342/81db45c9c48c592f0b77f01fc59e677ad0a5634e/1342-0.txt",
        "48e0522844402a86a3ea98f0947ba85ea54838db3c59022299298ed968a5a163",
    ),
    File(
        "sherlock_holmes_1661.txt",
        f"{RAW}/GITenberg/The-Adventures-of-Sherlock-Holmes_1661/7e5dd2703fbf503c004063e96ab7c61262375e5f/1661.txt",
        "2a0ce5568625a304f54fbb6bfdeeadf527a1437254b5f0e06b5a9e233d4784a2",
    ),
    File(
        "frankenstein_84-0.txt",
        f"{RAW}/GITenberg/Frankenstein_84/c98a483bd1f34e7366126b81bcedd1a6faee636e/84-0.txt",
        "c29a4f56dd91aa894a3f17d5f96b356ccb499e3e2c5a27964de911845e39efab",
    ),
    File(
        "moby_dick_2701-0.txt",
        f"{RAW}/GITenberg/Moby-Dick--Or-The-Whale_2701/bdf1948e6cd00963730971e5624e764a35f238c3/2701-0.txt",
        "baf9b04fcf6e0008f30eaaa6697277751448c1070b20175e0082f28cbb161fd3",
    ),
)


def adaleval(kind: str) -> tuple[File, ...]:
    """The sizes that the buckets need. The publisher overwrites them in place: what was read is known by its sha256."""
    return tuple(File(f"data/{kind}_{size}k.json", f"{OPENXLAB}/{kind}_{size}k.json") for size in (1, 2, 8, 16, 32))
