"""Reading traces: every published format and variant, every bad file, and speed."""

from __future__ import annotations

import gzip
import json

import numpy as np
import pytest

from llmsched_env.workload import read_trace

PLAIN = "arrival_s,prompt_tokens,output_tokens\n0.5,10,3\n1.25,20,4\n4,30,5\n"
AZURE = (
    "TIMESTAMP,ContextTokens,GeneratedTokens\n"
    "2023-11-16 18:15:46.6805900,10,3\n2023-11-16 18:15:47.4305900,20,4\n2023-11-16 18:15:50.1805900,30,5\n"
)
BURSTGPT = (
    "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type\n"
    "5,ChatGPT,10,3,13,Conversation log\n5.75,GPT-4,20,4,24,API log\n8.5,ChatGPT,30,5,35,Conversation log\n"
)
VARIANTS = {
    "plain": PLAIN,
    "plain, other order and a further column": (
        "id,output_tokens,arrival_s,prompt_tokens\na,3,0.5,10\nb,4,1.25,20\nc,5,4,30\n"
    ),
    "azure 2023": AZURE,
    "azure 2024": AZURE.replace(".6805900,", ".680590+00:00,")
    .replace(".4305900", ".430590+00:00")
    .replace(".1805900", ".180590+00:00"),
    "burstgpt": BURSTGPT,
    "burstgpt with sessions": (
        "Timestamp,Session ID,Elapsed time,Model,Request tokens,Response tokens,Total tokens,Log Type\n"
        "5,a,0.1,ChatGPT,10,3,13,Conversation log\n5.75,,0.2,GPT-4,20,4,24,API log\n8.5,c,1,ChatGPT,30,5,35,API log\n"
    ),
    "burstgpt with units": BURSTGPT.replace("Timestamp", "Timestamp(s)"),
    "mooncake": "".join(
        json.dumps({"timestamp": t, "input_length": p, "output_length": o, "hash_ids": [0] * (p > 0)}) + "\n"
        for t, p, o in ((1000, 10, 3), (1750, 20, 4), (4500, 30, 5))
    ),
    "mooncake, other order of fields": "".join(
        json.dumps({"output_length": o, "x": {"timestamp": 3}, "timestamp": t, "input_length": p}) + "\n"
        for t, p, o in ((1000, 10, 3), (1750, 20, 4), (4500, 30, 5))
    ),
    "no newline at the end": PLAIN.rstrip(),
    "quoted, with commas inside": BURSTGPT.replace("ChatGPT", '"Chat,GPT"'),
    "blank lines": PLAIN.replace("\n", "\n\n"),
}


def written(tmp_path, data, name="trace.csv"):
    path = tmp_path / name
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return path


@pytest.mark.parametrize("text", VARIANTS.values(), ids=VARIANTS.keys())
@pytest.mark.parametrize("wrap", ["as is", "gz", "crlf", "bom", "crlf bom gz"])
def test_every_published_format(tmp_path, text, wrap):
    data = (text.replace("\n", "\r\n") if "crlf" in wrap else text).encode()
    data = b"\xef\xbb\xbf" + data if "bom" in wrap else data
    trace = read_trace(written(tmp_path, gzip.compress(data) if "gz" in wrap else data, "any name"))
    assert trace.arrival_s == pytest.approx([0, 0.75, 3.5], abs=1e-9)
    assert trace.prompt_tokens.tolist() == [10, 20, 30]
    assert trace.output_tokens.tolist() == [3, 4, 5]
    assert (trace.arrival_s.dtype, trace.prompt_tokens.dtype, trace.output_tokens.dtype) == ("f8", "i4", "i4")
    assert (trace.dropped, trace.notes, len(trace)) == (0, (), 3)


def test_azure_fractions_keep_their_seventh_digit(tmp_path):
    text = AZURE.replace("47.4305900", "47.4305901")
    assert read_trace(written(tmp_path, text)).arrival_s[1] == pytest.approx(0.7500001, abs=2e-8)


