//! What must hold before a deployment may begin. Each refusal says what was found and what would be accepted.

use jiff::{SignedDuration, Timestamp};
use serin::ports::{
    AlarmState, Fleet, HealthSignals, Measured, Reading, RequestCounts, ServiceDescription, Times,
    TrafficRouter,
};
use serin::request::{Faults, FinishMode, Judge, Kayenta};
use serin::verdict::Window;
use serin::{Deployment, RouterRecord, ServiceKey};
use serin_judge::kayenta::CanaryConfig;
use serin_judge::sequential::refutes;
use serin_judge::{Forecast, forecast, planned_seconds};

use crate::{PlanDeploymentError, Planner};

/// The largest resolved deployment, in bytes of JSON.
const LARGEST_DEPLOYMENT: usize = 65_536;
/// What is said of a stable that nobody uses.
const IDLE: &str = "Stable has had no requests lately; without any, checks are inconclusive.";
/// Over how many of the metrics' periods stable's own data is looked for.
const PERIODS_LOOKED_BACK: i64 = 10;

/// Refuses a deployment that would not leave the steps enough of the 256 KiB that an execution's state may have.
pub(crate) fn refuse_too_large(deployment: &Deployment) -> Result<(), PlanDeploymentError> {
    let bytes = serde_json::to_string(deployment).map_or(usize::MAX, |text| text.len());
    if bytes <= LARGEST_DEPLOYMENT {
        return Ok(());
    }
    Err(PlanDeploymentError::InvalidRequest(format!(
        "the resolved deployment has {bytes} bytes, at most {LARGEST_DEPLOYMENT} are allowed; name fewer queries, alarms or routes"
    )))
}

/// Refuses a service that a canary cannot stand beside.
pub(crate) fn refuse_unsupported(
    service: &ServiceDescription,
    key: &ServiceKey,
) -> Result<(), PlanDeploymentError> {
    let name = &service.service;
    let why = if service.status != "ACTIVE" {
        return Err(PlanDeploymentError::ServiceNotFound(format!(
            "service {name} is {}, not ACTIVE",
            service.status
        )));
    } else if service.controller != "ECS" {
        format!(
            "service {name} has the deployment controller {}; only ECS is supported",
            service.controller
        )
    } else if service.scheduling != "REPLICA" {
        format!(
            "service {name} is scheduled as {}, which has no number of tasks; only REPLICA is supported",
            service.scheduling
        )
    } else if service.managed_by_ecs {
        format!(
            "service {name} is managed by ECS itself (Express), which does not let others change it"
        )
    } else if service.strategy != "ROLLING" {
        format!(
            "ECS itself deploys service {name} with the strategy {}; two deployments would shift the same traffic; only ROLLING is supported",
            service.strategy
        )
    } else if let Some(known_as) = service
        .created_for
        .as_ref()
        .filter(|known_as| **known_as != key.to_string())
    {
        format!(
            "service {name} was created by Serin for {known_as}; deploy it by that name, which has the lock"
        )
    } else {
        return Ok(());
    };
    Err(PlanDeploymentError::ServiceNotSupported(why))
}

/// Refuses to put the canary in the place of a service that has more than the canary gets.
pub(crate) fn refuse_replacing(
    service: &ServiceDescription,
    router: &RouterRecord,
    finish: FinishMode,
) -> Result<(), PlanDeploymentError> {
    let name = &service.service;
    if finish == FinishMode::Promote {
        return Ok(());
    }
    let why = match router.other_ways_in(service).first() {
        Some(way) => format!(
            "finish.mode: replace would take away what reaches service {name} through {way}, which the canary does not have; use promote"
        ),
        None if service.scaling.is_some() => format!(
            "finish.mode: replace would take away the auto scaling of service {name}, which the canary does not have; use promote"
        ),
        None => return Ok(()),
    };
    Err(PlanDeploymentError::ServiceNotSupported(why))
}

/// Refuses a stable that is not whole: what it would roll back to would not carry the traffic.
pub(crate) fn refuse_unsteady(service: &ServiceDescription) -> Result<(), PlanDeploymentError> {
    let name = &service.service;
    let why = if service.desired_count == 0 {
        format!(
            "service {name} has a desired count of 0: there is no stable version to deploy beside"
        )
    } else if service.deployments > 1 {
        format!(
            "service {name} has {} ECS deployments in progress; wait until it is steady",
            service.deployments
        )
    } else if service.running_count < service.desired_count {
        format!(
            "service {name} runs {} of {} tasks; wait until it is steady",
            service.running_count, service.desired_count
        )
    } else {
        return Ok(());
    };
    Err(PlanDeploymentError::ServiceNotSteady(why))
}

