"""Where an error arose, as its traceback says."""

import pytest

import statejobs
from statejobs.values.frames import Frame, last_frame

OURS = statejobs.__file__


@pytest.mark.parametrize(
    ("lines", "frame"),
    [
        ([], None),
        (["ValueError: no"], None),
        (['File "/srv/shop.py", line 7, in pay'], Frame("/srv/shop.py", 7, "pay")),
        (['File "/srv/shop.py", line 7'], Frame("/srv/shop.py", 7, "")),
        (
            [
                'File "/srv/shop.py", line 7, in pay',
                'File "/srv/.venv/lib/python3.12/site-packages/x.py", line 1, in get',
            ],
            Frame("/srv/shop.py", 7, "pay"),
        ),
        (
            [
                'File "/srv/shop.py", line 7, in pay',
                'File "/usr/lib/python3.12/json/decoder.py", line 3, in decode',
                f'File "{OURS}", line 9, in firing',
            ],
            Frame("/srv/shop.py", 7, "pay"),
        ),
        (
            [f'File "{OURS}", line 9, in firing'],
            Frame(OURS, 9, "firing"),
        ),
        (
            [
                'File "/srv/shop.py", line 1, in first',
                "During handling of the above exception, another exception occurred:",
                'File "/srv/shop.py", line 2, in last',
            ],
            Frame("/srv/shop.py", 2, "last"),
        ),
        (
            ['  | File "/srv/shop.py", line 4, in member'],
            Frame("/srv/shop.py", 4, "member"),
        ),
        (
            [r'File "C:\shop\pay.py", line 4, in pay'],
            Frame(r"C:\shop\pay.py", 4, "pay"),
        ),
    ],
)
def test_the_last_line_of_the_users_code_is_found(lines, frame):
    assert last_frame("\n".join(f"  {line}" for line in lines)) == frame


def test_no_traceback_has_none():
    assert last_frame(None) is None


def test_a_frame_is_read_as_a_line_of_a_file():
    assert str(Frame("/srv/shop.py", 7, "pay")) == "/srv/shop.py:7 pay"
