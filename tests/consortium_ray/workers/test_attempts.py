"""What failed, how often, and whether another worker should try; by hand, without workers."""

import pytest
from consortium.common.errors import ModelError, RunError
from consortium.features.faults.retry import SAME_FAILURES, fails_alike
from consortium.scenario.faults import OnFailureSpec
from consortium_ray.messages import Call
from consortium_ray.workers.attempts import Attempts, Failure

CALL = Call(("collect", 0), "collect", (), 0)
OTHER = Call(("collect", 1), "collect", (), 1)
ALONE = {"others_are_up": False, "others_try": False}


def failure(worker, reason="gone", node="node-a", error=None):
    return Failure(worker, node, reason, error)


def attempts(max_losses=2, worker="replace"):
    return Attempts(OnFailureSpec(max_losses=max_losses, worker=worker))


def test_a_call_is_tried_so_often_and_no_more_whatever_else_is_answered():
    """Answers to other calls and setup calls that succeed lie between the losses."""
    found = attempts(max_losses=2)
    for worker in range(2):
        found.call_failed(CALL, failure(worker, f"reason {worker}"), 0.0)
        found.setup_call_done(0, "node-a")
        found.answered(OTHER, "node-a")
    with pytest.raises(RunError) as caught:
        found.call_failed(CALL, failure(2, "reason 2"), 0.0)
    assert "`collect of party batch 0` was tried 3 times in vain" in caught.value.found
    for worker in range(3):
        assert f"worker-{worker} on node node-a: reason {worker}" in caught.value.found


def test_a_calls_answer_makes_up_for_its_losses():
    found = attempts(max_losses=1)
    for worker in range(6):
        found.call_failed(CALL, failure(worker), 0.0)
        assert found.words() == [f"worker-{worker} on node node-a: gone"], "those before it are forgotten"
        found.answered(CALL, "node-a")
        assert found.words() == []


def test_a_call_that_is_asked_again_under_another_name_is_the_same_call():
    found = attempts(max_losses=1)
    found.call_failed(CALL, failure(0), 0.0)
    found.answered(OTHER, "node-a")
    again = Call(("collect", 0, 7), "collect", (), 0, instead_of=CALL.key)
    with pytest.raises(RunError, match="tried 2 times"):
        found.call_failed(again, failure(1), 0.0)


def test_losses_in_a_row_end_the_run_though_each_call_was_lost_once():
    found = attempts(max_losses=2)
    calls = [Call(("collect", n), "collect", (), n) for n in range(3)]
    for worker, call in enumerate(calls[:2]):
        found.call_failed(call, failure(worker), 0.0)
    with pytest.raises(RunError, match="3 workers were lost one after another without an answer to any call"):
        found.call_failed(calls[2], failure(2), 0.0)


def test_what_one_event_took_together_is_one_loss():
    found = attempts(max_losses=1)
    for worker in range(4):
        found.call_failed(Call(("collect", worker), "collect"), failure(worker), 0.0, is_new=worker == 0)
    with pytest.raises(RunError, match="2 workers were lost one after another"):
        found.call_failed(Call(("collect", 4), "collect"), failure(4), 0.0)


def test_a_policy_to_stop_stops_at_the_first_loss():
    with pytest.raises(RunError, match="a worker was lost: worker-4 on node node-a: gone"):
        attempts(worker="stop").call_failed(CALL, failure(4), 0.0)
    with pytest.raises(RunError, match="a worker was lost: worker-4"):
        attempts(worker="stop").setup_call_failed(0, "open", failure(4), 0.0, others_are_up=True, others_try=False)


class TestErrors:
    def test_what_our_own_checks_say_of_a_call_stops_the_run_at_once(self):
        error = RunError("numbers are not finite")
        with pytest.raises(RunError, match="numbers are not finite") as caught:
            attempts().call_failed(CALL, failure(0, error=error), 0.0)
        assert caught.value is error

    def test_any_other_error_is_a_lost_worker(self):
        found = attempts(max_losses=2)
        for worker in range(2):
            found.call_failed(CALL, failure(worker, f"CUDA out of memory at {worker}", error=MemoryError()), 0.0)
        with pytest.raises(RunError, match="`collect of party batch 0` was tried 3 times in vain:\n"):
            found.call_failed(CALL, failure(2, "CUDA out of memory at 2", error=MemoryError()), 0.0)

    def test_the_same_error_on_several_workers_stops_the_run_with_its_reason(self):
        found = attempts(max_losses=30)
        same = [failure(worker, "TypeError: x", error=TypeError("x")) for worker in range(SAME_FAILURES)]
        for each in same[:-1]:
            found.call_failed(CALL, each, 0.0)
            found.answered(OTHER, "node-a")
        with pytest.raises(RunError, match=r"(?s)tried 3 times in vain, 3 of them for .*TypeError: x") as caught:
            found.call_failed(CALL, same[-1], 0.0)
        assert str(caught.value).count("TypeError: x") == 3

    def test_alike_is_the_same_reason_on_different_workers(self):
        assert not fails_alike([(0, "x"), (0, "x"), (0, "x"), (1, "y")])
        assert fails_alike([(0, "x"), (1, "y"), (2, "x"), (3, "x")])

    def test_workers_that_are_gone_are_not_alike(self):
        """Each was killed, and nobody said why: that is bounded by max_losses alone."""
        found = attempts(max_losses=10)
        for worker in range(10):
            found.call_failed(CALL, failure(worker, "ActorDiedError"), 0.0)
        with pytest.raises(RunError, match="tried 11 times in vain:\n"):
            found.call_failed(CALL, failure(10, "ActorDiedError"), 0.0)


