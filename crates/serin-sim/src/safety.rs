//! The safety rules of a deployment, checked on the world: what must be true after every single call.

mod balancer;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use aws_sdk_appmesh::types::{RouteSpec, WeightedTarget};

use crate::account::{Account, Call};
use crate::app_mesh::{targets, targets_mut};
use crate::snapshot::Snapshot;
use crate::world::World;

/// What the rules need to know of a deployment.
#[derive(Debug, Clone)]
pub struct Subject {
    /// The account before the deployment.
    pub before: Snapshot,
    /// The ECS service, as `cluster/service`.
    pub service: String,
    /// Stable's virtual node.
    pub stable_node: String,
    /// The ARNs of stable's target groups.
    pub stable_groups: Vec<String>,
    /// The share that the canary may have now, in percent.
    pub allowed_percent: f64,
    /// Whether promotion has begun, so that stable may be modified.
    pub promoting: bool,
}

impl Subject {
    /// The deployment of `service` behind `stable_node` or its target groups, before anything is allowed. The target
    /// groups are those of the service in the snapshot, so that one call suits every router.
    pub fn new(before: Snapshot, service: &str, stable_node: &str) -> Self {
        let attached = before
            .services
            .get(service)
            .map(|shape| shape.settings.load_balancers())
            .unwrap_or_default();
        let stable_groups = attached
            .iter()
            .filter_map(|attached| attached.target_group_arn.clone())
            .collect();
        Self {
            before,
            stable_groups,
            service: service.to_owned(),
            stable_node: stable_node.to_owned(),
            allowed_percent: 0.0,
            promoting: false,
        }
    }

    /// Every rule that the world breaks, as sentences.
    pub fn violations(&self, world: &World) -> Vec<String> {
        let mut violations = Vec::new();
        for (path, before) in self
            .before
            .routes
            .iter()
            .filter(|(_, spec)| self.names_stable(spec))
        {
            let Some(now) = route(world, path) else {
                violations.push(format!("rule 5: route {path} is gone"));
                continue;
            };
            violations.extend(self.weights_add_up(path, before, now));
            violations.extend(self.copies_are_within_the_step(path, before, now));
            violations.extend(Self::weight_only_on_healthy_tasks(world, path, now));
            violations.extend(self.only_the_weights_differ(path, before, now));
        }
        let now = world.snapshot();
        violations.extend(self.rules_are_kept(world, &now));
        if !self.promoting {
            violations.extend(self.stable_is_untouched(world, &now));
        }
        violations
    }

    fn names_stable(&self, spec: &RouteSpec) -> bool {
        targets(spec)
            .unwrap_or_default()
            .iter()
            .any(|target| target.virtual_node == self.stable_node)
    }

    /// Rule 1: stable and canary together have exactly the share of the whole that stable had.
    fn weights_add_up(&self, path: &str, before: &RouteSpec, now: &RouteSpec) -> Option<String> {
        let (before, now) = (weights(before), weights(now));
        let (total_before, total_now): (i32, i32) = (before.values().sum(), now.values().sum());
        let ours = |weights: &BTreeMap<&str, i32>| -> i32 {
            weights
                .iter()
                .filter(|(node, _)| **node == self.stable_node || !before.contains_key(**node))
                .map(|(_, weight)| weight)
                .sum()
        };
        let kept = ours(&before) * total_now == ours(&now) * total_before;
        (!kept || total_now == 0)
            .then(|| format!("rule 1: the weights of route {path} were {before:?} and are {now:?}"))
    }

    /// Rule 2: neither the canary's share of what all sides have nor the baseline's is above the current step.
    fn copies_are_within_the_step(
        &self,
        path: &str,
        before: &RouteSpec,
        now: &RouteSpec,
    ) -> Vec<String> {
        let before = weights(before);
        let now = weights(now);
        let is_new = |node: &str| !before.contains_key(node);
        let sum = |wanted: &dyn Fn(&str) -> bool| -> f64 {
            let wanted = now.iter().filter(|(node, _)| wanted(node));
            wanted.map(|(_, weight)| f64::from(*weight)).sum()
        };
        let baseline = sum(&|node| is_new(node) && is_baseline(node));
        let canary = sum(&|node| is_new(node) && !is_baseline(node));
        let stable = sum(&|node| node == self.stable_node);
        self.within_the_step(&format!("route {path}"), canary, baseline, stable, 1e-9)
    }

