//! What has to hold when nothing runs any more: the deployment is over, and its ending tells the truth.

use serde_json::json;
use serin::Report;
use serin::report::Ending;
use serin_sim::{World, world};

use super::{MOST_STATES, Run, bare, short, told};
use crate::leftovers::is_named;
use crate::simulation::{On, arn, request};

impl Run {
    /// The liveness rules.
    pub(super) async fn check_the_end(&mut self) {
        if self.story.late_echo {
            self.account().clock().advance(3600);
            let all = self.simulation.lambdas.invoked();
            for _ in 0..3 {
                let index = self.story.dice.below(all);
                Box::pin(self.run_again(index)).await;
            }
            self.find_what_is_left().await;
        }
        if let Some(index) = self.story.hour_later {
            self.account().clock().advance(3600);
            Box::pin(self.run_again(index)).await;
            self.find_what_is_left().await;
        }
        let report = self.last_word.clone().or_else(|| self.recorded_ending());
        let Some(report) = report else {
            self.check_nothing_said();
            return;
        };
        self.last_word = Some(report.clone());
        match report.ending {
            Ending::RolledBack => self.check_rolled_back(),
            Ending::Promoted => self.check_promoted(),
            Ending::NeedsAttention => self.check_needs_attention(&report),
        }
        Box::pin(self.check_the_next(report.ending)).await;
    }

    /// What took a lock once more after the end is found, as soon as the sweep may look.
    async fn find_what_is_left(&mut self) {
        self.account().heal();
        for _ in 0..3 {
            self.sweep_when_due().await;
            self.account().clock().advance(300);
        }
        self.finish_all().await;
    }

    async fn finish_all(&mut self) {
        for _ in 0..MOST_STATES {
            self.start_what_is_due();
            let running =
                (0..self.lives.len()).find(|&live| self.lives[live].execution.is_running());
            match running {
                Some(index) => self.step(index).await,
                None if self.due.is_empty() => return,
                None => self.account().clock().advance(60),
            }
        }
        self.break_rule("rule 6: what began after the end does not come to an end");
    }

    /// How the deployment ended as the ledger knows it: the execution may have been stopped right after it had told the ledger.
    fn recorded_ending(&self) -> Option<Report> {
        let text = self.attribute("ending")?;
        let ending = [Ending::Promoted, Ending::RolledBack, Ending::NeedsAttention]
            .into_iter()
            .find(|ending| text.contains(&ending.to_string()))?;
        let record = format!("deployment#{}", arn("first"));
        let record = self.account().item(world::LEDGER_TABLE, &record)?;
        let left = record.get("left").and_then(|left| left.as_s().ok());
        Some(Report {
            left: left.map_or_else(Vec::new, |left| serde_json::from_str(left).unwrap()),
            ..bare(ending)
        })
    }

    /// No execution has told how it ended: it was refused, or all of them broke off.
    fn check_nothing_said(&mut self) {
        let traces = self.traces();
        if self.refused {
            self.last_word = Some(bare(Ending::RolledBack));
        } else if self.unexplained.is_none() && traces.is_empty() && self.is_settled() {
            // Stopped before anything was planned.
            self.last_word = Some(bare(Ending::RolledBack));
            return;
        }
        if self.refused && !traces.is_empty() {
            self.break_rule(format!("rule 7: refused, but {}", traces.join("; ")));
        }
        if !self.refused && self.unexplained.is_none() {
            self.break_rule(format!(
                "rule 6: nobody said how it ended; left: {}",
                traces.join("; ")
            ));
        }
    }

    fn traces(&self) -> Vec<String> {
        let edited = self.weights_edited;
        let scaled = self.story.requests_per_task.is_some();
        let mut before = self.simulation.before.clone();
        let mut after = self.account().snapshot();
        if scaled {
            for snapshot in [&mut before, &mut after] {
                for shape in snapshot.services.values_mut() {
                    shape.desired = 0;
                }
            }
        }
        let traces = before.differences(&after);
        traces
            .into_iter()
            .filter(|trace| {
                !(edited && (trace.starts_with("route ") || trace.starts_with("rule ")))
            })
            .map(|trace| short(&trace))
            .collect()
    }

    fn check_rolled_back(&mut self) {
        let traces = self.traces();
        if !traces.is_empty() {
            self.break_rule(format!("rule 7: rolled back, but {}", traces.join("; ")));
        }
        self.check_stable_has_all();
    }

