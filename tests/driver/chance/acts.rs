//! What somebody does in the middle of a run.

use serde_json::json;
use serin_sim::{Snapshot, World, world};

use super::{Due, LOCK, Run, short};
use crate::simulation::{On, request};
use crate::story::Act;

impl Run {
    /// What somebody does; it may find that there is nothing to do it to.
    pub(super) async fn act(&mut self, act: Act) {
        let name = format!("{act:?}");
        let name = name.split('(').next().unwrap_or_default().to_owned();
        if Box::pin(self.do_it(act)).await {
            self.say(&format!("somebody: {act:?}"));
            self.count(&name);
            let percent = self.account().look(World::stable_percent);
            self.observed.lock().unwrap().stable_percent = percent;
        }
    }

    async fn do_it(&mut self, act: Act) -> bool {
        let watch = self.simulation.watch.clone();
        let first_runs = self.lives[0].execution.is_running();
        match act {
            Act::EditRoute => {
                // Rule 5: what is edited is from now on how the route has to stay.
                self.simulation.edit_something_else();
                self.simulation.before = watch.subject().before;
            }
            Act::GiveAllToStable => {
                if self.story.options.other_weight.is_some() || !self.stable_is_whole() {
                    return false;
                }
                // It breaks no rule: stable may have all of what both have.
                self.simulation.give_all_to_stable_by_hand();
                self.weights_edited = true;
            }
            Act::WriteBack => {
                if !self.stable_is_whole() {
                    return false;
                }
                // Rule 3: stable may have no task at this moment; the person did not look.
                watch.excuse("rule 3", self.stable());
                let route = self.route.clone();
                self.simulation.put_route(&route);
                self.simulation.before = self.simulation_edit();
            }
            Act::KillStable => {
                watch.excuse("rule 3", self.stable());
                self.account()
                    .change(|world| world.kill_tasks(world::SERVICE));
            }
            Act::KillCanary => {
                let Some(canary) = self.canary() else {
                    return false;
                };
                watch.excuse("rule 3", "-canary-");
                self.account().change(|world| world.kill_tasks(&canary));
            }
            Act::DeleteCanary => {
                let Some(canary) = self.canary() else {
                    return false;
                };
                watch.excuse("rule 3", "-canary-");
                self.account()
                    .delete_service_by_hand(world::CLUSTER, &canary);
            }
            Act::ScaleStable(tasks) => return self.scale_stable(tasks),
            Act::Second => return Box::pin(self.start_a_second()).await,
            Act::Stop if first_runs => {
                self.lives[0].execution.abort();
                self.note_end(0);
            }
            Act::TimeOut if first_runs => {
                self.lives[0].execution.time_out();
                self.note_end(0);
            }
            Act::StopRecovery => {
                let found =
                    (1..self.lives.len()).find(|&live| self.lives[live].execution.is_running());
                let Some(index) = found else {
                    return false;
                };
                self.lives[index].execution.abort();
                self.note_end(index);
            }
            Act::Redrive(seconds) if !first_runs => {
                let at = self.now() + i64::from(seconds);
                self.due.push((at, Due::Redrive));
            }
            Act::Redrive(seconds) => {
                // Kept until there is something to redrive.
                self.story.acts.push((usize::MAX, Act::Redrive(seconds)));
                return false;
            }
            Act::RunAgain(percent) => {
                let all = self.simulation.lambdas.invocations();
                return Box::pin(self.run_again(all.len() * percent / 100)).await;
            }
            Act::RunTwice => {
                let all = self.simulation.lambdas.invocations();
                return Box::pin(self.run_again(all.len().wrapping_sub(1))).await;
            }
            Act::Dawdle(seconds) => self.account().clock().advance(seconds),
            Act::Stop | Act::TimeOut => return false,
        }
        true
    }

