"""The ledger: whatever is dropped on the way, a commit never passes an event that was not acked, and all arrive."""

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from streams.kafka.acks import Ledger, Verdict


def test_acks_out_of_order_commit_the_longest_run() -> None:
    ledger = Ledger(10)
    for offset in range(10, 15):
        assert ledger.admit(offset) is Verdict.DELIVER
        ledger.delivered(offset)
    assert ledger.ack(11)
    assert ledger.ack(12)
    assert (ledger.low, ledger.outstanding) == (10, 5)
    assert ledger.ack(10)
    assert (ledger.low, ledger.outstanding) == (13, 2)


def test_a_fetcher_that_goes_back_by_itself_shows_a_log_that_has_lost_its_end() -> None:
    for told in (lambda ledger: ledger.fetched([3, 4]), lambda ledger: ledger.reached(3)):
        ledger = Ledger(10)
        told(ledger)
        assert not ledger.is_ahead, "where it stood is not known"
        ledger.sought(10)
        ledger.reached(10)
        ledger.fetched([12, 13])
        ledger.reached(20)  # messages that have expired
        assert not ledger.is_ahead
        told(ledger)
        assert ledger.is_ahead


def test_an_ack_counts_once_and_only_after_the_delivery() -> None:
    ledger = Ledger(0)
    assert not ledger.ack(0)
    ledger.admit(0)
    ledger.delivered(0)
    assert ledger.ack(0)
    assert not ledger.ack(0)
    assert ledger.low == 1


def test_what_is_held_is_what_was_delivered_and_is_not_acked() -> None:
    ledger = Ledger(0)
    for offset in range(4):
        ledger.delivered(offset, 100 * (offset + 1))
    ledger.delivered(0, 5000)  # it was delivered before
    assert ledger.held_bytes == 1000
    ledger.ack(2)
    ledger.ack(2)
    assert ledger.held_bytes == 700
    ledger.rewind()
    assert ledger.held_bytes == 0, "what was lost on its way is not held, and must not keep out what is fetched again"
    ledger.delivered(0, 100)
    ledger.ack(1)  # of before the rewind, and not yet delivered again
    assert ledger.held_bytes == 100


def test_how_far_a_log_went_under_each_leader_is_remembered() -> None:
    ledger = Ledger(5, epoch=2)
    assert (ledger.epoch, ledger.proven) == (2, 5)
    ledger.read_under(-1, 8)  # nothing was read since the partition was assigned
    assert (ledger.epoch, ledger.proven) == (2, 5)
    ledger.read_under(2, 8)
    ledger.read_under(3, 9)
    ledger.read_under(3, 6)  # sought back
    assert (ledger.epoch, ledger.proven) == (3, 9)
    ledger.read_under(2, 20)
    assert (ledger.epoch, ledger.proven) == (3, 9)


def test_an_attempt_that_was_cut_short_is_delivered_again() -> None:
    ledger = Ledger(0)
    assert ledger.admit(0) is Verdict.DELIVER
    assert ledger.admit(1) is Verdict.REWIND
    assert ledger.next == 0


def test_what_the_broker_skips_is_a_hole_and_what_is_dropped_on_the_way_is_not() -> None:
    ledger = Ledger(0)
    ledger.sought(0)
    ledger.fetched([0, 1, 5])  # 2, 3 and 4 do not exist; 0 and 1 are dropped by somebody
    assert ledger.admit(5) is Verdict.REWIND
    ledger.sought(ledger.next)
    ledger.fetched([0, 1, 5])
    for offset in (0, 1, 5):
        assert ledger.admit(offset) is Verdict.DELIVER
        ledger.delivered(offset)
        assert ledger.ack(offset)
    assert ledger.low == ledger.next == 6


def test_a_first_hole_after_an_unseen_position_costs_one_rewind() -> None:
    ledger = Ledger(0)  # retention has removed 0 to 99; nobody has sought yet
    ledger.fetched([100])
    assert ledger.admit(100) is Verdict.REWIND
    ledger.sought(0)
    ledger.fetched([100])
    assert ledger.admit(100) is Verdict.DELIVER
    assert ledger.low == 100


def test_records_that_were_dropped_are_noticed_although_no_later_one_comes() -> None:
    ledger = Ledger(7)
    assert not ledger.in_step  # who knows what was fetched before
    ledger.sought(7)
    assert ledger.in_step
    ledger.fetched([7, 8])
    assert not ledger.in_step
    ledger.sought(ledger.next)
    ledger.fetched([7, 8])
    for offset in (7, 8):
        ledger.admit(offset)
        ledger.delivered(offset)
    assert ledger.in_step
    ledger.fetched([12])  # 9, 10 and 11 do not exist
    assert not ledger.in_step
    ledger.admit(12)
    ledger.delivered(12)
    assert ledger.in_step
    ledger.ack(8)
    ledger.rewind()
    assert not ledger.in_step


def test_a_rewind_delivers_only_what_is_not_acked() -> None:
    ledger = Ledger(0)
    for offset in range(3):
        ledger.admit(offset)
        ledger.delivered(offset)
    ledger.ack(1)
    assert ledger.rewind() == 0
    assert ledger.admit(0) is Verdict.DELIVER
    ledger.delivered(0)
    assert ledger.admit(1) is Verdict.DROP
    assert ledger.admit(2) is Verdict.DELIVER


