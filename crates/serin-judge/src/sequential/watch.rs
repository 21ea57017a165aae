//! One metric's comparison, minute by minute.

use super::counts::{Minute, Pair, Tally, Totals, number};
use super::exposure::{Detect, Usual, expected, least_seen, looked_for, needed, stable_rate};
use super::guard::{ALSO_WORSE, Guard, stays_below};
use super::ratio::log_add;
use super::robust::Process;
use super::settings::{LIMIT, Settings, Tests};

/// Minutes whose logarithmic split of the traffic differs by less than this are of one worth.
const SAME_SPLIT: f64 = 0.5;

/// What minutes with about the same split of the traffic are worth.
#[derive(Debug, Clone, Copy)]
struct Worth {
    split: f64,
    canary: f64,
    stable: f64,
}

/// The logarithm of the e-value at which a ratio is refuted: 20.
const REFUTED: f64 = 2.995_732_273_553_991;

/// What a minute's errors say against a ratio, and for 1: the logarithm of their likelihoods' quotient. It is an e-value for
/// every ratio that is larger too, because their quotient is monotone.
fn refuting(pair: &Pair, ratio: f64) -> f64 {
    let both = (ratio * pair.canary + pair.stable) / (pair.canary + pair.stable);
    pair.errors() * both.ln() - pair.canary_errors * ratio.ln()
}

/// What to do after a minute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// Not enough is known: go on, up to the deadline.
    Continue,
    /// The canary is worse; stays so.
    RollBack,
    /// The regression to be detected would have been seen, and was not.
    Enough,
}

impl std::fmt::Display for Decision {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Continue => "continue",
            Self::RollBack => "rollBack",
            Self::Enough => "enough",
        })
    }
}

/// One metric while its minutes come in.
#[derive(Debug, Clone)]
pub(super) struct Watch<'a> {
    settings: &'a Settings,
    robust: Process<'a>,
    disaster: Process<'a>,
    log_shares: (f64, f64),
    guard: Option<Guard>,
    /// The logarithm of the e-value that would roll back by itself, and that which the limit takes.
    enough: f64,
    enough_for_limit: f64,
    /// The expected evidence after which the regression would have been seen.
    needed: f64,
    /// The least ratio that can be looked for.
    least: f64,
    /// Minutes until the warm-up is over.
    warming: u32,
    pub(super) totals: Totals,
    /// Stable's usual rate.
    usual: Usual,
    /// Requests of both sides after the warm-up, each minute's divided by its tempering; minutes with about the same split of the
    /// traffic together. Of different splits the sum would be worth more than its parts.
    worth: Vec<Worth>,
    /// Logarithm of the e-value against the least ratio that can be looked for, of a canary that is like stable.
    against_least: f64,
    pub(super) log_e: f64,
    pub(super) over_limit: bool,
    /// By what each minute's evidence was divided; `None` for a minute without data or in the warm-up.
    pub(super) temperings: Vec<Option<f64>>,
    has_data: bool,
}

impl<'a> Watch<'a> {
    pub(super) fn new(settings: &'a Settings, tests: &'a Tests, weight: f64) -> Self {
        let alpha = settings.false_alarm * weight;
        Self {
            settings,
            robust: Process::new(&tests.robust),
            disaster: Process::new(&tests.disaster),
            log_shares: tests.log_shares,
            guard: settings.limit.map(Guard::new),
            enough: -alpha.ln(),
            enough_for_limit: -(alpha * LIMIT).ln(),
            needed: needed(alpha),
            least: least_seen(settings.margin),
            warming: settings.warm_up,
            totals: Totals::default(),
            usual: Usual::default(),
            worth: Vec::new(),
            against_least: 0.0,
            log_e: 0.0,
            over_limit: false,
            temperings: Vec::new(),
            has_data: false,
        }
    }

    /// New tasks start with the next minute.
    pub(super) fn tasks_start(&mut self) {
        self.warming = self.settings.warm_up;
    }

