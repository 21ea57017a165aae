//! The fleet agent: what ECS's scheduler does at run time, with processes of this machine.
//!
//! It looks at the services that moto keeps, lets [`EcsRuntime`] decide what is to be started and stopped, and does it.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::ecs_runtime::Order;
use super::task::{TaskLife, TaskOrder, TaskWorld};
use super::task_definition::TaskDefinition;
use crate::moto::{MotoError, Service};

/// How often the agent looks at moto. A change that comes through the gateway makes it look at once.
const LOOK_EVERY: Duration = Duration::from_millis(300);

/// How often it looks for new clusters.
const LOOK_FOR_CLUSTERS_EVERY: Duration = Duration::from_secs(2);

/// How many services one `DescribeServices` may name.
const SERVICES_PER_CALL: usize = 10;

/// Runs the tasks of all services.
pub(crate) struct FleetAgent {
    world: Arc<TaskWorld>,
    definitions: HashMap<String, TaskDefinition>,
    tasks: BTreeMap<String, RunningTask>,
    clusters: Vec<String>,
    clusters_seen_at: Option<Instant>,
    halt: watch::Receiver<bool>,
}

struct RunningTask {
    order: watch::Sender<TaskOrder>,
    life: JoinHandle<()>,
}

impl FleetAgent {
    /// An agent that ends, and all its tasks with it, when `halt` becomes true or its sender is dropped.
    pub(crate) fn new(world: Arc<TaskWorld>, halt: watch::Receiver<bool>) -> Self {
        Self {
            world,
            definitions: HashMap::new(),
            tasks: BTreeMap::new(),
            clusters: Vec::new(),
            clusters_seen_at: None,
            halt,
        }
    }

    /// Follows moto until it is halted, then stops every task.
    pub(crate) async fn run(mut self) {
        let runtime = Arc::clone(&self.world.runtime);
        let mut halt = self.halt.clone();
        while !*halt.borrow() {
            if let Err(problem) = self.look().await {
                self.world.journal.note(format!("fleet: {problem}"));
            }
            self.act().await;
            tokio::select! {
                () = tokio::time::sleep(LOOK_EVERY) => {}
                () = runtime.changed() => {}
                halted = halt.wait_for(|halted| *halted) => {
                    if halted.is_err() {
                        break;
                    }
                }
            }
        }
        for task in self.tasks.values() {
            task.order.send_replace(TaskOrder::Halt);
        }
        for task in std::mem::take(&mut self.tasks).into_values() {
            let _ = task.life.await;
        }
    }

    /// Reads all services of all clusters.
    async fn look(&mut self) -> Result<(), MotoError> {
        let revision = self.world.runtime.revision();
        let moto = &self.world.moto;
        if self
            .clusters_seen_at
            .is_none_or(|seen| seen.elapsed() >= LOOK_FOR_CLUSTERS_EVERY)
        {
            let listed = moto.call(Service::Ecs, "ListClusters", &json!({})).await?;
            self.clusters = strings(&listed["clusterArns"]);
            self.clusters_seen_at = Some(Instant::now());
        }
        let mut services = Vec::new();
        for cluster in &self.clusters {
            let listed = moto
                .call(Service::Ecs, "ListServices", &json!({"cluster": cluster}))
                .await?;
            for some in strings(&listed["serviceArns"]).chunks(SERVICES_PER_CALL) {
                let mut described = moto
                    .call(
                        Service::Ecs,
                        "DescribeServices",
                        &json!({"cluster": cluster, "services": some}),
                    )
                    .await?;
                if let Some(found) = described["services"].as_array_mut() {
                    services.append(found);
                }
            }
        }
        self.world.runtime.observe(revision, &services);
        Ok(())
    }

    async fn act(&mut self) {
        self.tasks.retain(|_, task| !task.life.is_finished());
        for order in self.world.runtime.orders(&self.definitions) {
            match order {
                Order::Read { definition } => match self.read_definition(&definition).await {
                    Ok(read) => {
                        self.definitions.insert(definition, read);
                    }
                    Err(problem) => self
                        .world
                        .journal
                        .note(format!("fleet: {definition}: {problem}")),
                },
                Order::Start {
                    task,
                    definition,
                    key,
                    registry_arn,
                    target_groups,
                } => {
                    let (order, told) = watch::channel(TaskOrder::Run);
                    let life = TaskLife {
                        world: Arc::clone(&self.world),
                        id: task.clone(),
                        key,
                        definition: *definition,
                        registry_arn,
                        target_groups,
                        target: None,
                        order: told,
                    };
                    let life = tokio::spawn(life.run());
                    self.tasks.insert(task, RunningTask { order, life });
                }
                Order::Stop { task } => {
                    if let Some(task) = self.tasks.get(&task) {
                        task.order.send_replace(TaskOrder::Leave);
                    }
                }
            }
        }
    }

    async fn read_definition(&self, arn: &str) -> Result<TaskDefinition, String> {
        let answer = self
            .world
            .moto
            .call(
                Service::Ecs,
                "DescribeTaskDefinition",
                &json!({"taskDefinition": arn}),
            )
            .await
            .map_err(|problem| problem.to_string())?;
        TaskDefinition::from_json(&answer["taskDefinition"])
            .ok_or_else(|| "it has no containers".to_owned())
    }
}

fn strings(list: &Value) -> Vec<String> {
    list.as_array()
        .into_iter()
        .flatten()
        .filter_map(|value| value.as_str().map(ToOwned::to_owned))
        .collect()
}