def test_unsorted_rows_are_sorted_and_said(tmp_path):
    trace = read_trace(written(tmp_path, "arrival_s,prompt_tokens,output_tokens\n9,3,3\n7,1,1\n7,2,2\n"))
    assert trace.arrival_s.tolist() == [0, 0, 2]
    assert trace.prompt_tokens.tolist() == [1, 2, 3]
    assert "sorted" in trace.notes[0]


def test_failed_rows_are_dropped_and_counted(tmp_path):
    trace = read_trace(written(tmp_path, "arrival_s,prompt_tokens,output_tokens\n1,5,0\n3,5,7\n4,0,7\n5,6,8\n6,0,0\n"))
    assert trace.dropped == 3
    assert trace.arrival_s.tolist() == [0, 2]
    assert trace.output_tokens.tolist() == [7, 8]
    assert trace.notes[0].startswith("3 of 5 rows dropped")


def plain(*rows):
    return "\n".join(("arrival_s,prompt_tokens,output_tokens", *rows)) + "\n"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("", r"the file is empty"),
        ("  \n\n", r"the file is empty"),
        (plain(), r"a header but not one row"),
        ("a,b,c\n1,2,3\n", r"unknown columns a, b, c\. Formats known: plain CSV .*BurstGPT.*Azure.*Mooncake"),
        ("1,2,3\n4,5,6\n", r"unknown columns 1, 2, 3"),
        (plain("0,5,0", "1,0,5"), r"nothing is left: all 2 rows"),
        (plain("0,5,5", "-1,5,5"), r"row 2: arrival_s=-1 is not allowed: give a time"),
        (plain("0,5,5", "nan,5,5"), r"row 2: arrival_s=nan is not allowed"),
        (plain("0,5,5", ",5,5"), r"row 2: arrival_s=nan is not allowed"),
        (plain("0,5,5", "inf,5,5"), r"row 2: arrival_s=inf is not allowed"),
        (plain("0,5,5", "1,five,5"), r"row 2: prompt_tokens=five is not allowed: give a whole number"),
        (plain("0,5,5", "1,5,-3"), r"row 2: output_tokens=-3 is not allowed"),
        (plain("0,5,5", "1,5,"), r"row 2: output_tokens=nan is not allowed"),
        (plain("0,5,5", "1,5"), r"row 2: output_tokens=nan is not allowed"),
        (plain("0,5,5", "1,5,2.5"), r"row 2: output_tokens=2.5 is not allowed"),
        (plain("0,5,5", "1,5,3000000000"), r"row 2: output_tokens=3000000000 is not allowed"),
        (plain("0,5,5", "1,5,5,7,8"), r"row 2: 5 fields under 3 columns"),
        (plain("0,5,5,7", "1,5,5,7"), r"row 1: 4 fields under 3 columns"),
        (AZURE.replace("2023-11-16 18:15:47.4305900", "yesterday"), r"row 2: TIMESTAMP=yesterday is not allowed"),
        (AZURE.replace("2023-11-16 18:15:47.4305900", ""), r"row 2: TIMESTAMP=nan is not allowed"),
        (BURSTGPT.replace("20,4,24", "20,-4,24"), r"row 2: Response tokens=-4 is not allowed"),
        ('{"timestamp": 0, "input_length": 3}\n', r"row 1: no field 'output_length' among timestamp, input_length"),
        ('{"timestamp": 0, "input_length": 3, "output_length": 4}\n{"timesta\n', r"row 2: not readable as JSON"),
        ('{"timestamp": 0, "input_length": 3, "output_length": 4}\n[]\n', r"row 2: not a JSON object but list"),
        ('{"timestamp": -5, "input_length": 3, "output_length": 4}\n', r"row 1: timestamp=-5 is not allowed"),
        ('{"timestamp": 0, "input_length": [3], "output_length": 4}\n', r"row 1: input_length=\[3\] is not allowed"),
        ('{"timestamp": 0, "input_length": 3, "output_length": null}\n', r"row 1: output_length=.* is not allowed"),
        (b"\xff\xfe\x00\x01binary\x00", r"not readable"),
        (gzip.compress(PLAIN.encode(), mtime=0)[:20], r"not readable"),
    ],
)
def test_every_bad_file_is_refused_in_one_line(tmp_path, data, message):
    with pytest.raises(ValueError, match=message) as caught:
        read_trace(written(tmp_path, data, "bad.csv"))
    assert "bad.csv" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"nowhere.csv: not readable"):
        read_trace(tmp_path / "nowhere.csv")