impl<F: Fleet, R: TrafficRouter, S: HealthSignals> Planner<'_, F, R, S> {
    /// Everything that can be known to go wrong before anything is created.
    pub(crate) async fn preflight(
        &self,
        mut deployment: Deployment,
    ) -> Result<Deployment, PlanDeploymentError> {
        for split in deployment.splits() {
            if let Some(why) = deployment.router.cannot_express(split) {
                return Err(PlanDeploymentError::WeightNotExpressible(why));
            }
        }
        if deployment.baseline.is_some()
            && let Some(why) = deployment.router.refuses_baseline()
        {
            let why = format!("checks.judge.baseline: {why}");
            return Err(PlanDeploymentError::ServiceNotSupported(why));
        }
        refuse_what_is_not_measured(&deployment)?;
        let quiet = self.alarms(&deployment).await?;
        deployment.notes.extend(quiet);
        let (slow_thresholds, told) = self.slow_thresholds(&deployment).await?;
        deployment.slow_thresholds = slow_thresholds;
        deployment.notes.extend(told);
        let (told, exceeds_limit) = self.metrics(&deployment).await?;
        deployment.notes.extend(told);
        deployment.stable_exceeds_limit = exceeds_limit;
        Ok(deployment)
    }

    /// An alarm in ALARM would stop the deployment at its first check; ECS ignores such alarms in silence.
    async fn alarms(&self, deployment: &Deployment) -> Result<Vec<String>, PlanDeploymentError> {
        let names = &deployment.checks.alarms;
        if names.is_empty() {
            return Ok(Vec::new());
        }
        let mut notes = Vec::new();
        for alarm in self.signals.alarms(names).await? {
            match alarm.state {
                AlarmState::Ok => {}
                AlarmState::InsufficientData => notes.push(format!(
                    "Alarm {} has no data yet; until it has, checks are inconclusive.",
                    alarm.name
                )),
                AlarmState::Missing => {
                    return Err(PlanDeploymentError::AlarmNotFound(format!(
                        "checks.alarms: there is no alarm {}",
                        alarm.name
                    )));
                }
                AlarmState::Alarm => {
                    return Err(PlanDeploymentError::AlarmAlreadyFiring(format!(
                        "checks.alarms: {} is in ALARM before the deployment has begun: {}",
                        alarm.name, alarm.reason
                    )));
                }
            }
        }
        Ok(notes)
    }

    /// CloudWatch answers a query with one dimension too many with silence. What is silent about stable will be silent about
    /// the canary, so stable must answer. Gives what there is to tell, and whether stable itself is above the limit.
    async fn metrics(
        &self,
        deployment: &Deployment,
    ) -> Result<(Vec<String>, bool), PlanDeploymentError> {
        let checks = &deployment.checks;
        if !deployment.is_measured() {
            return Ok((Vec::new(), false));
        }
        let window = recent(
            self.now,
            i64::from(checks.period_seconds),
            i64::from(checks.data_delay()),
        );
        let measured = self
            .signals
            .measure(deployment, None, Times::only(window))
            .await?;
        let counts = measured
            .requests
            .iter()
            .flat_map(|counts| [&counts.requests, &counts.errors]);
        let counts: Vec<_> = counts.chain(&measured.latency).collect();
        let no_requests = |counts: &RequestCounts| counts.requests.reading == Reading::NoData;
        let unused = deployment.router.is_silent_when_idle()
            && measured.requests.as_ref().is_some_and(no_requests);
        let spoken = counts.into_iter().filter(|_| !unused);
        let mut all = spoken
            .chain(&measured.unhealthy_targets)
            .chain(&measured.queries);
        if let Some(silent) = all.find_map(silence) {
            return Err(PlanDeploymentError::MetricsNotFound(format!(
                "stable's own metrics do not answer, so the canary's would not either: {silent} (from {} to {})",
                window.start, window.end
            )));
        }
        let idle = measured.requests.as_ref().is_some_and(|counts| matches!(counts.requests.reading, Reading::Value { value, .. } if value <= 0.0));
        let mut notes = Vec::new();
        if idle || unused {
            notes.push(IDLE.into());
        }
        let (requests, errors) = counted(measured.requests.as_ref());
        notes.extend(foretold(deployment, requests, errors, window));
        let exceeds_limit = checks
            .error_rate_percent
            .filter(|limit| is_above(requests, errors, limit.max));
        notes.extend(exceeds_limit.map(|limit| {
            format!(
                "Stable itself is above checks.errorRatePercent: {errors} of its {requests} latest requests failed, the limit is {} percent. A canary that is like it will be rolled back.",
                limit.max
            )
        }));
        Ok((notes, exceeds_limit.is_some()))
    }
}

