//! What is looked at after every call, beside the rules of the watch.

use std::fmt::Write as _;
use std::sync::{Arc, Mutex};

use serin::deployment::LATE_SECONDS;
use serin_sim::{World, world};

use super::{Observed, short, time};
use crate::simulation::{Simulation, arn};

/// What stable runs, as text.
fn version(world: &World) -> String {
    let service = world.service(world::CLUSTER, world::SERVICE);
    service.map_or_else(
        || "nothing".to_owned(),
        |service| service.task_definition.unwrap_or_default(),
    )
}

/// Looks at the world after every call, beside the watch.
pub(super) fn observe(simulation: &Simulation, observed: &Arc<Mutex<Observed>>) {
    let hand = observed.clone();
    let running = simulation.lambdas.running();
    let watch = simulation.watch.clone();
    let record = format!("deployment#{}", arn("first"));
    let mut broken_before = 0;
    simulation.account.on_call(move |world, call| {
        let mut seen = hand.lock().unwrap();
        let now = world.now();
        let percent = world.stable_percent();
        let phase = world
            .item(world::LEDGER_TABLE, &record)
            .and_then(|record| record.get("phase").map(|phase| format!("{phase:?}")))
            .unwrap_or_default();
        if phase.to_lowercase().contains("rollingback") {
            seen.fenced_at.get_or_insert(now);
        }
        let lost = percent < seen.stable_percent - 1e-9;
        let fenced_for = seen.fenced_at.map(|since| now - since);
        if lost && fenced_for.is_some_and(|seconds| seconds > i64::from(LATE_SECONDS)) {
            let sentence = format!(
                "rule 10: {} of {} took traffic from stable {fenced_for:?} s after the fence",
                call.operation,
                running.lock().unwrap()
            );
            seen.broken.push(sentence);
        }
        if fenced_for.is_some() {
            let version = version(world);
            let late = fenced_for.is_some_and(|seconds| seconds > i64::from(LATE_SECONDS));
            if late
                && seen
                    .fenced_version
                    .as_ref()
                    .is_some_and(|was| *was != version)
            {
                let sentence = format!(
                    "rule 4: {} of {} changed what stable runs {fenced_for:?} s after the fence",
                    call.operation,
                    running.lock().unwrap()
                );
                seen.broken.push(sentence);
            }
            seen.fenced_version = Some(version);
        }
        if let Some(first) = world.first_shown_error() {
            seen.bad_since.get_or_insert(first);
        }
        if seen.reaction.is_none()
            && percent > 100.0 - 1e-9
            && let Some(since) = seen.bad_since
        {
            seen.reaction = Some(now - since);
        }
        let moved = (percent - seen.stable_percent).abs() > 1e-9;
        if let Some(trace) = &mut seen.trace {
            let mut line = format!(
                "{}   {} {} {}",
                time(call.at),
                running.lock().unwrap(),
                call.service,
                call.operation
            );
            if let Some(error) = &call.error {
                let _ = write!(line, " -> {error}");
            }
            if moved {
                let _ = write!(line, " (stable has {percent:.1} percent now)");
            }
            trace.push(line);
            let broken = watch.broken();
            for sentence in &broken[broken_before.min(broken.len())..] {
                trace.push(format!("{}   BROKEN {}", time(call.at), short(sentence)));
            }
            broken_before = broken.len();
        }
        seen.stable_percent = percent;
    });
}
