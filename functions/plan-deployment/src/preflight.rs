//! What must hold before a deployment may begin. Each refusal says what was found and what would be accepted.

use jiff::{SignedDuration, Timestamp};
use serin::ports::{
    AlarmState, Fleet, HealthSignals, Measured, Reading, ServiceDescription, Side, TrafficRouter,
};
use serin::request::FinishMode;
use serin::verdict::Window;
use serin::{Deployment, ServiceKey};

use crate::{PlanDeploymentError, Planner};

/// The largest resolved deployment, in bytes of JSON.
const LARGEST_DEPLOYMENT: usize = 65_536;
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
    finish: FinishMode,
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
    } else if finish == FinishMode::Replace
        && (service.load_balancers > 0 || service.service_connect_server)
    {
        format!(
            "finish.mode: replace would take away what reaches service {name} through {}, which the canary does not have; use promote",
            if service.load_balancers > 0 {
                "its load balancer"
            } else {
                "Service Connect"
            }
        )
    } else {
        return Ok(());
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
        for step in deployment.plan.steps() {
            if let Some(why) = deployment.router.cannot_express(step.weight_percent) {
                return Err(PlanDeploymentError::WeightNotExpressible(why));
            }
        }
        if let (false, Some(why)) = (
            deployment.checks.latency_ms.is_empty(),
            deployment.router.no_latency_because(),
        ) {
            return Err(PlanDeploymentError::InvalidRequest(format!(
                "checks.latencyMs: {why}"
            )));
        }
        let quiet = self.alarms(&deployment).await?;
        deployment.notes.extend(quiet);
        let idle = self.metrics(&deployment).await?;
        deployment.notes.extend(idle);
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
    /// the canary, so stable must answer.
    async fn metrics(&self, deployment: &Deployment) -> Result<Vec<String>, PlanDeploymentError> {
        let checks = &deployment.checks;
        if checks.error_rate_percent.is_none() && checks.queries.is_empty() {
            return Ok(Vec::new());
        }
        let window = recent(
            self.now,
            i64::from(checks.period_seconds),
            i64::from(checks.data_delay()),
        );
        let measured = self
            .signals
            .measure(deployment, Side::Stable, window)
            .await?;
        let counts = measured
            .requests
            .iter()
            .flat_map(|counts| [&counts.requests, &counts.errors]);
        if let Some(silent) = counts.chain(&measured.queries).find_map(silence) {
            return Err(PlanDeploymentError::MetricsNotFound(format!(
                "stable's own metrics do not answer, so the canary's would not either: {silent} (from {} to {})",
                window.start, window.end
            )));
        }
        let idle = measured.requests.is_some_and(|counts| matches!(counts.requests.reading, Reading::Value { value, .. } if value <= 0.0));
        Ok(if idle {
            vec!["Stable has had no requests lately; without any, checks are inconclusive.".into()]
        } else {
            Vec::new()
        })
    }
}

/// Why a measurement is no answer; `None` if it is one.
fn silence(measured: &Measured) -> Option<String> {
    match &measured.reading {
        Reading::Value { .. } => None,
        Reading::NoData => Some(format!("no data for {}", measured.query)),
        Reading::Incomplete(status) => Some(format!(
            "the data for {} is not whole: {status}",
            measured.query
        )),
    }
}

fn recent(now: Timestamp, period: i64, delay: i64) -> Window {
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
            load_balancers: 0,
        }
    }

    fn refusal(service: &ServiceDescription, name: &str, finish: FinishMode) -> Option<String> {
        let key = ServiceKey {
            cluster: ClusterName::new("prod"),
            service: ServiceName::new(name),
        };
        refuse_unsupported(service, &key, finish)
            .err()
            .map(|error| error.to_string())
    }

    #[test]
    fn a_service_that_serin_made_is_deployed_only_by_the_name_that_has_its_lock() {
        assert_eq!(refusal(&service(), "checkout", FinishMode::Promote), None);
        let sentence =
            refusal(&service(), "checkout-canary-1a2b3c4d", FinishMode::Promote).unwrap();
        assert!(
            sentence.contains("created by Serin for prod/checkout"),
            "{sentence}"
        );
    }

    #[test]
    fn replace_is_refused_where_it_would_take_away_another_way_in() {
        let behind_a_load_balancer = ServiceDescription {
            load_balancers: 1,
            ..service()
        };
        assert_eq!(
            refusal(&behind_a_load_balancer, "checkout", FinishMode::Promote),
            None
        );
        let sentence = refusal(&behind_a_load_balancer, "checkout", FinishMode::Replace).unwrap();
        assert!(
            sentence.contains("load balancer") && sentence.contains("use promote"),
            "{sentence}"
        );
        let named = ServiceDescription {
            service_connect_server: true,
            ..service()
        };
        assert!(
            refusal(&named, "checkout", FinishMode::Replace)
                .unwrap()
                .contains("Service Connect")
        );
    }
}