fn is_above(requests: f64, errors: f64, limit_percent: f64) -> bool {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "counts of requests"
    )]
    let (requests, errors) = (requests as u64, errors as u64);
    refutes(requests, errors, limit_percent / 100.0)
}

/// Stable's requests and errors; zero where nothing is known.
fn counted(counts: Option<&RequestCounts>) -> (f64, f64) {
    let value = |measured: &Measured| match measured.reading {
        Reading::Value { value, .. } => value,
        Reading::NoData | Reading::Incomplete(_) => 0.0,
    };
    counts.map_or((0.0, 0.0), |counts| {
        (value(&counts.requests), value(&counts.errors))
    })
}

/// What the comparison will take, at the traffic that stable has now.
fn foretold(deployment: &Deployment, requests: f64, errors: f64, window: Window) -> Option<String> {
    let (plan, checks) = (&deployment.plan, &deployment.checks);
    let judge = checks
        .judge
        .as_ref()
        .filter(|judge| judge.compares_errors())?;
    if planned_seconds(plan, checks) == 0 {
        return Some(
            "No step of the plan leaves stable any traffic, so nothing is compared.".into(),
        );
    }
    let per_minute =
        requests * 60.0 / f64::from(u32::try_from(window.seconds()).unwrap_or(u32::MAX));
    let error_rate = errors / requests.max(1.0);
    let slow = deployment.slow_thresholds.len();
    let forecast = forecast(checks, judge, plan, per_minute, error_rate, slow);
    let Some(Forecast {
        canary_requests,
        minutes,
        planned_minutes,
    }) = forecast
    else {
        return Some("At the traffic that stable has now the comparison would take more than a week; checks.judge.detect says what it must be able to see, checks.onTooLittleData what happens without.".into());
    };
    let deadline = deployment.deadline_at.as_second() - deployment.started_at.as_second();
    let deadline_minutes = f64::from(u32::try_from(deadline).unwrap_or(u32::MAX)) / 60.0;
    let so = if minutes >= deadline_minutes {
        format!(
            "deadlineSeconds ends the deployment after {deadline_minutes:.0}, so it will be rolled back unless there is more traffic; checks.judge.detect can ask for less"
        )
    } else if minutes > planned_minutes {
        format!(
            "the plan's steps beside stable take {planned_minutes:.0}, so the last of them is extended"
        )
    } else {
        format!("the plan's steps beside stable take {planned_minutes:.0}")
    };
    Some(format!(
        "At the {per_minute:.0} requests a minute that stable has now, the comparison has seen enough after about {canary_requests:.0} requests of the canary, in about {minutes:.0} minutes; {so}."
    ))
}

/// Refuses limits on what this router does not measure, and queries with names that it does not have.
fn refuse_what_is_not_measured(deployment: &Deployment) -> Result<(), PlanDeploymentError> {
    let (checks, router) = (&deployment.checks, &deployment.router);
    let latency = router
        .no_latency_because()
        .filter(|_| !checks.latency_ms.is_empty())
        .map(|why| format!("checks.latencyMs: {why}"));
    let requests = router
        .no_requests_because()
        .filter(|_| checks.error_rate_percent.is_some())
        .map(|why| format!("checks.errorRatePercent: {why}"));
    let judge = router
        .no_requests_because()
        .filter(|_| checks.error_rate_percent.is_none())
        .filter(|_| checks.judge.as_ref().is_some_and(Judge::compares_errors))
        .map(|why| format!("checks.judge: {why}"));
    let kayenta = checks
        .judge
        .as_ref()
        .and_then(|judge| judge.kayenta.as_ref());
    let mut kayenta_faults = Faults::default();
    if let Some(kayenta) = kayenta {
        CanaryConfig::read(
            &mut kayenta_faults,
            "checks.judge.kayenta.config",
            &kayenta.config,
        );
    }
    let kayenta_queries = kayenta.map(Kayenta::queries).unwrap_or_default();
    let queries = checks.queries.iter().chain(&kayenta_queries);
    let placeholder = queries.into_iter().find_map(|query| {
        let unknown = query.placeholder_that_is_not(router.placeholders())?;
        Some(format!(
            "checks.queries: {{{{{unknown}}}}} in query {:?} has no meaning for this service's router; {} are allowed, in double braces",
            query.name,
            router.placeholders().join(", ")
        ))
    });
    let kayenta = (!kayenta_faults.0.is_empty()).then(|| kayenta_faults.to_string());
    let faults: Vec<_> = [latency, requests, judge, placeholder, kayenta]
        .into_iter()
        .flatten()
        .collect();
    if faults.is_empty() {
        return Ok(());
    }
    Err(PlanDeploymentError::InvalidRequest(faults.join("; ")))
}