    fn within_the_step(
        &self,
        path: &str,
        canary: f64,
        baseline: f64,
        stable: f64,
        tolerance: f64,
    ) -> Vec<String> {
        let all = canary + baseline + stable;
        let allowed = self.allowed_percent;
        let copies = [("canary", canary), ("baseline", baseline)].into_iter();
        let shares = copies.map(|(copy, weight)| (copy, weight * 100.0 / all.max(1.0)));
        let above = shares.filter(|(_, percent)| *percent > allowed + tolerance);
        above
            .map(|(copy, percent)| {
                format!("rule 2: the {copy} has {percent} percent of {path}, allowed are {allowed}")
            })
            .collect()
    }

    /// Rule 3: no weight goes to a target that has no healthy task.
    fn weight_only_on_healthy_tasks(world: &World, path: &str, now: &RouteSpec) -> Vec<String> {
        let mesh = path.split('/').next().unwrap_or_default();
        let bad = |target: &&WeightedTarget| {
            target.weight > 0 && world.healthy_tasks_of_node(mesh, &target.virtual_node) == 0
        };
        let sentence = |target: &WeightedTarget| {
            format!(
                "rule 3: route {path} gives {} to {}, which has no healthy task",
                target.weight, target.virtual_node
            )
        };
        targets(now)
            .unwrap_or_default()
            .iter()
            .filter(bad)
            .map(sentence)
            .collect()
    }

    /// Rule 4: stable's service, definition and virtual node are as they were.
    fn stable_is_untouched(&self, world: &World, now: &Snapshot) -> Vec<String> {
        let mut violations = Vec::new();
        // What an autoscaler does to the number of tasks is nobody's fault.
        let scaled = world.settings.requests_per_task.is_some();
        let shape = |snapshot: &Snapshot| {
            let mut shape = snapshot.services.get(&self.service).cloned()?;
            shape.desired = if scaled { 0 } else { shape.desired };
            Some(shape)
        };
        if shape(now) != shape(&self.before) {
            violations.push(format!(
                "rule 4: the ECS service {} was modified before promotion",
                self.service
            ));
        }
        let of_stable =
            |(path, _): &(&String, &_)| path.rsplit('/').next() == Some(self.stable_node.as_str());
        if let Some((path, was)) = self.before.nodes.iter().find(of_stable)
            && now.nodes.get(path) != Some(was)
        {
            violations.push(format!(
                "rule 4: the virtual node {path} was modified before promotion"
            ));
        }
        violations.extend(self.stable_groups_are_untouched(now));
        violations.extend(self.scaling_is_untouched(now));
        let gone = self
            .before
            .registries
            .iter()
            .filter(|(id, was)| now.registries.get(*id) != Some(*was));
        violations.extend(gone.map(|(id, _)| {
            format!("rule 4: the Cloud Map service {id} was modified before promotion")
        }));
        let gone = self
            .before
            .task_definitions
            .iter()
            .filter(|definition| !now.task_definitions.contains(definition));
        violations.extend(gone.map(|definition| {
            format!("rule 4: the task definition {definition} was retired before promotion")
        }));
        violations
    }

    /// Rule 5: everything in a route but the weights and the canary's own target is as it was. A replacement may end with
    /// stable's own target taken out.
    fn only_the_weights_differ(
        &self,
        path: &str,
        before: &RouteSpec,
        now: &RouteSpec,
    ) -> Option<String> {
        let kept = |node: &str| {
            weights(before).contains_key(node) && !(self.promoting && node == self.stable_node)
        };
        let without_weights = |spec: &RouteSpec| {
            let mut spec = spec.clone();
            if let Some(targets) = targets_mut(&mut spec) {
                targets.retain(|target| kept(&target.virtual_node));
                for target in targets {
                    target.weight = 0;
                }
            }
            spec
        };
        let (was, is) = (without_weights(before), without_weights(now));
        (was != is).then(|| format!("rule 5: route {path} was {was:?} and is {is:?}"))
    }
}

fn route<'a>(world: &'a World, path: &str) -> Option<&'a RouteSpec> {
    let mut parts = path.splitn(3, '/');
    let (mesh, router, name) = (parts.next()?, parts.next()?, parts.next()?);
    world
        .app_mesh
        .meshes
        .get(mesh)?
        .routers
        .get(router)?
        .routes
        .get(name)?
        .spec
        .as_ref()
}

