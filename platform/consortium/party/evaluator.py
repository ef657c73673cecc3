"""Probing: what a host asks a model about its parties' edits; counts and sums leave it."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

from consortium.common.cache import Kept
from consortium.common.seeds import torch_generator
from consortium.data.edit import Edit
from consortium.data.party_batch import PartyBatch
from consortium.data.request import Request
from consortium.evaluation import knowedit
from consortium.evaluation.harm import open_harm
from consortium.evaluation.metrics import ProbeSums, Question, also_with_start, scored, summed
from consortium.evaluation.schedule import is_first_evaluation, probed_rounds, sampled_requests
from consortium.evaluation.telling import Evaluated, Told, tell_knowedit, tell_scores
from consortium.features.conflicts.metrics import MAGNITUDE, Case, case_of, losing_nlls, magnitude
from consortium.features.conflicts.resolution import UNSETTLED, Verdict, settled_of
from consortium.features.unlearning.requests import retracted_requests
from consortium.models.queries import Answer
from consortium.party.data import PrivateEdits
from consortium.party.shard import Shard, Weights
from consortium.scenario.schema import Decoding

#: Tokens kept at most of the unedited model's own answers, by which those of later models are measured.
_ANSWER_TOKENS = 1 << 20

#: Metrics whose probes are not those of an edit of the round.
_QUESTIONS_OF_THEIR_OWN = {"retention", "conflict", MAGNITUDE, "retracted", *knowedit.METRICS}


class Prober:
    """Asks the model in a shard about cohorts' edits; every method is idempotent.

    Args:
        private: the parties' edits.
        shard: the model.
    """

    def __init__(self, private: PrivateEdits, shard: Shard) -> None:
        self._private = private
        self._shard = shard
        self._scenario = private.scenario
        self._answers: Kept[knowedit.OwnAnswers] = Kept(_ANSWER_TOKENS, knowedit.num_tokens)
        self._harm = open_harm(self._scenario.evaluate, self._scenario.seed)

    def evaluate(
        self, batch: PartyBatch, weights: Weights, retention: bool, before: Weights | None = None
    ) -> Evaluated:
        """Counts and sums of the batch's own probes: this round's edits, and with ``retention`` earlier ones.

        With them come those of its part of the text and the general probe. Without ``retention`` the weights are the
        unedited ones, of which these are measured once. With ``evaluate.per_edit`` they come with what each probe was
        answered with; answers stay with their parties unless the scenario asks for them.

        Args:
            batch: the batch; its edits that were withdrawn are not probed.
            weights: weights to evaluate.
            retention: whether earlier rounds' edits are probed.
            before: the round's first weights, against which the fall of losing answers is measured; None not to.
        """
        told: list[Told] | None = [] if self._scenario.evaluate.per_edit else None
        requests = self._sampled(batch)
        probed = self._probed_for_knowedit(batch)
        cases = self._cases(requests) if MAGNITUDE in self._scenario.evaluate.metrics and before is not None else []
        was = self._losing_before(cases, before)
        own = {of: self._own_answers((batch.key, of), self._edits(each)) for of, each in probed.items()}
        self._shard.load(weights)
        asked = scored(self._shard.backend, self.questions(batch, retention))
        sums = summed(asked)
        if told is not None:
            told += tell_scores(self._shard.backend, asked)
        for of_round, each in probed.items():
            sums |= self._knowedit(of_round, batch.number, each, own[of_round], told)
        if cases:
            sums |= magnitude(batch.round, was, losing_nlls(self._shard.backend, cases))
        if retention or is_first_evaluation(self._scenario, batch.round):
            sums |= self._harm.measure(self._shard.backend, batch.number, self._scenario.num_cohorts)
        return Evaluated(sums, tuple(told or ()))

    def _sampled(self, batch: PartyBatch) -> list[tuple[Request, Verdict]]:
        """The round's requests that are probed, and what was settled about each."""
        parties, settled = self._scenario.cohort(batch.number), settled_of(batch)
        requests = sampled_requests(self._scenario, self._private.stream, batch.round, parties)
        return [(each, settled.of(each.party, each.index)) for each in requests]

    def _cases(self, requests: Sequence[tuple[Request, Verdict]]) -> list[Case]:
        found = [self._case(request, verdict) for request, verdict in requests]
        return [case for case in found if case is not None]

    def _case(self, request: Request, verdict: Verdict) -> Case | None:
        """The conflict that a request brought up; withdrawn, it may have lost against its party's earlier answer."""
        may_stand = self._scenario.conflicts.span == "run" and verdict.fate == "withdrawn"
        rival_stands = False
        if may_stand and request.rival_variant is not None:
            rival = self._private.facts.edit(request.fact, request.rival_variant)
            rival_stands = self._private.stands(rival, request.round)
        return case_of(self._private.facts, request, verdict, rival_stands)

    def _losing_before(self, cases: Sequence[Case], before: Weights | None) -> list[float]:
        """Negative log likelihoods of the losing answers under the round's first weights."""
        if not cases or before is None:
            return []
        self._shard.load(before)
        return losing_nlls(self._shard.backend, cases)

    def _edits(self, requests: Sequence[Request]) -> list[Edit]:
        return [self._private.edit(request) for request in requests]

    def _probed_for_knowedit(self, batch: PartyBatch) -> dict[int, list[Request]]:
        """Round → requests for its edits that are probed for KnowEdit's metrics."""
        if not set(knowedit.METRICS) & set(self._scenario.evaluate.metrics):
            return {}
        found: dict[int, list[Request]] = {}
        for of_round, request in self._probed_requests(batch.round, self._scenario.cohort(batch.number)):
            if self._verdict(batch, of_round, request).fate != "withdrawn":
                found.setdefault(of_round, []).append(request)
        return found

    @staticmethod
    def _verdict(batch: PartyBatch, of_round: int, request: Request) -> Verdict:
        """What was settled about a request of this round; of earlier ones, those withdrawn are left out before."""
        return (settled_of(batch) if of_round == batch.round else UNSETTLED).of(request.party, request.index)

    def _knowedit(
        self,
        of_round: int,
        cohort: int,
        requests: Sequence[Request],
        own: knowedit.OwnAnswers,
        told: list[Told] | None,
    ) -> ProbeSums:
        generator, spec = torch_generator(self._scenario.seed, "fluency", of_round, cohort), self._scenario.evaluate

        def tell(metric: str, decoding: Decoding, edits: Sequence[Sequence[knowedit.Scored]]) -> None:
            for request, each in zip(requests, edits, strict=True):
                if told is not None:
                    told.extend(tell_knowedit(metric, decoding, request, each))

        edits = self._edits(requests)
        return knowedit.measure(self._shard.backend, edits, of_round, spec, own, generator, tell)

    def _own_answers(self, name: Hashable, edits: Sequence[Edit]) -> knowedit.OwnAnswers:
        """What the unedited model says to the questions of ``locality``: the model is put back to be asked."""

        def answer(decoding: Decoding) -> tuple[Answer, ...]:
            self._shard.load_base()
            return tuple(self._shard.backend.answer(knowedit.locality_probes(edits), decoding))

        if "locality" not in self._scenario.evaluate.metrics:
            return {}
        decodings = self._scenario.evaluate.decoding
        return self._answers.get(name, lambda: {each: answer(each) for each in decodings})

    def questions(self, batch: PartyBatch, retention: bool) -> list[Question]:
        """What is asked about a batch's edits after a round, besides what needs questions of its own kind."""
        round_number, parties = batch.round, self._scenario.cohort(batch.number)
        metrics = self._scenario.evaluate.metrics
        shown = [metric for metric in metrics if metric not in _QUESTIONS_OF_THEIR_OWN]
        questions = []
        for of_round, request in self._probed_requests(round_number, parties):
            verdict = self._verdict(batch, of_round, request)
            if verdict.fate != "withdrawn":
                edit = self._private.edit(request)
                questions += [Question(metric, of_round, edit, request=request) for metric in shown]
            case = self._case(request, verdict) if "conflict" in metrics else None
            if case is not None:
                questions.append(Question("conflict", of_round, case.chosen, case.losing, request))
        if retention and "retention" in metrics:
            questions += self._retention_questions(round_number, parties)
        if "retracted" in metrics:
            found = retracted_requests(self._scenario, self._private.stream, round_number, parties)
            questions += [
                Question(metric, back_in, self._private.edit(request), request=request)
                for metric, back_in, request in found
            ]
        if self._shard.backend.has_document_start:
            return also_with_start(questions, self._scenario.evaluate)
        return questions

    def _retention_questions(self, round_number: int, parties: range) -> list[Question]:
        """Earlier rounds' edits, but for those that a later request contradicted or that were taken back."""
        earlier = self._private.standing(range(1, round_number), round_number, parties)
        return [
            Question("retention", of_round, self._private.edit(request), request=request)
            for of_round, request in earlier
        ]

    def _probed_requests(self, round_number: int, parties: range) -> list[tuple[int, Request]]:
        """Round and request of all edits that are probed: all of this round's, and those that stand of others."""
        earlier = probed_rounds(self._scenario, round_number)[:-1]
        now = sampled_requests(self._scenario, self._private.stream, round_number, parties)
        standing = self._private.standing(earlier, round_number, parties) if earlier else []
        return [*standing, *((round_number, request) for request in now)]
