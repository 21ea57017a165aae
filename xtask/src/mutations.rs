//! The careless changes that `cargo xtask mutate` makes, one at a time, and the tests that must notice each.

/// A careless change.
#[derive(Debug)]
pub(crate) struct Mutation {
    /// What somebody got wrong, in a few words.
    pub(crate) change: &'static str,
    /// Where, by its path from the root.
    pub(crate) file: &'static str,
    /// The text that is there exactly once.
    pub(crate) text: &'static str,
    /// What takes its place.
    pub(crate) replacement: &'static str,
    /// Which tests must notice.
    pub(crate) caught_by: Tests,
}

/// Some tests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Tests {
    /// Those of the binary in `tests/` whose names contain this.
    Serin(&'static str),
    /// The unit tests of a package that needs no AWS crate.
    Package(&'static str),
}

use Tests::{Package, Serin};

const SHIFT: &str = "functions/shift-weight/src/lib.rs";
const CREATE: &str = "functions/create-canary/src/lib.rs";
const CHECK: &str = "functions/health-check/src/lib.rs";
const CLEANUP: &str = "functions/cleanup/src/lib.rs";
const ROLLBACK: &str = "functions/rollback/src/lib.rs";
const MACHINE: &str = "statemachine/canary-deployment.asl.json";
const LEDGER: &str = "crates/serin-aws/src/dynamo_db.rs";
const RULES: &str = "crates/serin-aws/src/alb/rules.rs";
const ROUTES: &str = "crates/serin-aws/src/app_mesh/routes.rs";
const COMPARISON: &str = "crates/serin-judge/src/comparison.rs";
const LIMITS: &str = "crates/serin-judge/src/limits.rs";
const WINDOW: &str = "crates/serin-judge/src/window.rs";

/// Every change, in the order of a deployment's life.
pub(crate) const MUTATIONS: &[Mutation] = &[
    Mutation {
        change: "the lock of a service is taken whoever has it",
        file: LEDGER,
        text: r##""#execution = :me OR (attribute_not_exists(#execution) AND (attribute_not_exists(#waiting) OR #waiting = :me)"##,
        replacement: r#""attribute_exists(#execution) OR (attribute_not_exists(#execution) AND (attribute_not_exists(#waiting) OR #waiting = :me)"#,
        caught_by: Serin("a_second_deployment_"),
    },
    Mutation {
        change: "a repetition registers the canary's task definition a second time",
        file: "crates/serin-aws/src/ecs/definitions.rs",
        text: "        if let Some(own) = self.own_definition(family, &deployment.execution).await? {\n            return Ok(own);\n        }\n",
        replacement: "",
        caught_by: Serin("a_canary_that_is_created_late_or_once_more"),
    },
    Mutation {
        change: "scaling stable in is not suspended",
        file: CREATE,
        text: "        fleet.hold_scale_in(&state.deployment).await?;\n",
        replacement: "",
        caught_by: Serin("simulation::capacity::what_"),
    },
    Mutation {
        change: "creating the canary does not ask the ledger whether the deployment still runs",
        file: CREATE,
        text: "    if ledger.phase(&execution).await? != Some(Phase::Running) {",
        replacement: "    if ledger.phase(&execution).await?.is_none() {",
        caught_by: Serin("a_canary_that_is_created_late_or_once_more"),
    },
    Mutation {
        change: "a crash loop is waited for until the time is over",
        file: CREATE,
        text: "            refuse_a_crash_loop(&tasks, &stopped)?;\n",
        replacement: "            let _ = refuse_a_crash_loop(&tasks, &stopped);\n",
        caught_by: Serin("a_version_that_crashes_is_rolled_back"),
    },
    Mutation {
        change: "the weight rises before the canary has the tasks for it",
        file: SHIFT,
        text: "    if !copies_have_tasks(fleet, router, &state, step.weight_percent, tasks).await? {",
        replacement: "    if !copies_have_tasks(fleet, router, &state, step.weight_percent, tasks).await? && tasks == 0 {",
        caught_by: Serin("no_weight_rises_before"),
    },
    Mutation {
        change: "a late shift does not ask the ledger whether the deployment still runs",
        file: SHIFT,
        text: "    if ledger.phase(&execution).await? != Some(Phase::Running) {",
        replacement: "    if ledger.phase(&execution).await?.is_none() {",
        caught_by: Serin("is_called_after_the_rollback_has_begun"),
    },
    Mutation {
        change: "every shift goes one step further than the plan's next",
        file: SHIFT,
        text: "        (_, step) => step.map_or(0, |step| step + 1),",
        replacement: "        (_, step) => step.map_or(0, |step| step + 2),",
        caught_by: Serin("a_good_version_is_promoted"),
    },
    Mutation {
        change: "a route is written over whatever somebody else has made of it",
        file: ROUTES,
        text: "                Some(live) if live.is(route, &before) => to_write.push((route, live, after)),",
        replacement: "                Some(live) => to_write.push((route, live, after)),",
        caught_by: Serin("somebody"),
    },
    Mutation {
        change: "a route is not read back after it was written",
        file: ROUTES,
        text: "                Some(live) if live.is(route, after) => {\n                    shifted_at",
        replacement: "                Some(live) if live.version > 0 => {\n                    shifted_at",
        caught_by: Serin("somebody_undoes_at_once"),
    },
    Mutation {
        change: "a rule is written over whatever somebody else has made of it",
        file: RULES,
        text: "            let own = live.is_some_and(|live| live.is(rule, before) || live.is(rule, after));",
        replacement: "            let own = live.is_some();",
        caught_by: Serin("somebody"),
    },
    Mutation {
        change: "a rule is not read back after it was written",
        file: RULES,
        text: "            match self.describe_rule(record, rule).await? {\n                Some(live) if live.is(rule, &after) => {}",
        replacement: "            match self.describe_rule(record, rule).await? {\n                Some(_) => {}",
        caught_by: Serin("somebody_undoes_at_once"),
    },
    Mutation {
        change: "a rule's other actions are not sent again",
        file: RULES,
        text: "    let mut actions = actions.to_vec();\n    for action in &mut actions {\n        keep_secret(action);\n        if ",
        replacement: "    let mut actions = actions.to_vec();\n    actions.retain(|action| action.r#type == Some(ActionTypeEnum::Forward));\n    for action in &mut actions {\n        keep_secret(action);\n        if ",
        caught_by: Serin("a_good_version_is_promoted"),
    },
    Mutation {
        change: "other target groups of a rule lose their share",
        file: "crates/serin/src/routing/alb.rs",
        text: "            entry.weight = parts.rest;",
        replacement: "            entry.weight = if parts.canary > 0 { parts.rest } else { parts.rest.min(1) };",
        caught_by: Serin("another_services_target_group"),
    },
    Mutation {
        change: "no data is taken for health",
        file: LIMITS,
        text: "    let (requests, errors) = match counted(canary) {\n        Ok(counts) => counts,\n        Err(silence) => return finding(Outcome::Inconclusive,",
        replacement: "    let (requests, errors) = match counted(canary) {\n        Ok(counts) => counts,\n        Err(silence) => return finding(Outcome::Healthy,",
        caught_by: Serin("a_bad_canary_without_metric_data"),
    },
    Mutation {
        change: "minRequests is ignored",
        file: LIMITS,
        text: "    if requests < min_requests && !beyond(requests, errors) {",
        replacement: "    if requests < 1 && !beyond(requests, errors) {",
        caught_by: Package("serin-judge"),
    },
    Mutation {
        change: "a check with nothing to look at is healthy",
        file: LIMITS,
        text: "        .unwrap_or(Outcome::Inconclusive);\n    let deciding",
        replacement: "        .unwrap_or(Outcome::Healthy);\n    let deciding",
        caught_by: Package("serin-judge"),
    },
    Mutation {
        change: "the window begins before the shift has settled",
        file: WINDOW,
        text: "self.shifted_at.as_second() + i64::from(checks.settle_seconds);",
        replacement: "self.shifted_at.as_second() + 0 * i64::from(checks.settle_seconds);",
        caught_by: Package("serin-judge"),
    },
    Mutation {
        change: "a step ends with the first healthy check and not when its whole hold was measured",
        file: CHECK,
        text: "        Outcome::Healthy if covers_hold => onward,",
        replacement: "        Outcome::Healthy => onward,",
        caught_by: Serin("fall_silent_in_the_last_hold"),
    },
    Mutation {
        change: "when the hold is over, silence is enough to go on",
        file: CHECK,
        text: "            OnTooLittleData::Wait => Next::Wait,",
        replacement: "            OnTooLittleData::Wait => onward,",
        caught_by: Serin("a_bad_canary_without_metric_data"),
    },
    Mutation {
        change: "dead tasks are no reason to roll back",
        file: CHECK,
        text: "    let mut findings = vec![judge_tasks(canary, &stopped)];",
        replacement: "    let _ = judge_tasks(canary, &stopped);\n    let mut findings = Vec::new();",
        caught_by: Serin("whose_tasks_have_died"),
    },
    Mutation {
        change: "alarms are not looked at",
        file: CHECK,
        text: "    if !checks.alarms.is_empty() {",
        replacement: "    if checks.alarms.len() > 1000 {",
        caught_by: Serin("an_alarm_that_goes_off"),
    },
    Mutation {
        change: "an unhealthy verdict calls for a person and not for the rollback",
        file: MACHINE,
        text: "{ \"Variable\": \"$.next\", \"StringEquals\": \"rollBack\", \"Next\": \"Roll back to stable\" }",
        replacement: "{ \"Variable\": \"$.next\", \"StringEquals\": \"rollBack\", \"Next\": \"Needs attention\" }",
        caught_by: Serin("the_path_of_a_bad_version"),
    },
    Mutation {
        change: "stable is updated without a last look at the routes",
        file: CLEANUP,
        text: "            self.router\n                .verify(deployment, state.progress.weight_percent)\n                .await?;\n        }\n        let tasks =",
        replacement: "        }\n        let tasks =",
        caught_by: Serin("right_before_the_promotion"),
    },
    Mutation {
        change: "stable gets the traffic back before it runs the new version",
        file: CLEANUP,
        text: "        if !tasks.is_steady()\n            ||",
        replacement: "        if tasks.running_new == 0 && !tasks.is_steady()\n            &&",
        caught_by: Serin("simulation::capacity::"),
    },
    Mutation {
        change: "the canary is removed before it has drained, after a promotion",
        file: CLEANUP,
        text: "        let drained_at = settled_at.as_second() + i64::from(deployment.drain_seconds());",
        replacement: "        let drained_at = settled_at.as_second();",
        caught_by: Serin("what_has_lost_its_traffic_drains_first"),
    },
    Mutation {
        change: "scaling in stays suspended after a promotion",
        file: CLEANUP,
        text: "        self.fleet.release_scale_in(deployment).await?;\n",
        replacement: "",
        caught_by: Serin("simulation::capacity::what_"),
    },
    Mutation {
        change: "the rollback removes the canary first and moves the traffic then",
        file: ROLLBACK,
        text: "            None => self.give_traffic_back(state).await,",
        replacement: "            None if !matches!(self.fleet.remove_service(&state.deployment, Side::Canary).await?, Removal::Gone) => Ok(state.again_in(3)),\n            None => self.give_traffic_back(state).await,",
        caught_by: Serin("a_bad_version_is_rolled_back_and_leaves_no_trace"),
    },
    Mutation {
        change: "the rollback does not tell the ledger that it has begun",
        file: ROLLBACK,
        text: "        self.enter(&state, Phase::RollingBack).await?;\n",
        replacement: "",
        caught_by: Serin("is_called_after_the_rollback_has_begun"),
    },
    Mutation {
        change: "the canary is removed before it has drained, in a rollback",
        file: ROLLBACK,
        text: "        let drained_at = since.as_second() + i64::from(deployment.quiet_seconds());",
        replacement: "        let drained_at = since.as_second();",
        caught_by: Serin("what_has_lost_its_traffic_drains_first"),
    },
    Mutation {
        change: "a side that got traffic again meanwhile is removed all the same",
        file: ROLLBACK,
        text: "        if settled.wrote {\n            let state = self.settled",
        replacement: "        if settled.wrote && state.deployment.id.as_str().is_empty() {\n            let state = self.settled",
        caught_by: Serin("that_lands_after_the_rollback"),
    },
    Mutation {
        change: "the rollback closes the deployment without looking for traces",
        file: ROLLBACK,
        text: "        if !left.is_empty() {\n            return self.needs_attention(state, why, left).await;",
        replacement: "        if left.len() > 1000 {\n            return self.needs_attention(state, why, left).await;",
        caught_by: Serin("a_canary_that_never_goes"),
    },
    Mutation {
        change: "scaling in stays suspended after a rollback",
        file: ROLLBACK,
        text: "        self.fleet.release_scale_in(deployment).await?;\n        let left",
        replacement: "        let left",
        caught_by: Serin("simulation::capacity::what_"),
    },
    Mutation {
        change: "the rollback ignores that the new version already is the stable one",
        file: ROLLBACK,
        text: "        Phase::CleaningUp => step.finish_cleaning_up(state.clone()).await,",
        replacement: "        Phase::CleaningUp => step.put_everything_back(state.clone()).await,",
        caught_by: Serin("simulation::seeds::found::a_clean_up_that_dies"),
    },
    Mutation {
        change: "a stable that was half updated gets the traffic back",
        file: ROLLBACK,
        text: "                if tasks.task_definition == deployment.stable.task_definition =>",
        replacement: "                if tasks.is_steady() || tasks.task_definition == deployment.stable.task_definition =>",
        caught_by: Serin("simulation::promotion::a_promotion_that_somebody"),
    },
    Mutation {
        change: "stable gets the traffic back although none of its tasks can serve and the canary's can",
        file: ROLLBACK,
        text: "        if !carries_traffic || !self.only_the_canary_serves(&state.deployment).await {",
        replacement: "        if !carries_traffic || self.now > state.deployment.started_at {",
        caught_by: Serin("a_stable_whose_tasks_have_just_died"),
    },
    Mutation {
        change: "a rollback that may not look at stable's tasks leaves the traffic where it is",
        file: ROLLBACK,
        text: "        !stable.unwrap_or(true)",
        replacement: "        !stable.unwrap_or(false)",
        caught_by: Serin("not_being_allowed_to_look_at_stable"),
    },
    Mutation {
        change: "one refusal is enough to give up",
        file: "crates/serin/src/deployment.rs",
        text: "        const LONGEST: i64 = 300;",
        replacement: "        const LONGEST: i64 = 0;",
        caught_by: Serin("a_rollback_whose_first_write_fails"),
    },
    Mutation {
        change: "a recovery does not ask whether the execution runs",
        file: ROLLBACK,
        text: "    if status == ExecutionStatus::Running {",
        replacement: "    if status == ExecutionStatus::Forgotten {",
        caught_by: Serin("runs_again_is_not_recovered"),
    },
    Mutation {
        change: "the sweep recovers what a person has been told of, again and again",
        file: "functions/sweep/src/lib.rs",
        text: "        (_, Some(_)) => Ok(Found::Nothing),\n        (_, None) => {",
        replacement: "        (_, _) => {",
        caught_by: Serin("and_the_sweep_does_not_nag"),
    },
    Mutation {
        change: "a deployment that needs a person gives its lock back",
        file: LEDGER,
        text: "        // Without an open record there is nobody whom the list could help.\n        self.make(update).await.map(drop)",
        replacement: "        self.make(update).await.map(drop)?;\n        self.unlock(&deployment.service, &deployment.execution).await",
        caught_by: Serin("on_top_of_leftovers"),
    },
    Mutation {
        change: "a frozen deployment that nobody decides about goes on",
        file: "functions/shift-weight/src/lib.rs",
        text: "    if state.question.is_some() && state.decision.is_none() {",
        replacement: "    if state.question.is_some() && state.decision.is_none() && state.unanswered.is_some() {",
        caught_by: Serin("while_nobody_has_answered"),
    },
    Mutation {
        change: "the last step beside stable does not wait until enough has been seen",
        file: COMPARISON,
        text: "        Asked::Enough => evidence.seen >= 1.0 && minutes.last().is_some_and(is_known),",
        replacement: "        Asked::Enough => true,",
        caught_by: Serin("a_quiet_service_extends_the_last_step"),
    },
    Mutation {
        change: "no data since the step began count as nothing bad",
        file: COMPARISON,
        text: "            minutes.iter().skip(place).any(is_known)",
        replacement: "            let _ = place;\n            true",
        caught_by: Serin("a_canary_without_traffic_is_never_promoted"),
    },
    Mutation {
        change: "the comparison goes on when stable has no traffic any more",
        file: COMPARISON,
        text: "        newest.min(until.as_second())",
        replacement: "        newest.max(until.as_second())",
        caught_by: Serin("compared_up_to_the_last_minute"),
    },
    Mutation {
        change: "a limit that stable exceeds as well rolls the canary back",
        file: LIMITS,
        text: "match calm.filter(|_| shared && beyond(requests, errors)) {",
        replacement: "match calm.filter(|_| !shared && beyond(requests, errors)) {",
        caught_by: Serin("an_outage_that_both_share"),
    },
    Mutation {
        change: "a canary that a person resumed is judged by what it did before",
        file: "crates/serin/src/progress.rs",
        text: "        if began_anew {",
        replacement: "        if began_anew && self.compared_since.is_none() {",
        caught_by: Serin("a_canary_that_a_person_resumed"),
    },
    Mutation {
        change: "stable's metrics are taken for the canary's",
        file: "crates/serin-aws/src/cloud_watch/mod.rs",
        text: "        let mut counts = own.ask_counts(",
        replacement: "        let mut counts = stable.as_ref().unwrap_or(&own).ask_counts(",
        caught_by: Serin("a_canary_with_three_times_stables_errors"),
    },
    Mutation {
        change: "the canary is compared with stable although it has a baseline",
        file: COMPARISON,
        text: "            stable: if self.judge.baseline && served {",
        replacement: "            stable: if self.judge.baseline && !served {",
        caught_by: Serin("simulation::baseline"),
    },
    Mutation {
        change: "the baseline stays when the canary goes",
        file: "crates/serin/src/deployment.rs",
        text: "            .chain(baseline)\n            .collect()",
        replacement: "            .chain(baseline.filter(|_| false))\n            .collect()",
        caught_by: Serin("simulation::baseline"),
    },
    Mutation {
        change: "fast requests are taken for slow ones",
        file: "crates/serin-aws/src/cloud_watch/alb.rs",
        text: "        ResponseTimes::Above(ms) => format!(\"TC({}:)\", in_seconds(ms)),",
        replacement: "        ResponseTimes::Above(ms) => format!(\"TC(:{})\", in_seconds(ms)),",
        caught_by: Serin("a_canary_that_takes_twice_as_long"),
    },
    Mutation {
        change: "the last step waits for latency that is silent",
        file: COMPARISON,
        text: "            (Outcome::Healthy, sentence)\n",
        replacement: "            (Outcome::Inconclusive, sentence)\n",
        caught_by: Serin("latency_that_falls_silent"),
    },
    Mutation {
        change: "a marginal score of Kayenta's is let through",
        file: "crates/serin-judge/src/kayenta/deployed.rs",
        text: "    let outcome = if ends_early(score, Some(marginal)) || (is_last && score < pass) {",
        replacement: "    let outcome = if is_last && score < pass {",
        caught_by: Serin("kayentas_judge_rolls_back"),
    },
    Mutation {
        change: "throttled calls are not tried again",
        file: "crates/serin-aws/src/error.rs",
        text: "        |call, message| PortError::Throttled { call, message }\n    } else if",
        replacement: "        |call, message| PortError::Refused { call, message }\n    } else if",
        caught_by: Serin("throttling_that_passes"),
    },
    Mutation {
        change: "the end gives the lock back before it is recorded, and without asking whose it is",
        file: LEDGER,
        text: "        self.make(update).await.map(drop)\n    }\n\n    async fn held",
        replacement: "        drop(update);\n        Ok(())\n    }\n\n    async fn held",
        caught_by: Serin("a_good_version_is_promoted"),
    },
    Mutation {
        change: "the example agent publishes one dimension less than is asked for",
        file: "examples/appmesh-metrics/template.yaml",
        text: r#"["ClusterName", "TaskDefinitionFamily", "envoy_http_conn_manager_prefix", "envoy_response_code_class"]"#,
        replacement: r#"["ClusterName", "TaskDefinitionFamily", "envoy_response_code_class"]"#,
        caught_by: Serin("contracts::examples"),
    },
    Mutation {
        change: "the example rule starts a deployment for every manifest that is pushed",
        file: "examples/on-push/template.yaml",
        text: "          image-tag: [{wildcard: !Ref Tag}]\n",
        replacement: "",
        caught_by: Serin("contracts::examples"),
    },
    Mutation {
        change: "the example pipeline starts a deployment while another one runs",
        file: "examples/pipeline/template.yaml",
        text: "      ExecutionMode: SUPERSEDED\n",
        replacement: "      ExecutionMode: PARALLEL\n",
        caught_by: Serin("contracts::examples"),
    },
];