    /// Whether there was something to scale.
    fn scale_stable(&mut self, tasks: i32) -> bool {
        // Application Auto Scaling would raise fewer to its least number when its target is written next.
        let least = self.story.options.scaling.map_or(0, |(least, _)| least);
        let tasks = tasks.max(least);
        let service = format!("{}/{}", world::CLUSTER, world::SERVICE);
        let services = self.account().snapshot().services;
        // One that is being deleted, after a replacement, is no longer scaled by anybody.
        if services
            .get(&service)
            .is_none_or(|shape| shape.status != "Active")
        {
            return false;
        }
        // Rule 4: the number of tasks is from now on as it has to stay.
        self.account()
            .scale_by_hand(world::CLUSTER, world::SERVICE, tasks);
        let watch = &self.simulation.watch;
        watch.change(|subject| {
            if let Some(shape) = subject.before.services.get_mut(&service) {
                shape.desired = tasks;
            }
        });
        self.simulation.before = watch.subject().before;
        true
    }

    /// The snapshot to which everything has to come back, after Terraform has taken an edit back.
    fn simulation_edit(&self) -> Snapshot {
        let watch = &self.simulation.watch;
        let now = self.account().snapshot();
        watch.change(|subject| {
            for (path, spec) in &mut subject.before.routes {
                if let Some(now) = now.routes.get(path)
                    && path.ends_with(world::ROUTE)
                {
                    spec.clone_from(now);
                }
            }
            for (path, rule) in &mut subject.before.rules {
                if let Some(now) = now.rules.get(path)
                    && [world::RULE, world::DEFAULT_RULE].contains(&path.as_str())
                {
                    rule.clone_from(now);
                }
            }
        });
        watch.subject().before
    }

    pub(super) async fn run_again(&mut self, index: usize) -> bool {
        let all = self.simulation.lambdas.invocations();
        let Some((function, payload)) = all.get(index) else {
            return false;
        };
        if function == "sweep" {
            return false;
        }
        self.say(&format!(
            "{function} runs again with the input of invocation {index}"
        ));
        let ran = self
            .simulation
            .lambdas
            .call_again(function, payload.clone());
        let ran = Box::pin(ran).await;
        self.say(&format!("it gave {}", short(&format!("{ran:?}"))));
        true
    }

    /// Rule 9: while one deployment has the lock, a second is told so.
    async fn start_a_second(&mut self) -> bool {
        let lock = self.account().item(world::LEDGER_TABLE, LOCK);
        let held = lock.is_some_and(|lock| lock.contains_key("execution"));
        if !held || self.rules > 1000 {
            return false;
        }
        self.rules += 1;
        let name = format!("second-{}", self.rules);
        let mut second = self.simulation.start(&name, request("3.0.0", json!({})));
        while second.is_running() && second.next_state() != "Create the canary" {
            Box::pin(second.step(&self.simulation.lambdas)).await;
        }
        let arn = second.arn().to_owned();
        if second.is_running() {
            // Its first's record may say that it was over when this one looked.
            let over = self
                .attribute("phase")
                .is_none_or(|phase| phase.contains("nded"));
            if !over {
                self.break_rule(
                    "rule 9: a second deployment was planned while the first was not over",
                );
            }
            second.abort();
            self.account().set_execution(&arn, "ABORTED".into());
        } else {
            self.account().set_execution(&arn, "FAILED".into());
        }
        true
    }

    /// Whether stable's service is there and has not been given up.
    fn stable_is_whole(&self) -> bool {
        let promoting = self.simulation.watch.subject().promoting;
        let service = self
            .account()
            .look(|world| world.service(world::CLUSTER, world::SERVICE));
        service.is_some() && !(self.story.replaces && promoting)
    }

    /// How a sentence names stable's side of the traffic.
    fn stable(&self) -> String {
        match self.story.on {
            On::AppMesh => format!("to {},", world::NODE),
            On::Alb => format!("targetgroup/{}", world::TARGET_GROUP),
        }
    }

    fn canary(&self) -> Option<String> {
        let services = self.account().look(|world| world.services(world::CLUSTER));
        services.into_iter().find(|name| name.contains("-canary-"))
    }
}
