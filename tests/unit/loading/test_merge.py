from temporaletl.worker.loading.merge import InsertFastPath


def test_an_empty_table_is_not_looked_up() -> None:
    assert InsertFastPath(empty=True).active
    assert not InsertFastPath(empty=False).active


def test_pages_of_new_keys_end_the_lookups_and_a_known_key_brings_them_back() -> None:
    fast_path = InsertFastPath(empty=False)
    fast_path.record_lookup(found=False)
    assert fast_path.active
    fast_path.record_conflict()
    assert not fast_path.active


def test_after_each_conflict_it_takes_twice_as_many_new_pages() -> None:
    fast_path = InsertFastPath(empty=True)
    needed = []
    for _ in range(7):
        fast_path.record_conflict()
        pages = 0
        while not fast_path.active:
            fast_path.record_lookup(found=False)
            pages += 1
        needed.append(pages)
    assert needed == [2, 4, 8, 16, 32, 32, 32]
