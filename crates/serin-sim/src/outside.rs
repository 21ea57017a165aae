//! What others do in the account: people, pipelines, CloudWatch itself.

use aws_sdk_applicationautoscaling::types::SuspendedState;
use aws_sdk_appmesh::types::RouteSpec;
use aws_sdk_cloudwatch::types::StateValue;
use aws_sdk_ecs::operation::delete_service::DeleteServiceInput;
use aws_sdk_ecs::operation::update_service::UpdateServiceInput;
use aws_sdk_elasticloadbalancingv2::types::Action;
use aws_sdk_sfn::types::ExecutionStatus;

use crate::account::Account;
use crate::cloud_watch::{Alarm, Datapoint, Series};
use crate::dynamo_db::Item;
use crate::ecs;
use crate::load_balancing::Target;
use crate::snapshot::Snapshot;
use crate::step_functions::Started;
use crate::world::World;

impl Account {
    /// Somebody edits a route in the console.
    pub fn edit_route_by_hand(&self, router: &str, route: &str, edit: impl FnOnce(&mut RouteSpec)) {
        self.change(|world| {
            let data = world.route(router, route);
            let path = (data.mesh_name.clone(), router.to_owned(), route.to_owned());
            let mut spec = data.spec.clone().expect("a route has a spec");
            edit(&mut spec);
            world.write_route(&path, spec);
        });
    }

    /// Somebody edits the actions of a rule in the console; default actions too.
    pub fn edit_rule_by_hand(&self, path: &str, edit: impl FnOnce(&mut Vec<Action>)) {
        self.change(|world| {
            let place = world
                .load_balancing
                .place(path)
                .unwrap_or_else(|| panic!("there is no rule {path}"));
            let mut actions = place.actions.to_vec();
            let listener = place.listener.listener_arn.clone();
            let rule = place.rule.and_then(|rule| rule.rule_arn.clone());
            edit(&mut actions);
            world.load_balancing.write_actions(
                listener.as_deref().unwrap_or_default(),
                rule.as_deref(),
                actions,
            );
        });
    }

    /// Somebody changes an attribute of a target group in the console.
    pub fn set_target_group_attribute(&self, name: &str, key: &str, value: &str) {
        self.change(|world| {
            let all = &mut world.load_balancing;
            let arn = all.group_named(name).expect("it is there").arn().to_owned();
            let group = all.group_mut(&arn).expect("it is there");
            group.attributes.insert(key.to_owned(), value.to_owned())
        });
    }

    /// Somebody registers a target of their own, which always answers, in a target group.
    pub fn register_target_by_hand(&self, name: &str, address: &str) {
        self.change(|world| {
            let now = world.now();
            let all = &mut world.load_balancing;
            let arn = all.group_named(name).expect("it is there").arn().to_owned();
            let group = all.group_mut(&arn).expect("it is there");
            let port = group.data.port().unwrap_or_default();
            group
                .targets
                .push(Target::new(address.to_owned(), port, None, now));
        });
    }

    /// Somebody suspends or resumes the scaling of a service.
    pub fn suspend_scaling_by_hand(&self, resource: &str, state: SuspendedState) {
        self.change(|world| {
            let target = world
                .auto_scaling
                .targets
                .get_mut(resource)
                .expect("the scalable target is there");
            target.suspended_state = Some(state);
        });
    }

    /// Somebody takes the scaling of a service away.
    pub fn remove_scaling_by_hand(&self, resource: &str) {
        self.change(|world| {
            let scaling = &mut world.auto_scaling;
            scaling.targets.remove(resource);
            scaling
                .policies
                .retain(|policy| policy.resource_id != resource);
        });
    }

    /// Somebody, or auto scaling, changes a service's number of tasks.
    pub fn scale_by_hand(&self, cluster: &str, service: &str, desired: i32) {
        let input = UpdateServiceInput::builder()
            .cluster(cluster)
            .service(service)
            .desired_count(desired);
        let input = input.build().expect("its members are set");
        self.change(|world| ecs::update_service(world, &input))
            .expect("the service is there");
    }

    /// Somebody deletes a service with all its tasks.
    pub fn delete_service_by_hand(&self, cluster: &str, service: &str) {
        let input = DeleteServiceInput::builder()
            .cluster(cluster)
            .service(service)
            .force(true);
        let input = input.build().expect("its members are set");
        self.change(|world| drop(ecs::delete_service(world, &input)));
    }

    /// Somebody deploys another task definition to a service, past Serin.
    pub fn deploy_by_hand(&self, cluster: &str, service: &str, definition: &str) {
        let input = UpdateServiceInput::builder()
            .cluster(cluster)
            .service(service)
            .task_definition(definition);
        let input = input.build().expect("its members are set");
        self.change(|world| ecs::update_service(world, &input))
            .expect("the service and the definition are there");
    }

