"""The settings of the policy: every number that decides how a study is searched, with its reason.

One frozen tree, ``PolicySettings``. Users have no reason to change it; benchmarks switch parts off
and tests pass their own. What belongs to one model alone (priors of a kernel, trees of an
ensemble) stays with that model.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class PortfolioSettings:
    """The configurations that a study with a history starts with.

    Attributes:
        enabled: Whether there is a portfolio; without one, a study begins with well-spread trials.
        trials: Trials from the portfolio before the surrogate decides. One trial does not show
            whether it was a good one; the second serves the past tasks that the first serves
            badly.
        size: Members of the portfolio: enough for as many workers to start at once.
        pool: Candidates for the portfolio: the best trials of all past tasks together.
        pool_per_task: The fewest candidates from one past task.
        trees: Extremely randomised trees over all past tasks together.
        trees_per_task: The fewest trees for one past task.
        worst_score: Floor of a candidate's score on a past task, where the median has 0 and the
            best 1: a configuration that fails is no worse than one that is as far below the
            median as the best is above it.
    """

    enabled: bool = True
    trials: int = 2
    size: int = 8
    pool: int = 300
    pool_per_task: int = 5
    trees: int = 600
    trees_per_task: int = 5
    worst_score: float = -1.0


@dataclass(frozen=True)
class AuditSettings:
    """When a trial tests the history instead of following it.

    Within a plateau of equally good or equally bad values, good and misleading histories predict
    alike; one trial far from all others tells them apart and costs least while nothing else
    improves.

    Attributes:
        after: Trials without improvement before an audit.
        most: Audits in a row.
        until: Trials after which there are no more audits.
        min_trust: Trust below which the history decides too little to be worth an audit.
    """

    after: int = 4
    most: int = 2
    until: int = 15
    min_trust: float = 0.2


@dataclass(frozen=True)
class TrustSettings:
    """How models and past tasks are weighed by how well they predict the study's own trials.

    Attributes:
        weigh: Whether they are weighed at all.
        prior_log_odds: Log odds, before any evidence, for the model that is informed of more
            than the study's own trials.
        past_prior_log_odds: Log odds, before any evidence, for past tasks in a network's context
            against leaving them out.
        most_per_trial: The most that one trial adds to log odds or takes from them: a Gaussian
            density makes too much of one surprise.
        negligible: Weight below which a model is left out of the mixture: it costs time and
            changes nothing.
        min_gp_trust: Trust in Gaussian processes below which the history is left behind.
        target_only_from: Observations below which a model of these alone has nothing to say.
        evidence_trials: The latest trials whose densities count for or against a network; each
            costs one prediction, once.
        past_evidence_trials: The first trials whose densities count for or against past tasks in
            a network's context; later on these hardly matter to it.
        checked_tasks: Past tasks on which a network is compared with models of the past tasks.
        check_tolerance: Share of pairs by which the network may be behind in that comparison.
        same_learner: Jaccard similarity of names above which two spaces count as the same
            learner. At 0.75 (fully connected networks beside the funnel-shaped ones trained on) a
            network can be worse than the past.
        familiar_share: Share of a space's hyperparameters that a network must have seen to be of
            help before the study has trials. With a third of them it began better than
            well-spread trials did (xgboost and glmnet, by a network trained on neither), with
            none of them worse.
        min_shared_names: Fewer names in common than this are no sign of a learner.
    """

    weigh: bool = True
    prior_log_odds: float = 2.0
    past_prior_log_odds: float = 1.0
    most_per_trial: float = 3.0
    negligible: float = 0.002
    min_gp_trust: float = 0.05
    target_only_from: int = 4
    evidence_trials: int = 100
    past_evidence_trials: int = 50
    checked_tasks: int = 6
    check_tolerance: float = 0.03
    same_learner: float = 0.8
    familiar_share: float = 0.33
    min_shared_names: int = 3


@dataclass(frozen=True)
class Effort:
    """How hard to maximise the acquisition function.

    Attributes:
        samples: Sobol points over the whole space, a power of two.
        neighbours: Points around each of the best trials.
        centres: How many of the best trials have such neighbourhoods.
        starts: Points that are improved.
        iterations: Of L-BFGS-B in each turn.
        turns: Of gradient and single-change improvement.
    """

    samples: int = 512
    neighbours: int = 40
    centres: int = 5
    starts: int = 8
    iterations: int = 10
    turns: int = 2


@dataclass(frozen=True)
class SearchSettings:
    """How the acquisition function is maximised, and what is said about the rest of the space.

    Attributes:
        effort: With Gaussian processes.
        network_effort: With a network, whose gradients cost many times those of a Gaussian
            process. Two iterations more gain 0.04 (lcbench) and 0.00 (rpart) in the acquisition
            value for a third more of its time.
        candidates: The past's best configurations at which the acquisition function is always
            evaluated.
        few_levels: A number with more levels than this is climbed as if it were continuous, and
            only then snapped.
        most_cells: Configurations of a discrete space up to which all are ranked, so that none is
            repeated while another is left. A network ranks this many in the time of one
            search; larger spaces are hardly ever used up.
        most_compared: Trials, as they would be with fixed values, among whose predictions the one
            to improve on is sought; those with these values and the best come first.
        most_choices: Choices of a hyperparameter that are tried one by one at each start: those of
            the best trials and candidates, and others at random.
        near: Distance, in ranges over all hyperparameters together, within which a point of a
            network's or of the portfolio's choice says little that a trial did not say.
        least_new: What is left of a point's expected improvement where it repeats a trial.
        jitter: Jitter of later points in a batch, as a fraction of the range.
        spread_candidates: Random configurations of which the farthest from all trials is taken.
        space_filling_min: The fewest well-spread trials of a study without history, before a
            surrogate that is not informed decides; 2 + d // 2 for d hyperparameters.
        space_filling_max: The most of them.
        hopeless_probability: Probability of improvement below which a point is hopeless.
        hopeless_intervals: Equal parts of a numerical range that are called hopeless or not.
        hopeless_samples: The fewest Sobol points in a part, below which nothing is said of it.
    """

    effort: Effort = Effort()
    network_effort: Effort = Effort(samples=256, neighbours=20, starts=4, iterations=3, turns=1)
    candidates: int = 100
    few_levels: int = 32
    most_cells: int = 2000
    most_compared: int = 300
    most_choices: int = 128
    near: float = 0.03
    least_new: float = 1e-4
    jitter: float = 0.005
    spread_candidates: int = 64
    space_filling_min: int = 4
    space_filling_max: int = 8
    hopeless_probability: float = 1e-3
    hopeless_intervals: int = 10
    hopeless_samples: int = 8


@dataclass(frozen=True)
class RefitSettings:
    """When Gaussian processes are fitted anew, always to a study's first trials.

    Attributes:
        always_until: At each trial up to this one.
        growth: Then whenever the study has grown by this factor.
    """

    always_until: int = 10
    growth: float = 1.1


@dataclass(frozen=True)
class ContextSettings:
    """Which of a long study's own trials surrogates are fitted to.

    Attributes:
        most: Trials up to which surrogates are fitted to all.
        latest: Beyond that, the fewest of the latest trials that they are fitted to; as many count
            as evidence for or against a network.
        step: The choice among the earlier trials serves for so many trials.
        kept: Earlier trials that surrogates are fitted to.
        best: How many of these are the best; the others lie farthest from all others.
        kept_choices: Choices that are kept for the next suggestion.
    """

    most: int = 300
    latest: int = 100
    step: int = 50
    kept: int = 200
    best: int = 100
    kept_choices: int = 8


@dataclass(frozen=True)
class PolicySettings:
    """All settings of the policy.

    Attributes:
        portfolio: The first trials of a study with a history.
        audit: Trials that test the history.
        trust: How models are weighed.
        search: How the acquisition function is maximised.
        refit: When models are fitted anew.
        context: Which of a long study's own trials models are fitted to.
        transfer: Whether the surrogate reads past tasks.
        metafeatures: Whether past tasks are weighed by meta-features.
        past_tasks: Past tasks that are modelled: the most relevant ones of a longer history.
        named_tasks: Past tasks that a decision names.
    """

    portfolio: PortfolioSettings = field(default_factory=PortfolioSettings)
    audit: AuditSettings = field(default_factory=AuditSettings)
    trust: TrustSettings = field(default_factory=TrustSettings)
    search: SearchSettings = field(default_factory=SearchSettings)
    refit: RefitSettings = field(default_factory=RefitSettings)
    context: ContextSettings = field(default_factory=ContextSettings)
    transfer: bool = True
    metafeatures: bool = True
    past_tasks: int = 100
    named_tasks: int = 5


DEFAULT_SETTINGS = PolicySettings()
