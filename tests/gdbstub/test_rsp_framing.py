"""Framing: whatever comes in, and in whatever pieces."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from rsp_machine import Machine

from gdbstub import Stub
from gdbstub.framing import (
    Ack,
    Corrupt,
    FramingError,
    Interrupt,
    Nak,
    Notification,
    Packet,
    PacketReader,
    TooLong,
    checksum,
    decode_runs,
    encode_runs,
    escape,
    frame,
    frame_notification,
    unescape,
)

# Bytes that mean something to the framing are made likely.
NOISE = st.lists(
    st.one_of(
        st.sampled_from([b"$", b"#", b"}", b"*", b"+", b"-", b"%", b"\x03", b"00", b"$#00", b"$g#67"]),
        st.binary(max_size=4),
    )
).map(b"".join)
RUNS = st.lists(st.tuples(st.binary(min_size=1, max_size=1), st.integers(1, 300)), max_size=6).map(
    lambda runs: b"".join(byte * count for byte, count in runs)
)
PAYLOADS = st.one_of(NOISE, RUNS)


def cut(data: bytes, places: list[int]) -> list[bytes]:
    ends = sorted(place % (len(data) + 1) for place in places)
    return [data[start:end] for start, end in zip([0, *ends], [*ends, len(data)], strict=True)]


@given(PAYLOADS)
@example(b"0" * 7)
@example(b"0" * 15)
def test_a_framed_payload_is_read_back_whole(payload: bytes) -> None:
    assert PacketReader(expand_runs=True).feed(frame(payload)) == [Packet(payload)]


@given(PAYLOADS)
def test_a_packet_framed_without_runs_is_read_back_by_a_stubs_reader(payload: bytes) -> None:
    assert PacketReader().feed(frame(payload, runs=False)) == [Packet(payload)]


@given(PAYLOADS)
def test_an_escaped_body_has_no_special_byte_left(payload: bytes) -> None:
    body = escape(payload)
    assert not set(body) & set(b"#$*")
    assert unescape(body) == payload


@given(st.lists(st.sampled_from([b"}", b"]", b"\x03", b"a"])).map(b"".join))
@example(b"}}}")
def test_any_byte_may_come_escaped(body: bytes) -> None:
    """Byte by byte: what a pair says, whichever it is."""
    plain = bytearray()
    left = bytearray(body)
    while left:
        byte = left.pop(0)
        if byte == ord("}"):
            if not left:
                with pytest.raises(FramingError):
                    unescape(body)
                return
            byte = left.pop(0) ^ 0x20
        plain.append(byte)
    assert unescape(body) == bytes(plain)


@given(st.sampled_from([b"$g#67", b"$m0,1#fa", b"$g#68", b"$}]#da", b"+$g#67", b"$g#67$g#67"]), st.integers(0, 12))
def test_a_packet_that_comes_whole_is_read_as_one_that_comes_in_pieces(data: bytes, place: int) -> None:
    halves = PacketReader()
    assert PacketReader().feed(data) == halves.feed(data[:place]) + halves.feed(data[place:])


@pytest.mark.parametrize("byte", [0, ord("0"), ord("x")])
@pytest.mark.parametrize("rest", [0, 1000, 60000])
def test_long_runs_in_long_replies_are_shortened(byte: int, rest: int) -> None:
    body = bytes((byte,)) * 30_000 + bytes(range(48, 58)) * (rest // 10)
    assert len(encode_runs(body)) < rest + 1500
    assert decode_runs(encode_runs(body)) == body


@given(RUNS)
def test_run_lengths_are_printable_and_never_look_like_framing(payload: bytes) -> None:
    encoded = encode_runs(escape(payload))
    lengths = [encoded[place + 1] for place, byte in enumerate(encoded[:-1]) if byte == ord("*")]
    assert all(32 <= length <= 126 and length not in b"#$*+-" for length in lengths)
    assert unescape(decode_runs(encoded)) == payload


@given(NOISE)
def test_no_bytes_make_the_stub_raise(data: bytes) -> None:
    Stub(Machine()).feed(data)


@given(st.sampled_from(list("?gGpPmMxXcCsSHTDkRzZ!vqQ")), st.one_of(st.text(), st.text("0123456789abcdef,:;=-.p")))
def test_no_arguments_make_the_stub_raise(letter: str, rest: str) -> None:
    Stub(Machine()).feed(frame((letter + rest).encode(), runs=False))


@given(NOISE, st.lists(st.integers(min_value=0), max_size=5))
def test_data_in_pieces_is_answered_as_data_in_one_piece_is(data: bytes, places: list[int]) -> None:
    whole, pieces = Stub(Machine()), Stub(Machine())
    assert b"".join(pieces.feed(piece) for piece in cut(data, places)) == whole.feed(data)
    assert pieces.state is whole.state


@given(NOISE)
def test_a_packet_after_any_noise_is_read_once_the_noise_is_over(noise: bytes) -> None:
    reader = PacketReader()
    reader.feed(noise)
    # A packet that the noise left open swallows one packet at most.
    events = [*reader.feed(frame(b"?")), *reader.feed(frame(b"?"))]
    assert Packet(b"?") in events


@pytest.mark.parametrize("length", [0, 1, 255, 256, 257, 511, 512, 513, 5000])
@pytest.mark.parametrize("byte", [0x00, 0x30, 0x7F, 0x80, 0xFF])
def test_a_checksum_is_the_sum_of_all_bytes(byte: int, length: int) -> None:
    body = bytes((byte,)) * length + b"\x01"
    assert checksum(body) == sum(body) & 0xFF


def test_a_wrong_checksum_is_corrupt() -> None:
    assert isinstance(PacketReader().feed(b"$g#68")[0], Corrupt)


def test_a_checksum_of_no_digits_is_corrupt() -> None:
    assert isinstance(PacketReader().feed(b"$g#6 ")[0], Corrupt)


def test_a_checksum_in_capitals_is_good() -> None:
    assert PacketReader().feed(b"$m1#9E") == [Packet(b"m1")]


def test_a_new_packet_replaces_one_that_was_cut_off() -> None:
    assert PacketReader().feed(b"$m100$g#67") == [Packet(b"g")]
    assert PacketReader().feed(b"$m100#4$g#67") == [Packet(b"g")]


def test_a_body_that_ends_in_an_escape_is_corrupt() -> None:
    assert isinstance(PacketReader().feed(b"$}#7d")[0], Corrupt)


def test_single_bytes_between_packets_are_told_from_noise() -> None:
    assert PacketReader().feed(b"?+x-\x03\n") == [Ack(), Nak(), Interrupt()]


def test_an_interrupt_byte_within_a_packet_is_data() -> None:
    assert PacketReader().feed(frame(b"X0,1:\x03")) == [Packet(b"X0,1:\x03")]


def test_a_notification_is_framed_with_a_percent_sign() -> None:
    assert PacketReader(expand_runs=True).feed(frame_notification(b"Stop:T05")) == [Notification(b"Stop:T05")]


def test_a_star_from_a_debugger_is_no_run_length() -> None:
    assert PacketReader().feed(b"$0*!#7b") == [Packet(b"0*!")]


def test_a_packet_over_the_limit_is_reported_and_the_next_one_read() -> None:
    reader = PacketReader(limit=8)
    assert reader.feed(frame(b"123456789")) == [TooLong(8)]
    assert reader.feed(frame(b"12345678")) == [Packet(b"12345678")]


@pytest.mark.parametrize("body", [b"*!", b"0*", b"0*\x1f", b"0*\x7f"])
def test_a_bad_run_is_a_framing_error(body: bytes) -> None:
    with pytest.raises(FramingError):
        decode_runs(body)


def test_the_manuals_run_length_example_decodes() -> None:
    assert decode_runs(b"0* ") == b"0000"