/// Whether what has this name or ARN is a fresh copy of stable.
fn is_baseline(name: &str) -> bool {
    name.contains("-baseline-")
}

fn weights(spec: &RouteSpec) -> BTreeMap<&str, i32> {
    targets(spec)
        .unwrap_or_default()
        .iter()
        .map(|target| (target.virtual_node.as_str(), target.weight))
        .collect()
}

/// Watches an account: checks the rules after every call, and remembers what was broken.
#[derive(Debug, Clone)]
pub struct Watch {
    subject: Arc<Mutex<Subject>>,
    broken: Arc<Mutex<Vec<String>>>,
    seen: Arc<Mutex<Seen>>,
    excused: Arc<Mutex<Vec<Excuse>>>,
}

/// What somebody else has broken: a rule, and a text that names the object in the sentence.
#[derive(Debug, Clone)]
struct Excuse {
    rule: &'static str,
    object: String,
    /// Whether it has been found broken; it ends when it is then found mended.
    found: bool,
}

impl Excuse {
    fn covers(&self, violation: &str) -> bool {
        violation.starts_with(self.rule) && violation.contains(&self.object)
    }
}

/// What was found when the world was last looked at, which is so until something changes.
#[derive(Debug, Default)]
struct Seen {
    version: Option<u64>,
    violations: Vec<String>,
}

impl Watch {
    /// Watches from now on.
    pub fn new(account: &Account, subject: Subject) -> Self {
        let watch = Self {
            subject: Arc::new(Mutex::new(subject)),
            broken: Arc::default(),
            seen: Arc::default(),
            excused: Arc::default(),
        };
        let hand = watch.clone();
        account.on_call(move |world, call| hand.check(world, call));
        watch
    }

    fn check(&self, world: &World, call: &Call) {
        let subject = self.subject.lock().expect("no panic while it is held");
        let mut seen = self.seen.lock().expect("no panic while it is held");
        if seen.version != Some(world.version) {
            seen.version = Some(world.version);
            seen.violations = subject.violations(world);
            let mut excused = self.excused.lock().expect("no panic while it is held");
            excused.retain_mut(|excuse| {
                let found = seen.violations.iter().any(|found| excuse.covers(found));
                let mended = excuse.found && !found;
                excuse.found |= found;
                !mended
            });
            seen.violations
                .retain(|found| !excused.iter().any(|excuse| excuse.covers(found)));
        }
        let mut broken = self.broken.lock().expect("no panic while it is held");
        broken.extend(
            seen.violations
                .iter()
                .map(|violation| format!("after {} {}: {violation}", call.service, call.operation)),
        );
    }

    /// Says how much the canary may have from now on.
    pub fn allow_percent(&self, percent: f64) {
        self.change(|subject| subject.allowed_percent = percent);
    }

    /// Says that stable may be modified from now on.
    pub fn promotion_begins(&self) {
        self.change(|subject| subject.promoting = true);
    }

    /// Changes what the rules know, as after an outside actor's edit.
    pub fn change(&self, change: impl FnOnce(&mut Subject)) {
        change(&mut self.subject.lock().expect("no panic while it is held"));
        self.seen.lock().expect("no panic while it is held").version = None;
    }

    /// Somebody else breaks this rule, as `rule 3`, for the object of this name: from now on until it is found mended, it is
    /// not held against the deployment.
    pub fn excuse(&self, rule: &'static str, object: impl Into<String>) {
        let excuse = Excuse {
            rule,
            object: object.into(),
            found: false,
        };
        let mut excused = self.excused.lock().expect("no panic while it is held");
        excused.push(excuse);
    }

    /// What the rules know now.
    pub fn subject(&self) -> Subject {
        let subject = self.subject.lock().expect("no panic while it is held");
        subject.clone()
    }

    /// What was broken so far.
    pub fn broken(&self) -> Vec<String> {
        self.broken
            .lock()
            .expect("no panic while it is held")
            .clone()
    }

    /// Fails the test if anything was broken.
    pub fn assert_safe(&self) {
        let broken = self.broken();
        assert!(broken.is_empty(), "{}", broken.join("\n"));
    }
}