    /// Takes the next minute in; gives the logarithm of the metric's e-value.
    pub(super) fn add(&mut self, minute: &Minute) -> f64 {
        let pair = minute.pair();
        let warm = self.warming == 0;
        self.warming = self.warming.saturating_sub(1);
        self.has_data = pair.is_some();
        if let Some(pair) = &pair {
            self.totals.add(minute);
            self.usual.add(pair);
            if warm {
                let tempering = self.robust.tempering(pair);
                self.add_worth(pair, tempering);
                self.against_least += refuting(pair, self.least) / tempering;
                self.temperings.push(Some(tempering));
            } else {
                self.temperings.push(None);
            }
        } else {
            self.temperings.push(None);
        }
        // Of the minutes before, as the comparison's own.
        let variance = self.robust.variance();
        let robust = self.robust.add(pair.as_ref(), warm);
        let disaster = self.disaster.add(pair.as_ref(), true);
        self.log_e = log_add(robust + self.log_shares.0, disaster + self.log_shares.1);
        if let Some(guard) = &mut self.guard
            && let Some(pair) = pair.as_ref().filter(|_| warm)
        {
            guard.add(pair, variance);
        }
        self.log_e
    }

    fn add_worth(&mut self, pair: &Pair, tempering: f64) {
        let split = ((pair.canary / pair.stable).ln() / SAME_SPLIT).round();
        let (canary, stable) = (pair.canary / tempering, pair.stable / tempering);
        // Neighbours mostly have the same split.
        let same = |worth: &&mut Worth| (worth.split - split).abs() < 0.5;
        match self.worth.iter_mut().rev().find(same) {
            Some(worth) => {
                worth.canary += canary;
                worth.stable += stable;
            }
            None => self.worth.push(Worth {
                split,
                canary,
                stable,
            }),
        }
    }

    /// Whether the canary's counts refute the regression that is looked for: then what looks like evidence for it was chance.
    pub(super) fn is_cleared(&self) -> bool {
        let settings = self.settings;
        let bad = looked_for(settings.detect, stable_rate(&self.totals), settings.margin);
        let Tally { requests, errors } = self.totals.canary;
        stays_below(number(requests), number(errors), bad)
    }

    /// Whether the limit is exceeded, at this metric's share of the false alarms.
    pub(super) fn beyond_limit(&mut self) -> bool {
        let worse = self.log_e >= self.enough * ALSO_WORSE;
        let guard = self.guard.as_ref();
        self.over_limit |= guard.is_some_and(|guard| guard.beyond(self.enough_for_limit, worse));
        self.over_limit
    }

    /// The share of the evidence that is needed to have seen `detect`, or to refute even the least that could be looked for;
    /// 1 is enough.
    pub(super) fn seen(&self) -> f64 {
        let refuted = self.against_least / REFUTED;
        if refuted >= 1.0 {
            return refuted;
        }
        let rate = self.usual_rate(self.settings.detect);
        let settings = self.settings;
        let expected = |worth: &Worth| {
            let Worth { canary, stable, .. } = *worth;
            expected(canary, stable, rate, settings.detect, settings.margin)
        };
        let sum: f64 = self.worth.iter().map(expected).sum();
        (sum / self.needed).max(refuted)
    }

    /// The rate of stable, off zero, at which the regression must be seen. So many points more are to be seen at the rate of most of
    /// its requests. So many times as much shows in an outage of both sides as well, whose errors count like any others.
    pub(super) fn usual_rate(&self, detect: Detect) -> f64 {
        if let Detect::Ratio(_) = detect {
            return stable_rate(&self.totals);
        }
        let least = 0.5 / number(self.totals.stable.requests).max(1.0);
        self.usual.rate().max(least).min(1.0)
    }

    /// The minute from which on the evidence is strongest, and the weight of that start.
    pub(super) fn strongest(&self) -> (usize, f64) {
        let (robust, disaster) = (self.robust.strongest(), self.disaster.strongest());
        let (minute, _, weight) = if robust.1 + self.log_shares.0 >= disaster.1 + self.log_shares.1
        {
            robust
        } else {
            disaster
        };
        (minute, weight)
    }

    /// Whether the newest minute has data on both sides. Without it nothing passes: silence is never health.
    pub(super) fn has_data(&self) -> bool {
        self.has_data
    }
}