/// Why a measurement is no answer; `None` if it is one.
pub(crate) fn silence(measured: &Measured) -> Option<String> {
    match &measured.reading {
        Reading::Value { .. } => None,
        Reading::NoData => Some(format!("no data for {}", measured.query)),
        Reading::Incomplete(status) => Some(format!(
            "the data for {} is not whole: {status}",
            measured.query
        )),
    }
}

pub(crate) fn recent(now: Timestamp, period: i64, delay: i64) -> Window {
    let end = (now.as_second() - delay).div_euclid(period) * period;
    let end = Timestamp::from_second(end).unwrap_or(now);
    Window {
        start: end - SignedDuration::from_secs(period * PERIODS_LOOKED_BACK),
        end,
    }
}

#[cfg(test)]
mod tests {
    use serin::{ClusterName, ServiceName, TaskDefinitionArn};

    use super::*;

    fn service() -> ServiceDescription {
        ServiceDescription {
            service: ServiceName::new("checkout-canary-1a2b3c4d"),
            arn: String::new(),
            status: "ACTIVE".into(),
            controller: "ECS".into(),
            strategy: "ROLLING".into(),
            scheduling: "REPLICA".into(),
            managed_by_ecs: false,
            desired_count: 2,
            running_count: 2,
            deployments: 1,
            task_definition: TaskDefinitionArn::new("checkout:1"),
            registries: vec![],
            service_connect_server: false,
            created_for: Some("prod/checkout".into()),
            target_groups: vec![],
            classic_load_balancers: 0,
            scaling: None,
        }
    }

    fn refusal(service: &ServiceDescription, name: &str) -> Option<String> {
        let key = ServiceKey {
            cluster: ClusterName::new("prod"),
            service: ServiceName::new(name),
        };
        refuse_unsupported(service, &key)
            .err()
            .map(|error| error.to_string())
    }

    #[test]
    fn a_service_that_serin_made_is_deployed_only_by_the_name_that_has_its_lock() {
        assert_eq!(refusal(&service(), "checkout"), None);
        let sentence = refusal(&service(), "checkout-canary-1a2b3c4d").unwrap();
        assert!(
            sentence.contains("created by Serin for prod/checkout"),
            "{sentence}"
        );
    }

    fn mesh() -> RouterRecord {
        serde_json::from_value(serde_json::json!({
            "kind": "appMesh", "mesh": "prod", "stableNode": "checkout", "canaryNode": "canary", "canaryRegistryName": "canary",
            "proxy": {"container": "envoy", "variable": "APPMESH_RESOURCE_ARN", "stableValue": ""},
            "stableRegistry": {"namespaceId": "", "id": "", "arn": "", "name": ""}, "routes": [],
        }))
        .unwrap()
    }

    fn replacing(service: &ServiceDescription) -> Option<String> {
        assert!(refuse_replacing(service, &mesh(), FinishMode::Promote).is_ok());
        refuse_replacing(service, &mesh(), FinishMode::Replace)
            .err()
            .map(|error| error.to_string())
    }

    #[test]
    fn replace_is_refused_where_it_would_take_away_what_the_canary_does_not_have() {
        assert_eq!(replacing(&service()), None);
        let behind_a_load_balancer = ServiceDescription {
            classic_load_balancers: 1,
            ..service()
        };
        let named = ServiceDescription {
            service_connect_server: true,
            ..service()
        };
        let scaled = ServiceDescription {
            scaling: Some(serin::Scaling {
                max_tasks: 10,
                scale_in_suspended: false,
            }),
            ..service()
        };
        for (service, what) in [
            (behind_a_load_balancer, "its load balancer"),
            (named, "Service Connect"),
            (scaled, "auto scaling"),
        ] {
            let sentence = replacing(&service).unwrap();
            assert!(
                sentence.contains(what) && sentence.ends_with("use promote"),
                "{sentence}"
            );
        }
    }
}