    /// Somebody pushes an image; gives its digest.
    pub fn push_image(&self, repository: &str, tag: &str) -> String {
        self.change(|world| world.ecr.push(repository, tag, tag))
    }

    /// Somebody puts a datapoint, now; it can be read at once.
    pub fn put_metric(&self, namespace: &str, name: &str, dimensions: &[(&str, &str)], value: f64) {
        let now = self.clock().now().as_second();
        self.put_metric_at(namespace, name, dimensions, value, now);
    }

    /// Somebody puts a datapoint with a time of its own; it can be read at once.
    pub fn put_metric_at(
        &self,
        namespace: &str,
        name: &str,
        dimensions: &[(&str, &str)],
        value: f64,
        at: i64,
    ) {
        let dimensions = dimensions
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        let series = Series {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            dimensions,
        };
        self.change(|world| {
            world
                .cloud_watch
                .series
                .entry(series)
                .or_default()
                .push(Datapoint {
                    at,
                    value,
                    times: 1.0,
                    visible_at: at,
                });
        });
    }

    /// Sets a metric alarm, and makes it if it is not there.
    pub fn set_alarm(&self, name: &str, state: StateValue, reason: &str) {
        let alarm = Alarm {
            state,
            reason: reason.to_owned(),
            composite: false,
        };
        self.change(|world| world.cloud_watch.alarms.insert(name.to_owned(), alarm));
    }

    /// Sets a composite alarm, and makes it if it is not there.
    pub fn set_composite_alarm(&self, name: &str, state: StateValue, reason: &str) {
        let alarm = Alarm {
            state,
            reason: reason.to_owned(),
            composite: true,
        };
        self.change(|world| world.cloud_watch.alarms.insert(name.to_owned(), alarm));
    }

    /// Says what Step Functions knows of an execution.
    pub fn set_execution(&self, arn: &str, status: ExecutionStatus) {
        self.change(|world| {
            let now = world.now();
            world
                .step_functions
                .executions
                .insert(arn.to_owned(), (status, now))
        });
    }

    /// What Step Functions knows of an execution.
    pub fn execution(&self, arn: &str) -> Option<ExecutionStatus> {
        let known = |world: &World| {
            let (status, _) = world.step_functions.executions.get(arn)?;
            Some(status.clone())
        };
        self.look(known)
    }

    /// The executions that calls have started since this was last asked.
    pub fn take_started(&self) -> Vec<Started> {
        self.change(|world| std::mem::take(&mut world.step_functions.started))
    }

    /// A task waits for the answer to this token.
    pub fn wait_for_answer(&self, token: &str) {
        self.change(|world| world.step_functions.waiting.insert(token.to_owned()));
    }

    /// The answers that were sent to waiting tasks since this was last asked.
    pub fn take_answers(&self) -> Vec<String> {
        self.change(|world| std::mem::take(&mut world.step_functions.answers))
    }

    /// An item of a table.
    pub fn item(&self, table: &str, id: &str) -> Option<Item> {
        self.look(|world| world.item(table, id).cloned())
    }

    /// Writes an item past Serin.
    pub fn put_item(&self, table: &str, id: &str, item: Item) {
        self.change(|world| {
            let table = world
                .dynamo_db
                .tables
                .get_mut(table)
                .expect("the table is there");
            table.insert(id.to_owned(), item)
        });
    }

    /// Adds an empty table with the partition key `id`.
    pub fn add_table(&self, name: &str) {
        self.build(|world| {
            world
                .dynamo_db
                .tables
                .entry(name.to_owned())
                .or_default()
                .clear();
        });
    }
}

impl World {
    /// Somebody puts every route and rule back as it was.
    pub(crate) fn put_routes_back(&mut self, before: &Snapshot) {
        let changed = self.snapshot();
        for (path, spec) in &before.routes {
            let parts: Vec<_> = path.splitn(3, '/').map(str::to_owned).collect();
            if let ([mesh, router, route], false) =
                (parts.as_slice(), changed.routes.get(path) == Some(spec))
            {
                let path = (mesh.clone(), router.clone(), route.clone());
                self.write_route(&path, spec.clone());
            }
        }
        for (path, rule) in &before.rules {
            if changed.rules.get(path) == Some(rule) {
                continue;
            }
            let place = self.load_balancing.place(path).expect("no rule goes");
            let listener = place.listener.listener_arn.clone().unwrap_or_default();
            let own = place.rule.and_then(|rule| rule.rule_arn.clone());
            let actions = rule.actions.clone().unwrap_or_default();
            self.load_balancing
                .write_actions(&listener, own.as_deref(), actions);
        }
    }
}