class LossyPartition(RuleBasedStateMachine):
    """A log with holes, a fetcher, and a Faust that drops any record at any time; steps ack in any order."""

    @initialize(
        gaps=st.lists(st.integers(1, 4), min_size=1, max_size=25), base=st.integers(0, 5), reached=st.integers(0, 8)
    )
    def begin(self, gaps: list[int], base: int, reached: int) -> None:
        self.log = [base]
        for gap in gaps:
            self.log.append(self.log[-1] + gap)
        self.committed = self.log[min(reached, len(self.log) - 1)]
        self.wanted = [offset for offset in self.log if offset >= self.committed]
        self.acked: set[int] = set()
        self.restart()

    def restart(self) -> None:
        self.ledger = Ledger(self.committed)
        self.position = self.committed
        self.in_flight: set[int] = set()

    def put_in_step(self) -> None:
        if not self.ledger.in_step:
            self.position = self.ledger.next
            self.ledger.sought(self.position)

    @rule(count=st.integers(1, 6), data=st.data())
    def fetch(self, count: int, data: st.DataObject) -> None:
        self.put_in_step()
        records = [offset for offset in self.log if offset >= self.position][:count]
        if not records:
            return
        self.position = records[-1] + 1
        if data.draw(st.booleans(), label="the fetch is lost as a whole"):
            self.ledger.unsure()
            return
        self.ledger.fetched(records)
        self.ledger.reached(self.position)
        for offset in records:
            if data.draw(st.booleans(), label="dropped by Faust"):
                continue
            verdict = self.ledger.admit(offset)
            if verdict is Verdict.REWIND:
                self.position = self.ledger.next
                self.ledger.sought(self.position)
                return
            if verdict is Verdict.DELIVER and data.draw(st.booleans(), label="the delivery succeeds"):
                self.ledger.delivered(offset)
                self.in_flight.add(offset)

    @rule(data=st.data())
    def ack(self, data: st.DataObject) -> None:
        if self.in_flight:
            offset = data.draw(st.sampled_from(sorted(self.in_flight)))
            self.in_flight.discard(offset)
            self.ledger.ack(offset)
            self.acked.add(offset)

    @rule(offset=st.integers(0, 120))
    def stray_ack(self, offset: int) -> None:
        if offset >= self.ledger.next or offset < self.ledger.low:
            assert not self.ledger.ack(offset)

    @rule(data=st.data())
    def lose_in_flight_and_rewind(self, data: st.DataObject) -> None:
        if self.in_flight and data.draw(st.booleans()):
            self.in_flight.clear()
            self.position = self.ledger.rewind()
            self.ledger.sought(self.position)

    @rule()
    def commit_and_move_elsewhere(self) -> None:
        self.committed = max(self.committed, self.ledger.low)
        self.restart()

    @invariant()
    def commits_pass_only_what_was_acked(self) -> None:
        if hasattr(self, "ledger"):
            assert self.ledger.low <= self.ledger.next
            assert all(offset in self.acked for offset in self.wanted if offset < self.ledger.low)

    def teardown(self) -> None:
        """Without further losses everything arrives, and the ledger reaches the end of the log."""
        if not hasattr(self, "ledger"):
            return
        for offset in self.in_flight:
            self.ledger.ack(offset)
        self.acked |= self.in_flight
        for _ in range(2):
            self.put_in_step()
            records = [offset for offset in self.log if offset >= self.position]
            self.ledger.fetched(records)
            self.position = records[-1] + 1 if records else self.position
            self.ledger.reached(self.position)  # the consumer tells it of each fetch, of an empty one too
            for offset in records:
                verdict = self.ledger.admit(offset)
                assert verdict is not Verdict.REWIND
                if verdict is Verdict.DELIVER:
                    self.ledger.delivered(offset)
                    self.ledger.ack(offset)
                    self.acked.add(offset)
        assert set(self.wanted) <= self.acked
        assert self.ledger.low == self.log[-1] + 1


def test_any_interleaving_loses_nothing() -> None:
    run_state_machine_as_test(
        LossyPartition, settings=settings(max_examples=150, stateful_step_count=30, deadline=None)
    )


@given(st.permutations(range(12)))
def test_any_order_of_acks_ends_at_the_end(order: list[int]) -> None:
    ledger = Ledger(0)
    for offset in range(12):
        ledger.admit(offset)
        ledger.delivered(offset)
    for done, offset in enumerate(order):
        ledger.ack(offset)
        assert ledger.low == next((o for o in range(12) if o not in order[: done + 1]), 12)


def test_what_no_record_follows_is_passed_once_the_fetcher_has() -> None:
    ledger = Ledger(5)
    ledger.sought(5)
    ledger.fetched([5, 6])
    ledger.reached(7)
    for offset in (5, 6):
        assert ledger.admit(offset) is Verdict.DELIVER
        ledger.delivered(offset)
    ledger.reached(8)  # a transaction's marker
    assert (ledger.low, ledger.next, ledger.in_step) == (5, 8, True)
    ledger.ack(5)
    ledger.ack(6)
    assert (ledger.low, ledger.outstanding) == (8, 0)
    ledger.fetched([9])
    assert ledger.admit(9) is Verdict.DELIVER


def test_what_was_dropped_on_its_way_is_not_passed() -> None:
    ledger = Ledger(5)
    ledger.sought(5)
    ledger.fetched([5, 6])  # 5 and 6 never reach the step
    ledger.reached(8)
    assert (ledger.low, ledger.next, ledger.in_step) == (5, 5, False)
    ledger.unsure()
    ledger.reached(9)
    assert ledger.next == 5