def test_a_million_rows_are_read(tmp_path):
    n = 1_000_000
    second = np.char.zfill((np.arange(n) // 10 % 60).astype("U2"), 2)
    stamp = np.char.add("2023-11-16 18:15:", second)
    body = "\n".join(f"{s}.{i % 10}805900,{i % 4000 + 1},{i % 900 + 1}" for i, s in enumerate(stamp.tolist()))
    path = written(tmp_path, "TIMESTAMP,ContextTokens,GeneratedTokens\n" + body + "\n")
    trace = read_trace(path)
    assert len(trace) == n
    np.testing.assert_array_equal(np.sort(trace.prompt_tokens), np.sort(np.arange(n) % 4000 + 1))


def mooncake(*rows: tuple[int, int, str]) -> str:
    """Lines as published: (time in ms, prompt, ids); every output has 5 tokens."""
    return "".join(
        f'{{"timestamp": {time}, "input_length": {prompt}, "output_length": 5{ids}}}\n' for time, prompt, ids in rows
    )


@pytest.mark.parametrize("slowly", [False, True])
def test_hash_ids_of_mooncake(tmp_path, slowly):
    """Ids of blocks of 512 tokens: equal after equal ones, fewer than the prompt has, none; sorted with their rows."""
    known = [', "hash_ids": [7, 8, 9]', ', "hash_ids": [7, 8]', ', "hash_ids": [8]', ', "hash_ids": []', ""]
    if slowly:
        known = [text.replace('"hash_ids":', '"x": 1, "hash_ids" :') for text in known]
    rows = zip((4000, 3000, 2000, 1000, 0), (1025, 1024, 900, 10, 10), known, strict=True)
    path = tmp_path / "trace.jsonl"
    path.write_text(mooncake(*rows))
    contents = read_trace(path).contents
    assert contents is not None and contents.hash_tokens == 512
    assert contents.hashed_tokens.tolist() == [0, 0, 512, 1024, 1025]
    a, b, c, d, e, f = contents.hashes.tolist()
    assert (b, c) == (d, e) and len({a, b, c, f}) == 4  # id 8 at the beginning is not id 8 after 7
    few = contents.rows(np.array([4, 0, 2]))
    assert few.hashes.tolist() == [d, e, f, a] and few.hashed_tokens.tolist() == [1025, 0, 512]
    other = contents.rows(np.array([4, 4]), np.array([0, 1])).hashes.tolist()
    assert other[:3] == [d, e, f] and not set(other[3:]) & {a, b, c, f}


@pytest.mark.parametrize(
    ("ids", "said"),
    [
        (', "hash_ids": [1, 2, 3]', "row 2: 3 hash_ids for a prompt of 1024 tokens: a block has 512"),
        (', "hash_ids": [1, "a"]', "row 2: hash_ids="),
        (', "hash_ids": [-1]', "row 2: hash_ids="),
        (', "hash_ids": 3', "row 2: hash_ids=3 is not allowed"),
    ],
)
def test_hash_ids_are_checked(tmp_path, ids, said):
    path = tmp_path / "trace.jsonl"
    path.write_text(mooncake((0, 10, ""), (1, 1024, ids)))
    with pytest.raises(ValueError, match="^[^\n]*$") as error:
        read_trace(path)
    assert said in str(error.value)


def test_hash_ids_of_bailian_are_of_blocks_of_16(tmp_path):
    row = '"chat_id": 1, "parent_chat_id": -1, "timestamp": 1.5, "input_length": 33, "output_length": 5'
    path = tmp_path / "trace.jsonl"
    path.write_text(f'{{{row}, "hash_ids": [1, 2, 3]}}\n' * 2)
    contents = read_trace(path).contents
    assert contents is not None and contents.hash_tokens == 16 and contents.hashed_tokens.tolist() == [33, 33]