class TestSetupCalls:
    def test_a_setup_call_that_nobody_comes_through_is_bounded(self):
        found = attempts(max_losses=2)
        for worker in range(2):
            found.setup_call_failed(0, "open", failure(worker), 0.0, **ALONE)
        with pytest.raises(RunError, match="3 workers in a row did not come through `open`:\n  worker-0"):
            found.setup_call_failed(0, "open", failure(2), 0.0, **ALONE)

    def test_a_later_setup_call_is_bounded_though_the_first_one_succeeds(self):
        found = attempts(max_losses=2)
        for worker in range(2):
            found.setup_call_done(0, "node-a")
            found.setup_call_failed(1, "begin", failure(worker), 0.0, **ALONE)
        found.setup_call_done(0, "node-a")
        with pytest.raises(RunError, match="3 workers in a row did not come through `begin`"):
            found.setup_call_failed(1, "begin", failure(2), 0.0, **ALONE)

    def test_a_model_that_the_first_worker_cannot_open_is_the_users_error(self):
        error = ModelError("no such model")
        with pytest.raises(ModelError) as caught:
            attempts().setup_call_failed(0, "open", failure(0, error=error), 0.0, **ALONE)
        assert caught.value is error

    def test_others_that_are_at_it_decide_whether_it_is(self):
        found, error = attempts(), ModelError("no such model")
        found.setup_call_failed(0, "open", failure(0, error=error), 0.0, others_are_up=False, others_try=True)
        assert found.is_in_doubt
        with pytest.raises(ModelError):
            found.setup_call_failed(0, "open", failure(1, "killed"), 0.0, **ALONE)
        found = attempts()
        found.setup_call_failed(0, "open", failure(0, error=error), 0.0, others_are_up=False, others_try=True)
        found.setup_call_done(0, "node-b")
        assert not found.is_in_doubt

    def test_a_late_worker_that_cannot_open_what_others_opened_is_a_lost_worker(self):
        found, error = attempts(max_losses=2), ModelError("429")
        found.setup_call_done(0, "node-a")
        for worker in range(1, 20):
            late = failure(worker, "429", node="node-b", error=error)
            found.setup_call_failed(0, "open", late, 0.0, others_are_up=True, others_try=False)
            assert found.words() == [f"worker-{worker} on node node-b: 429"]
        assert found.avoided(0.0, are_others_up=True, are_other_nodes=False) == {"node-b"}

    def test_when_no_worker_is_left_that_opened_it_the_tries_are_bounded(self):
        found, error = attempts(max_losses=2), ModelError("429")
        found.setup_call_done(0, "node-a")
        for worker in range(2):
            found.setup_call_failed(0, "open", failure(worker, "429", error=error), 0.0, **ALONE)
        with pytest.raises(RunError, match="3 workers in a row did not come through `open`") as caught:
            found.setup_call_failed(0, "open", failure(2, "429", error=error), 0.0, **ALONE)
        assert not isinstance(caught.value, ModelError)


ELSEWHERE = {"are_others_up": True, "are_other_nodes": True}


class TestNodes:
    def test_a_node_whose_workers_do_not_come_up_is_avoided_for_a_while(self):
        found = attempts(max_losses=9)
        for worker in range(2):
            assert not found.avoided(0.0, **ELSEWHERE)
            found.setup_call_failed(0, "open", failure(worker, node="bad"), 0.0, others_are_up=True, others_try=False)
        assert found.avoided(1.0, **ELSEWHERE) == {"bad"}
        assert found.avoided(1.0, are_others_up=True, are_other_nodes=False) == {"bad"}, "the others go on without it"
        assert not found.avoided(1.0, are_others_up=False, are_other_nodes=False), "there is no other way"
        assert not found.avoided(601.0, **ELSEWHERE)

    def test_a_node_that_answers_between_is_not(self):
        found = attempts(max_losses=9)
        for worker in range(6):
            found.call_failed(CALL, failure(worker, node="bad"), 0.0)
            if worker % 2:
                found.answered(OTHER, "bad")
        assert not found.avoided(1.0, **ELSEWHERE)

    def test_a_node_whose_workers_die_of_calls_is_avoided_only_where_there_are_others(self):
        found = attempts(max_losses=9)
        for worker in range(3):
            found.call_failed(CALL, failure(worker, node="bad"), 0.0)
        assert found.avoided(1.0, **ELSEWHERE) == {"bad"}
        assert not found.avoided(1.0, are_others_up=True, are_other_nodes=False)


def test_long_lists_are_cut_in_the_middle():
    found = attempts(max_losses=29)
    for worker in range(29):
        found.call_failed(CALL, failure(worker), 0.0)
    with pytest.raises(RunError) as caught:
        found.call_failed(CALL, failure(29), 0.0)
    assert "… 20 more …" in caught.value.found
    assert caught.value.found.count("worker-") == 10


def test_a_user_who_has_too_little_memory_is_told_what_needs_less():
    """Nothing of it is a fault of the program."""
    for words in ("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 20 GiB", "MemoryError: "):
        found = attempts()
        for worker in range(2):
            found.call_failed(CALL, failure(worker, words, error=MemoryError()), 0.0)
        with pytest.raises(RunError) as caught:
            found.call_failed(CALL, failure(2, words, error=MemoryError()), 0.0)
        assert "cluster.parties_per_batch" in caught.value.remedy
        assert "report it" not in str(caught.value)
