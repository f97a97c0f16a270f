"""Stream URIs: taken apart, put together, refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chaos.terms.errors import InvalidURI, StreamExists
from chaos.terms.uri import make_uri, next_free, of_free, parse_uri, slug

part = st.from_regex(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}", fullmatch=True)


@given(part, part)
def test_uris_are_taken_apart_and_put_together(name: str, take: str) -> None:
    assert parse_uri(make_uri(name, take)) == (name, take)


@given(st.text())
def test_a_slug_is_a_uri_part(anyhow: str) -> None:
    make_uri(slug(anyhow), "take")


@pytest.mark.parametrize(
    "secret", ["https://me:hush@host/x", "S3://me:hush/hush@bucket/x", "https://host/x?key=hush&x=hush\nhush"]
)
def test_the_credentials_in_a_url_of_something_else_are_not_repeated(secret: str) -> None:
    with pytest.raises(InvalidURI) as refused:
        parse_uri(secret)
    assert "hush" not in f"{refused.value.message}{refused.value.hint}"


@pytest.mark.parametrize(
    "wrong",
    [
        "",
        "desk/take",
        "stream:/a/b",
        "stream://a",
        "stream://a/",
        "stream:///b",
        "stream://a/b/c",
        "stream://a/.b",
        f"stream://a/{'x' * 65}",
        "stream://a/b c",
        "stream://a/b\n",
        "stream://\u00e4/b",
        "STREAM://a/b",
        "stream://a/b\0",
    ],
)
def test_uris_that_are_none(wrong: str) -> None:
    with pytest.raises(InvalidURI) as caught:
        parse_uri(wrong)
    assert "stream://NAME/TAKE" in caught.value.hint


@pytest.mark.parametrize(
    ("take", "free"),
    [("take-1", "take-3"), ("take", "take-3"), ("take-009", "take-010"), ("20261126", "20261126-2"), ("9" * 64, None)],
)
def test_the_next_free_take_counts_up(take: str, free: str | None) -> None:
    found = next_free(f"stream://desk/{take}", {"stream://desk/take-2"}.__contains__)
    assert found == (None if free is None else f"stream://desk/{free}")


def test_a_name_that_nobody_chose_is_the_next_one_that_is_free() -> None:
    taken = {"stream://desk/20261126T170000Z", "stream://desk/20261126T170000Z-2"}

    def start(uri: str) -> str:
        if uri in taken:
            raise StreamExists("somebody was quicker")
        return uri

    assert of_free("stream://desk/20261126T170000Z", start) == "stream://desk/20261126T170000Z-3"
    assert of_free("stream://desk/20261126T170001Z", start) == "stream://desk/20261126T170001Z"
    taken.add("stream://desk/" + "9" * 64)
    with pytest.raises(StreamExists):
        of_free("stream://desk/" + "9" * 64, start)
