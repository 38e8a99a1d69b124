"""Server-sent events as they are sent."""

import json

from temporaletl.control.api.streams import event


def test_texts_with_rare_ends_of_lines_are_whole_json() -> None:
    text = "\u2028 \u2029 \x85 \x0b \x0c \x1c".replace(" ", "x")
    sent = event("run", json.dumps({"error": text}, ensure_ascii=False)).decode()
    [data] = [line.removeprefix("data: ") for line in sent.split("\n") if line.startswith("data:")]
    assert json.loads(data) == {"error": text}


def test_data_of_several_lines_is_sent_line_by_line() -> None:
    assert event("end", "a\r\nb\rc\n") == b"event: end\ndata: a\ndata: b\ndata: c\ndata: \n\n"
