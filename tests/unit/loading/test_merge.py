from temporaletl.worker.loading.merge import Hopes


def test_an_empty_table_is_not_looked_up() -> None:
    assert Hopes(empty=True).high
    assert not Hopes(empty=False).high


def test_pages_of_new_keys_end_the_look_ups_and_a_known_key_brings_them_back() -> None:
    hopes = Hopes(empty=False)
    hopes.looked(found=False)
    assert hopes.high
    hopes.disappointed()
    assert not hopes.high


def test_every_disappointment_makes_it_more_patient() -> None:
    hopes = Hopes(empty=True)
    waits = []
    for _ in range(7):
        hopes.disappointed()
        pages = 0
        while not hopes.high:
            hopes.looked(found=False)
            pages += 1
        waits.append(pages)
    assert waits == [2, 4, 8, 16, 32, 32, 32]
