"""What is kept of answers that nobody fetches."""

import asyncio

from gradio.server_messages import ProcessCompletedMessage

from rankviz.ui.blocks import TOO_LATE, Unread


def answer(text):
    return ProcessCompletedMessage(output={"data": [text]}, success=True)


def read(messages):
    message = messages.get_nowait()
    return message.output.get("data", message.output)


def unread_of(*sessions, events=None, **most):
    unread = Unread({} if events is None else events, **most)
    for session in sessions:
        unread[session] = asyncio.Queue()
    return unread


def test_of_more_unread_answers_than_there_is_room_for_the_oldest_says_that_it_is_gone():
    unread = unread_of("ann", "ben", answers=2)
    for session, text in (("ann", "1"), ("ben", "2"), ("ben", "3")):
        unread[session].put_nowait(answer(text))

    assert {"error": TOO_LATE} == read(unread["ann"])
    assert [["2"], ["3"]] == [read(unread["ben"]), read(unread["ben"])]


def test_large_answers_make_room_earlier_and_the_newest_stays_whatever_its_size():
    unread = unread_of("ann", "ben", size=1000)
    for session, text in (("ann", "a" * 400), ("ann", "b" * 400), ("ben", "c" * 400)):
        unread[session].put_nowait(answer(text))

    assert {"error": TOO_LATE} == read(unread["ann"])
    assert ["b" * 400] == read(unread["ann"])

    unread["ann"].put_nowait(answer("d" * 4000))

    assert {"error": TOO_LATE} == read(unread["ben"])
    assert ["d" * 4000] == read(unread["ann"])


def test_of_more_messages_of_one_session_than_there_is_room_for_the_oldest_goes_with_its_event():
    events = {"ann": {"1", "2", "3"}}
    unread = unread_of("ann", events=events, messages=2)
    for number in ("1", "2", "3"):
        unread["ann"].put_nowait(ProcessCompletedMessage(event_id=number, output={"data": [number]}, success=True))

    assert [["2"], ["3"]] == [read(unread["ann"]), read(unread["ann"])]
    assert unread["ann"].empty()
    assert {"ann": {"2", "3"}} == events