    fn check_stable_has_all(&mut self) {
        if self.story.options.other_weight.is_none() {
            let percent = self.account().look(World::stable_percent);
            if (percent - 100.0).abs() > 1e-9 {
                self.break_rule(format!("rule 6: stable has {percent} percent at the end"));
            }
        }
    }

    fn check_promoted(&mut self) {
        let traces = self.traces();
        let wrong: Vec<&String> = traces
            .iter()
            .filter(|trace| !self.is_of_a_promotion(trace))
            .collect();
        let wrong: Vec<String> = wrong.into_iter().cloned().collect();
        if !wrong.is_empty() {
            self.break_rule(format!("rule 7: promoted, but {}", wrong.join("; ")));
        }
        if !self.story.replaces {
            self.check_stable_has_all();
        }
        let runs = traces
            .iter()
            .any(|trace| trace.contains("task definition checkout") && trace.ends_with("is new"));
        if !runs {
            self.break_rule(format!(
                "rule 6: promoted, but no new version: {}",
                traces.join("; ")
            ));
        }
    }

    /// Whether a promotion may leave this difference.
    fn is_of_a_promotion(&self, trace: &str) -> bool {
        let definition = trace.starts_with("task definition checkout");
        let service = trace.starts_with(&format!(
            "ECS service {}/{}",
            world::CLUSTER,
            world::SERVICE
        ));
        if !self.story.replaces {
            return definition
                || service && !trace.contains("canary") && !trace.ends_with("is gone");
        }
        let kinds = [
            "virtual node",
            "Cloud Map service",
            "target group",
            "route",
            "rule",
            "listener",
            "lock",
        ];
        definition || service || kinds.iter().any(|kind| trace.starts_with(kind))
    }

    /// Everything that differs is named in the list, with a command.
    fn check_needs_attention(&mut self, report: &Report) {
        if report.left.is_empty() || report.left.iter().any(|left| left.command.is_empty()) {
            self.break_rule("rule 7: it needs attention, but says not for what");
        }
        let list = serde_json::to_string(&report.left).unwrap();
        // A recovery that cannot read the ledger knows nothing but its input; the sweep starts it again.
        if list.contains("all that the recovery had not put back") {
            return;
        }
        let says = |attribute, word| {
            self.attribute(attribute)
                .is_some_and(|value| value.contains(word))
        };
        let promoted = says("phase", "cleaningUp") || says("ending", "promoted");
        let unnamed: Vec<String> = if promoted && self.story.replaces {
            self.former_stable(&list)
        } else {
            let traces = self.traces().into_iter();
            traces
                .filter(|trace| !(promoted && self.is_of_a_promotion(trace)))
                .filter(|trace| !trace.starts_with("lock ") && !is_named(trace, &report.left))
                .collect()
        };
        if !unnamed.is_empty() {
            self.break_rule(format!(
                "rule 7: it needs attention, but its list does not name: {}; the list: {}",
                unnamed.join("; "),
                short(&list)
            ));
        }
    }

    /// What there still is of the version that was replaced and that the list does not name.
    fn former_stable(&self, list: &str) -> Vec<String> {
        let (service, side) = self.account().look(|world| {
            let reached = match self.story.on {
                On::AppMesh => world.nodes().iter().any(|node| node == world::NODE),
                On::Alb => world.target_group(world::TARGET_GROUP).is_some(),
            };
            let service = world.service(world::CLUSTER, world::SERVICE);
            (service.is_some(), reached)
        });
        let path = format!("service/{}/{}", world::CLUSTER, world::SERVICE);
        let named = match self.story.on {
            On::AppMesh => format!("virtualNode/{}", world::NODE),
            On::Alb => format!("targetgroup/{}/", world::TARGET_GROUP),
        };
        [(service, path), (side, named)]
            .into_iter()
            .filter(|(there, name)| *there && !list.contains(name.as_str()))
            .map(|(_, name)| format!("{name} is still there"))
            .collect()
    }

    /// After an end a second deployment can be planned, unless a person must finish the first.
    async fn check_the_next(&mut self, ending: Ending) {
        let account = self.account();
        account.heal();
        let silent = self.story.data.silent || self.story.data.partial;
        account.clock().advance(7200); // so that stable is steady
        if ending == Ending::NeedsAttention || silent || self.story.replaces {
            return;
        }
        let mut next = self.simulation.start("next", request("3.0.0", json!({})));
        while next.is_running() && next.next_state() != "Create the canary" {
            Box::pin(next.step(&self.simulation.lambdas)).await;
        }
        if !next.is_running() {
            self.break_rule(format!(
                "rule 6: the next deployment is {}",
                short(&told(&next))
            ));
        }
    }
}
